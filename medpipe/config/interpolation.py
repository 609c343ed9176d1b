"""`${env:NAME}`, `${env:NAME,default}` and `${key.path}`, and nothing else; `$${` stands for a literal `${`.

A value that is one `${key.path}` and nothing more becomes a copy of what stands there, of any type; one that is one
`${env:...}` is read as an unquoted YAML word (a number, true, null, text; quote it inside the variable if it is text
that looks like a number). Inside longer text the value is inserted as written. A variable that is set but empty counts
as not set: an empty `$MEDPIPE_DATA` would otherwise be the current folder. Nothing is evaluated, and the text of a
variable is never looked at for further `${`.
"""

import os
from collections.abc import Mapping
from dataclasses import replace

from medpipe.config.errors import Problem, raise_if_any
from medpipe.config.merging import merge_default, merge_nodes
from medpipe.config.origin import Origin
from medpipe.config.reader import MAX_DEPTH
from medpipe.config.references import FORMS, InterpolationFault, Reference, split
from medpipe.config.scalars import ScalarFault, checked_text, plain_scalar
from medpipe.config.suggestions import suggestion
from medpipe.config.tree import ListNode, MappingNode, Node, PatchedNode, Path, ScalarNode, Value, child_of, dotted

# A workflow has some hundred values. Ten lists of ten references each, one below the other, would make 10**10.
MAX_COPIES = 20_000
MAX_TEXT = 20_000  # characters of one text


def interpolate(tree: MappingNode, env: Mapping[str, str] | None = None) -> MappingNode:
    """The tree with every reference replaced, `env` being `os.environ` by default; `ConfigError` with all faults."""
    interpolator = _Interpolator(tree, os.environ if env is None else env)
    result = interpolator.resolve((), tree)
    raise_if_any(interpolator.problems)
    assert isinstance(result, MappingNode)
    return result


class _Interpolator:
    def __init__(self, root: MappingNode, env: Mapping[str, str]) -> None:
        self.root = root
        self.env = env
        self.problems: list[Problem] = []
        self.done: dict[Path, Node] = {}
        self.in_progress: list[Path] = []
        self.num_copies = 0

    def resolve(self, path: Path, node: Node) -> Node:
        """The node at that path with its references replaced; a fault is noted and leaves the value as it is."""
        if path in self.done:
            return self.done[path]
        self.in_progress.append(path)
        try:
            resolved = self._resolve_parts(path, node)
        except InterpolationFault as fault:
            self.problems.append(Problem.at(node.origin, str(fault)))
            resolved = node
        self.in_progress.pop()
        self.done[path] = resolved
        return resolved

    def _resolve_parts(self, path: Path, node: Node) -> Node:
        if isinstance(node, MappingNode):
            for key in node.entries:
                if "${" in key:
                    self.problems.append(Problem.at(node.key_origin(key), f"'{key}': a key cannot hold '${{'"))
            return replace(
                node, entries={key: self.resolve((*path, key), child) for key, child in node.entries.items()}
            )
        if isinstance(node, ListNode):
            return replace(node, items=tuple(self.resolve((*path, i), child) for i, child in enumerate(node.items)))
        if isinstance(node, PatchedNode):
            return self._patch(path, node)
        if isinstance(node.value, str) and "${" in node.value:
            return self._substitute(node, node.value)
        return node

    def _patch(self, path: Path, node: PatchedNode) -> Node:
        """What the reference names, under the entries that later layers gave for its place."""
        assert isinstance(node.reference.value, str)
        value = self._substitute(node.reference, node.reference.value)
        for index, (patch, is_default) in enumerate(node.patches):
            resolved = self.resolve((*path, f"patch {index}"), patch)
            value = merge_default(value, resolved) if is_default else merge_nodes(value, resolved)
        return value

    def _substitute(self, node: ScalarNode, text: str) -> Node:
        pieces = split(text)
        if len(pieces) == 1 and isinstance(pieces[0], Reference):
            return self._value(pieces[0], node.origin)
        parts = [piece if isinstance(piece, str) else self._text(piece, node.origin) for piece in pieces]
        result = "".join(parts)
        if len(result) > MAX_TEXT:
            raise InterpolationFault(f"the references make a text of more than {MAX_TEXT} characters")
        notes = [piece.text for piece in pieces if isinstance(piece, Reference)]
        origin = node.origin.with_note(", ".join(notes)) if notes else node.origin
        return ScalarNode(result, origin, result)

    def _value(self, reference: Reference, origin: Origin) -> Node:
        if reference.variable is None:
            target = self._target(reference)
            return self._copy(target, reference, origin, depth=0)
        text = self._variable(reference)
        try:
            return ScalarNode(_word(text), origin.with_note(reference.text), text)
        except ScalarFault as fault:
            raise InterpolationFault(f"'{reference.text}': {fault}") from None

    def _text(self, reference: Reference, origin: Origin) -> str:
        """What stands in for the reference inside longer text."""
        if reference.variable is not None:
            return _unquoted(self._variable(reference))
        target = self._target(reference)
        if not isinstance(target, ScalarNode) or target.value is None:
            kind = "null" if isinstance(target, ScalarNode) else "a list or mapping"
            raise InterpolationFault(f"'{reference.text}' is {kind} and cannot stand inside text")
        return target.value if isinstance(target.value, str) else target.text

    def _variable(self, reference: Reference) -> str:
        assert reference.variable is not None
        text = self.env.get(reference.variable, "").strip()
        if text:
            try:
                return checked_text(text)
            except ScalarFault as fault:
                raise InterpolationFault(f"'{reference.text}': {fault}") from None
        if reference.default is None:
            raise InterpolationFault(
                f"the environment variable {reference.variable} is not set or empty; "
                f"set it, or write ${{env:{reference.variable},default}}"
            )
        return reference.default

    def _target(self, reference: Reference) -> Node:
        """What the path names, resolved; the path may lead through other references."""
        node: Node = self.root
        is_resolved = False
        for depth, part in enumerate(reference.path):
            here = reference.path[:depth]
            if not is_resolved and isinstance(node, ScalarNode | PatchedNode):
                node, is_resolved = self._resolve_target(here, node, reference), True
            child = child_of(node, part)
            if child is None:
                raise InterpolationFault(_missing(reference, here, part, node))
            node = child
        return node if is_resolved else self._resolve_target(reference.path, node, reference)

    def _resolve_target(self, path: tuple[str, ...], node: Node, reference: Reference) -> Node:
        true_path = _with_indices(self.root, path)
        if true_path in self.in_progress:
            chain = [dotted(step) for step in self.in_progress[self.in_progress.index(true_path) :]]
            raise InterpolationFault(f"'{reference.text}' refers to itself: {' -> '.join([*chain, dotted(true_path)])}")
        if len(self.in_progress) > 2 * MAX_DEPTH:
            raise InterpolationFault(f"'{reference.text}': more references in a row than make sense")
        return self.resolve(true_path, node)

    def _copy(self, node: Node, reference: Reference, use: Origin, depth: int) -> Node:
        """The node as if written where the reference is used."""
        self.num_copies += 1
        if self.num_copies > MAX_COPIES or depth > 2 * MAX_DEPTH:
            raise InterpolationFault(f"the references make more than {MAX_COPIES} values, or nest too deep")
        origin = use.with_note(f"{reference.text}, from {node.origin}")
        if isinstance(node, MappingNode):
            entries = {key: self._copy(child, reference, use, depth + 1) for key, child in node.entries.items()}
            keys = {key: use.with_note(f"{reference.text}, from {node.key_origin(key)}") for key in entries}
            return MappingNode(entries, origin, keys)
        if isinstance(node, ListNode):
            return ListNode(tuple(self._copy(child, reference, use, depth + 1) for child in node.items), origin)
        assert isinstance(node, ScalarNode), "a target is resolved before it is copied"
        return replace(node, origin=origin)


def _with_indices(root: Node, path: tuple[str, ...]) -> Path:
    """The path with numbers where it passes through a list, as the tree walk writes it."""
    parts: list[str | int] = []
    node: Node | None = root
    for part in path:
        parts.append(int(part) if isinstance(node, ListNode) else part)
        node = child_of(node, part) if node is not None else None
    return tuple(parts)


def _missing(reference: Reference, here: tuple[str, ...], part: str, node: Node) -> str:
    if isinstance(node, MappingNode):
        where = f"'{dotted(here)}' has no key '{part}'" if here else f"the workflow has no key '{part}'"
        return f"'{reference.text}': {where}{suggestion(part, node.entries, 'its keys')}; write {FORMS}"
    kind = f"a list of {len(node.items)}" if isinstance(node, ListNode) else "a single value"
    return f"'{reference.text}': '{dotted(here)}' is {kind} and has no entry '{part}'"


def _word(text: str) -> Value:
    """A variable's text as YAML would read it unquoted; text in quotes is text."""
    unquoted = _unquoted(text)
    return unquoted if unquoted != text else plain_scalar(text)


def _unquoted(text: str) -> str:
    is_quoted = len(text) >= 2 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if is_quoted else text
