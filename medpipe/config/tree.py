"""The tree that a YAML file is read into: mappings, lists and scalars, each of which knows its origin.

Trees are never changed in place: overlays, overrides and interpolation return new ones that share what stayed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from medpipe.config.origin import Origin

Value = str | int | float | bool | None
Path = tuple[str | int, ...]  # keys and list indices from the root

# The keys that choose one variant of a tagged union: `stage: masked_pretraining`, `backbone: {name: stunet}`.
TAGS = ("stage", "name")


@dataclass(frozen=True, eq=False)
class ScalarNode:
    """A leaf; `text` is the value as it was written, for messages and for `show`."""

    value: Value
    origin: Origin
    text: str


@dataclass(frozen=True, eq=False)
class ListNode:
    items: "tuple[Node, ...]"
    origin: Origin


@dataclass(frozen=True, eq=False)
class MappingNode:
    """Keys in the order of the file; `key_origins` has one entry a key."""

    entries: "Mapping[str, Node]"
    origin: Origin
    key_origins: Mapping[str, Origin] = field(default_factory=dict)

    def get(self, key: str) -> "Node | None":
        return self.entries.get(key)

    def key_origin(self, key: str) -> Origin:
        return self.key_origins.get(key, self.entries[key].origin)

    def with_entry(self, key: str, node: "Node", key_origin: Origin | None = None) -> "MappingNode":
        """The same mapping with that entry set; a key that is there keeps its place and its origin."""
        origins = dict(self.key_origins)
        if key_origin is not None:
            origins.setdefault(key, key_origin)
        return replace(self, entries={**self.entries, key: node}, key_origins=origins)

    def without(self, key: str) -> "MappingNode":
        return replace(self, entries={name: node for name, node in self.entries.items() if name != key})


@dataclass(frozen=True, eq=False)
class PatchedNode:
    """A reference (`backbone: ${stages.pretrain.backbone}`) under entries of later layers; gone after interpolation."""

    reference: ScalarNode
    patches: "tuple[tuple[MappingNode, bool], ...]"  # each with whether it is a default by kind of stage

    @property
    def origin(self) -> Origin:
        return self.reference.origin


Node = ScalarNode | ListNode | MappingNode | PatchedNode


def plain(node: Node) -> Any:
    """The interpolated tree as dictionaries, lists and scalars."""
    assert not isinstance(node, PatchedNode), "interpolate the tree first"
    if isinstance(node, MappingNode):
        return {key: plain(child) for key, child in node.entries.items()}
    if isinstance(node, ListNode):
        return [plain(child) for child in node.items]
    return node.value


def child_of(node: Node, part: str | int) -> Node | None:
    """The entry of that key or index (an index may be written as text); None where there is none."""
    if isinstance(node, MappingNode):
        return node.get(str(part))
    if isinstance(node, ListNode) and str(part).isascii() and str(part).isdigit() and int(part) < len(node.items):
        return node.items[int(part)]
    return None


def node_at(root: Node, path: Path) -> Node | None:
    node: Node | None = root
    for part in path:
        node = None if node is None else child_of(node, part)
    return node


def tag_of(node: Node, tag: str) -> str | None:
    """The text under the key `tag` of a mapping: which variant of a union it is; None where it does not say."""
    entry = node.get(tag) if isinstance(node, MappingNode) else None
    return entry.value if isinstance(entry, ScalarNode) and isinstance(entry.value, str) else None


def with_note(node: Node, note: str) -> Node:
    """A copy whose origins carry the note."""
    origin = node.origin.with_note(note)
    if isinstance(node, MappingNode):
        entries = {key: with_note(child, note) for key, child in node.entries.items()}
        return MappingNode(entries, origin, {key: node.key_origin(key).with_note(note) for key in entries})
    if isinstance(node, ListNode):
        return ListNode(tuple(with_note(child, note) for child in node.items), origin)
    assert isinstance(node, ScalarNode), "only what was just read is noted"
    return replace(node, origin=origin)


def walk(node: Node, path: Path = ()) -> Iterator[tuple[Path, Node]]:
    """Every node with its path, parents first."""
    yield path, node
    if isinstance(node, MappingNode):
        for key, child in node.entries.items():
            yield from walk(child, (*path, key))
    elif isinstance(node, ListNode):
        for index, child in enumerate(node.items):
            yield from walk(child, (*path, index))


def dotted(path: Path) -> str:
    return ".".join(str(part) for part in path)
