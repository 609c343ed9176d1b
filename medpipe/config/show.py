"""A resolved workflow as YAML again, with where each value came from behind it.

The text is strict YAML: read back, it gives the same tree and the same config.
"""

import math
import re
from typing import Any

from pydantic import BaseModel

from medpipe.config.origin import DEFAULT, Origin
from medpipe.config.references import escaped
from medpipe.config.scalars import ScalarFault, plain_scalar
from medpipe.config.tree import ListNode, MappingNode, Node, ScalarNode, Value, walk

MAX_FLOW = 88  # a list longer than this is written one entry a line
MAX_ALIGNED = 60  # longer lines do not push the comments of all others to the right

# Text that needs no quotes in YAML, also not for readers of YAML 1.1, within a flow list or as a key.
_BARE = re.compile(r"\.?[A-Za-z_/][A-Za-z0-9_./+-]*( [A-Za-z0-9_/+-][A-Za-z0-9_./+-]*)*")
_YAML_1_1_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}

Line = tuple[str, Origin | None]  # the text, and the origin of its leaf if it has one


def render(node: MappingNode, config: BaseModel | None = None) -> str:
    """The tree as YAML; with `config`, what it was validated to, the defaults that filled the gaps stand there too."""
    complete = node if config is None else with_defaults(node, config)
    lines = list(_mapping_lines(complete, "")) if complete.entries else [("{}", complete.origin)]
    lengths = [len(text) for text, origin in lines if origin is not None and len(text) <= MAX_ALIGNED]
    column = max(lengths, default=0) + 2
    return "".join(f"{text:<{column - 2}}{_comment(origin)}".rstrip() + "\n" for text, origin in lines)


def with_defaults(node: MappingNode, config: BaseModel) -> MappingNode:
    """The tree with every value that the config has and the tree has not, its origin "default"."""
    values = config.model_dump(mode="json", by_alias=True, serialize_as_any=True)
    completed = _complete(node, values)
    assert isinstance(completed, MappingNode)
    return completed


def _complete(node: Node, values: Any) -> Node:
    if isinstance(node, MappingNode) and isinstance(values, dict):
        completed = node
        for key, value in values.items():
            present = node.get(key)
            child = default_node(key, value) if present is None else _complete(present, value)
            completed = completed.with_entry(key, child, DEFAULT)
        return completed
    if isinstance(node, ListNode) and isinstance(values, list) and len(values) == len(node.items):
        items = tuple(_complete(item, value) for item, value in zip(node.items, values, strict=True))
        return ListNode(items, node.origin)
    return node


def default_node(name: str, value: Any) -> Node:
    """Plain data as a tree of defaults; `name` is the field they belong to."""
    if isinstance(value, dict):
        entries = {str(key): default_node(name, child) for key, child in value.items()}
        return MappingNode(entries, DEFAULT, dict.fromkeys(entries, DEFAULT))
    if isinstance(value, list | tuple):
        return ListNode(tuple(default_node(name, child) for child in value), DEFAULT)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"the default of '{name}' is {value}, which the strict reader refuses; use None for it")
    return ScalarNode(value, DEFAULT, written(value))


def _mapping_lines(node: MappingNode, indent: str) -> list[Line]:
    return [
        line for key, child in node.entries.items() for line in _entry_lines(f"{indent}{written(key)}:", child, indent)
    ]


def _entry_lines(head: str, node: Node, indent: str) -> list[Line]:
    """The lines of one entry; `head` is what stands before its value."""
    inline = _inline(node)
    if inline is not None:
        return [(f"{head} {inline}", node.origin)]
    if isinstance(node, MappingNode):
        return [(head, None), *_mapping_lines(node, indent + "  ")]
    assert isinstance(node, ListNode)
    lines: list[Line] = [(head, None)]
    for item in node.items:
        lines += _item_lines(item, indent + "  ")
    return lines


def _item_lines(item: Node, indent: str) -> list[Line]:
    if isinstance(item, MappingNode) and item.entries:
        (text, origin), *rest = _mapping_lines(item, indent + "  ")
        return [(f"{indent}- {text.removeprefix(indent + '  ')}", origin), *rest]
    return _entry_lines(f"{indent}-", item, indent)


def _inline(node: Node) -> str | None:
    """The value on one line: a scalar, an empty collection, a short list of scalars (or such lists) of one origin."""
    if isinstance(node, ScalarNode):
        return _scalar(node)
    if isinstance(node, MappingNode):
        return None if node.entries else "{}"
    assert isinstance(node, ListNode), "interpolate the tree first"
    items = [_inline(item) for item in node.items if not isinstance(item, MappingNode)]
    texts = [text for text in items if text is not None]
    sources = {(leaf.origin.source, leaf.origin.note) for _, leaf in walk(node)}
    text = f"[{', '.join(texts)}]"
    return text if len(texts) == len(node.items) and len(sources) == 1 and len(text) <= MAX_FLOW else None


def _scalar(node: ScalarNode) -> str:
    """Numbers as they were written (1e-3 stays 1e-3), text quoted where it must be."""
    is_number = isinstance(node.value, int | float) and not isinstance(node.value, bool)
    return node.text if is_number else written(node.value)


def written(value: Value) -> str:
    """The value such that the strict reader, and interpolation after it, give it back."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    text = escaped(value)
    return text if _is_bare(text) else _quoted(text)


def _is_bare(text: str) -> bool:
    if not _BARE.fullmatch(text) or text.lower() in _YAML_1_1_WORDS:
        return False
    try:
        return plain_scalar(text) == text
    except ScalarFault:
        return False


def _quoted(text: str) -> str:
    return '"' + "".join(_ESCAPES.get(char) or _printable(char) for char in text) + '"'


def _printable(char: str) -> str:
    """The character, or its escape where YAML would refuse or fold it (controls, NEL, LS, PS, a byte order mark)."""
    if char.isprintable():
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _comment(origin: Origin | None) -> str:
    if origin is None:
        return ""
    place = origin.source if origin.line is None else f"{origin.source}:{origin.line}"
    text = f"{place} ({origin.note})" if origin.note else place
    return "  # " + "".join(_printable(char) for char in text)
