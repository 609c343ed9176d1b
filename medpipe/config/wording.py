"""Pydantic's error types in our words: what was expected, what was got, and the way out."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from medpipe.config.suggestions import closest
from medpipe.config.tree import ListNode, MappingNode, Node, ScalarNode

_WHOLE_NUMBER, _NUMBER, _BOOLEAN = "a whole number", "a number", "true or false"
_TEXT, _LIST, _MAPPING = "text", "a list", "a mapping (keys and values)"

# error type -> what was expected
_EXPECTED: dict[str, str] = {
    "int_type": _WHOLE_NUMBER,
    "int_parsing": _WHOLE_NUMBER,
    "int_from_float": _WHOLE_NUMBER,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": "a finite number",
    "bool_type": _BOOLEAN,
    "bool_parsing": _BOOLEAN,
    "string_type": _TEXT,
    "path_type": "a path",
    "none_required": "null",
    "list_type": _LIST,
    "tuple_type": _LIST,
    "set_type": _LIST,
    "frozen_set_type": _LIST,
    "dict_type": _MAPPING,
    "mapping_type": _MAPPING,
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "dataclass_type": _MAPPING,
}

# error type -> the rest of the sentence, from pydantic's context
_BOUNDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "greater_than": lambda context: f"more than {context['gt']}",
    "greater_than_equal": lambda context: f"at least {context['ge']}",
    "less_than": lambda context: f"less than {context['lt']}",
    "less_than_equal": lambda context: f"at most {context['le']}",
    "multiple_of": lambda context: f"a multiple of {context['multiple_of']}",
    "string_too_short": lambda context: f"text of at least {context['min_length']} characters",
    "string_too_long": lambda context: f"text of at most {context['max_length']} characters",
    "string_pattern_mismatch": lambda context: f"text of the form {context['pattern']}",
}

_YAML_1_1_BOOLEANS = {"yes", "no", "on", "off", "y", "n", "true", "false"}


def sentence(error: Mapping[str, Any], name: str, node: Node) -> str:
    """One error of pydantic about the value `node` called `name`."""
    kind, context = error["type"], error.get("ctx", {})
    subject = f"'{name}'" if name else "the whole"
    if kind in ("value_error", "assertion_error"):
        return str(context.get("error", error["msg"])) or error["msg"]
    if kind in _EXPECTED:
        return f"{subject} must be {_EXPECTED[kind]}, got {got(node)}{_way_out(_EXPECTED[kind], node)}"
    if kind in _BOUNDS:
        return f"{subject} must be {_BOUNDS[kind](context)}, got {got(node)}"
    if kind in ("literal_error", "enum"):
        return f"{subject} must be {_one_of(choices(context['expected']), node)}"
    if kind in ("too_short", "too_long"):
        return f"{subject} must have {_length(kind, context)}, got {context['actual_length']}"
    message = error["msg"]
    return f"{subject}: {message[:1].lower()}{message[1:]}, got {got(node)}"


def wrong_tag(tag: str, name: str, expected: list[str], node: Node) -> str:
    """A union's variant that does not exist: `backbone: {name: stunett}`."""
    return f"'{name}.{tag}' must be {_one_of(expected, node)}" if name else f"'{tag}' must be {_one_of(expected, node)}"


def got(node: Node) -> str:
    if isinstance(node, MappingNode):
        return "a mapping"
    if isinstance(node, ListNode):
        return f"a list of {len(node.items)}"
    assert isinstance(node, ScalarNode), "only an interpolated tree is validated"
    if node.value is None:
        return "null"
    text = node.text if len(node.text) <= 60 else node.text[:57] + "..."
    return f"'{text}'" if isinstance(node.value, str) else text


def choices(expected: str) -> list[str]:
    """`"'a', 'b' or 'c'"` of pydantic as a list; numbers stay as written."""
    quoted = re.findall(r"'((?:[^'\\]|\\.)*)'", expected)
    return quoted or re.split(r", | or ", expected)


def _one_of(expected: list[str], node: Node) -> str:
    value = node.value if isinstance(node, ScalarNode) else None
    match = closest(value, expected) if isinstance(value, str) else None
    hint = f"; did you mean '{match}'?" if match else ""
    many = "one of " if len(expected) > 1 else ""
    return f"{many}{', '.join(expected)}; got {got(node)}{hint}"


def _length(kind: str, context: Mapping[str, Any]) -> str:
    bound = context["min_length"] if kind == "too_short" else context["max_length"]
    exactly = context.get("field_type") == "Tuple"
    at = "" if exactly else "at least " if kind == "too_short" else "at most "
    return f"{at}{bound} {'entry' if bound == 1 else 'entries'}"


def _way_out(expected: str, node: Node) -> str:
    """What to write instead, for the mistakes that habit makes."""
    if not isinstance(node, ScalarNode):
        return ""
    if expected == _TEXT and isinstance(node.value, int | float):
        return f"; put it in quotes: '{node.text}'"
    if not isinstance(node.value, str):
        return ""
    if expected == _BOOLEAN and node.value.lower() in _YAML_1_1_BOOLEANS:
        return "; write true or false without quotes"
    if expected in (_NUMBER, _WHOLE_NUMBER) and re.fullmatch(r"[-+]?[0-9][0-9_.]*_[0-9_.]*", node.value):
        return f"; write {node.value.replace('_', '')}"
    if expected in (_NUMBER, _WHOLE_NUMBER) and re.fullmatch(r"[-+]?[0-9.]+([eE][-+]?[0-9]+)?", node.value):
        return "; write it without quotes"
    return ""
