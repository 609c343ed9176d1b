"""Strict YAML, read into a tree of nodes with positions. Nothing in a file can execute code or import a name.

Against plain PyYAML: duplicate keys, tags, anchors, aliases, merge keys, several documents and keys that are not text
are refused; scalars are read by `scalars.py`; every error carries file, line and column.
"""

from collections.abc import Callable
from pathlib import Path

import yaml
from yaml.composer import ComposerError
from yaml.reader import ReaderError
from yaml.scanner import ScannerError

from medpipe.config.errors import ConfigError, Problem, raise_if_any
from medpipe.config.origin import Origin
from medpipe.config.scalars import ScalarFault, checked_text, plain_scalar
from medpipe.config.tree import ListNode, MappingNode, Node, ScalarNode, Value

# A workflow nests seven deep; composing a thousand brackets would exhaust Python's stack.
MAX_DEPTH = 40

Locate = Callable[[yaml.Mark], Origin]


def read_tree(path: Path | str) -> MappingNode:
    """A YAML file, whose top is a mapping. Anything wrong, an unreadable file included, is a `ConfigError`."""
    return read_text(_decode(str(path), _read_bytes(Path(path))), str(path))


def read_text(text: str, source: str) -> MappingNode:
    """The same from text; `source` stands for the file in messages."""
    root = _read(text, source, lambda mark: Origin(source, mark.line + 1, mark.column + 1))
    if root is None:
        raise ConfigError([Problem(source, 1, 1, "the file is empty")])
    if not isinstance(root, MappingNode):
        found = "a list" if isinstance(root, ListNode) else "a single value"
        raise ConfigError([Problem.at(root.origin, f"expected keys and values ('seed: 0'), got {found}")])
    return root


def read_value(text: str, origin: Origin) -> Node:
    """One value of any kind (of an argument `key=value`); everything in it has that origin."""
    root = _read(text, origin.source, lambda mark: origin)
    return ScalarNode(None, origin, "") if root is None else root


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError([Problem(str(path), None, None, f"cannot be read: {reason}")]) from None


def _decode(source: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].removeprefix(b"\xef\xbb\xbf").decode("utf-8")
        line, column = _line_and_column(before, len(before))
        message = f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise ConfigError([Problem(source, line, column, message)]) from None


def _line_and_column(text: str, index: int) -> tuple[int, int]:
    before = text[:index]
    return before.count("\n") + 1, index - (before.rfind("\n") + 1) + 1


def _read(text: str, source: str, locate: Locate) -> Node | None:
    """The tree, or None where the text holds no document."""
    problems: list[Problem] = []
    try:
        composer = _Composer(text, locate, problems)
        composed = composer.get_single_node()
    except ReaderError as error:
        line, column = _line_and_column(text, error.position)
        mark = yaml.Mark("", error.position, line - 1, column - 1, None, 0)
        message = f"character U+{ord(text[error.position]):04X} is not allowed; write it as an escape in double quotes"
        raise ConfigError([*problems, Problem.at(locate(mark), message)]) from None
    except yaml.MarkedYAMLError as error:
        raise ConfigError([*problems, _syntax_problem(error, locate, text)]) from None
    if composed is None:
        return None
    tree = _convert(composed, locate, problems)
    raise_if_any(problems)
    return tree


def _syntax_problem(error: yaml.MarkedYAMLError, locate: Locate, text: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    assert mark is not None, "PyYAML raised an error without a position"
    if text[mark.index : mark.index + 1] == "\t":
        message = "a tab: indent with spaces"
    elif text[max(mark.index - 1, 0) : mark.index + 1] == "${":
        message = 'a reference inside [ ] or { } must be quoted: "${...}"'
    elif "another document" in (error.problem or ""):
        message = "a second document ('---'): one file holds one document"
    elif error.problem == "mapping values are not allowed here":
        message = "a second ': ' in one line, or a key indented too far; quote text that contains ': '"
    else:
        message = ", ".join(part for part in (error.context, error.problem) if part)
        start = error.context_mark
        if start is not None and start.line != mark.line:
            message += f" (begun in line {start.line + 1})"
    return Problem.at(locate(mark), message)


class _Composer(yaml.BaseLoader):
    """PyYAML's composer without any implicit type, which notes what is refused and goes on."""

    def __init__(self, text: str, locate: Locate, problems: list[Problem]) -> None:
        super().__init__(text)
        self.locate = locate
        self.problems = problems
        self.nesting = 0

    def refuse(self, event: yaml.Event, message: str) -> None:
        self.problems.append(Problem.at(self.locate(event.start_mark), message))

    def fetch_more_tokens(self) -> object:
        try:
            return super().fetch_more_tokens()
        except (ValueError, OverflowError):  # PyYAML hands "\UFFFFFFFF" to chr(), a long %YAML version to int()
            raise ScannerError(None, None, "not a Unicode character or version", self.get_mark()) from None

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            self.get_event()
            self.refuse(event, f"aliases (*{event.anchor}) are not supported; write ${{key.path}} to use a value again")
            return yaml.ScalarNode("", "", event.start_mark, event.end_mark, style="'")
        if event.anchor is not None:
            self.refuse(event, f"anchors (&{event.anchor}) are not supported; write ${{key.path}} to use a value again")
            event.anchor = None
        if event.tag is not None:
            self.refuse(event, f"tags ({event.tag}) are not supported; quote the value if it is text")
        return self._compose_deeper(parent, index, event)

    def _compose_deeper(self, parent: yaml.Node | None, index: object, event: yaml.Event) -> yaml.Node | None:
        self.nesting += 1
        if self.nesting > MAX_DEPTH:
            raise ComposerError(None, None, f"nested deeper than {MAX_DEPTH} levels", event.start_mark)
        node = super().compose_node(parent, index)  # type: ignore[arg-type]
        self.nesting -= 1
        return node


def _convert(node: yaml.Node, locate: Locate, problems: list[Problem]) -> Node:
    origin = locate(node.start_mark)
    if isinstance(node, yaml.SequenceNode):
        return ListNode(tuple(_convert(item, locate, problems) for item in node.value), origin)
    if isinstance(node, yaml.MappingNode):
        return _convert_mapping(node, locate, problems)
    try:
        value = _scalar_value(node)
    except ScalarFault as fault:
        problems.append(Problem.at(origin, str(fault)))
        value = None
    return ScalarNode(value, origin, node.value)


def _scalar_value(node: yaml.Node) -> Value:
    return plain_scalar(node.value) if node.style is None else checked_text(node.value)  # type: ignore[attr-defined]


def _convert_mapping(node: yaml.MappingNode, locate: Locate, problems: list[Problem]) -> MappingNode:
    entries: dict[str, Node] = {}
    key_origins: dict[str, Origin] = {}
    for key_node, value_node in node.value:
        origin = locate(key_node.start_mark)
        value = _convert(value_node, locate, problems)
        try:
            key = _key(key_node)
            if key in entries:
                raise ScalarFault(f"key '{key}' is given twice; first at {key_origins[key].place}")
        except ScalarFault as fault:
            problems.append(Problem.at(origin, str(fault)))
            continue
        entries[key], key_origins[key] = value, origin
    return MappingNode(entries, locate(node.start_mark), key_origins)


def _key(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise ScalarFault("a key must be text, not a list or mapping")
    key = _scalar_value(node)
    if not isinstance(key, str):
        raise ScalarFault(f"a key must be text; quote it: '{node.value}'")
    if key == "<<" and node.style is None:
        raise ScalarFault("merge keys (<<) are not supported; write ${key.path} to use a value again")
    return key
