"""`key=value` arguments: the command line is one more overlay, the last.

`stages.organs.training.num_steps=500`, or short `organs.training.num_steps=500` where the first part is the name of a
stage and no key of the workflow itself; `structures.0=bladder` for an entry of a list; `defaults.<kind>.<key>=...` for
all stages of a kind. The value is read by the strict YAML reader. Of two arguments for one key the later wins.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from medpipe.config.errors import ConfigError, Problem, raise_if_any
from medpipe.config.merging import merge_nodes
from medpipe.config.origin import Origin
from medpipe.config.overlays import CheckDefaults, apply_layer, layer_problems
from medpipe.config.reader import read_value
from medpipe.config.suggestions import closest, suggestion
from medpipe.config.tree import ListNode, MappingNode, Node, dotted

_PART = re.compile(r"[^\s.=:${}\[\]]+")


@dataclass(frozen=True, eq=False)
class Override:
    path: tuple[str, ...]
    value: Node
    origin: Origin


def parse_override(argument: str) -> Override:
    """`key.path=value`; `ConfigError` naming the argument where it is malformed."""
    origin = Origin(f"command line: {argument}")
    key, equals, text = argument.partition("=")
    parts = tuple(key.strip().split("."))
    if not equals:
        raise ConfigError([Problem.at(origin, "expected key=value, for example organs.training.num_steps=500")])
    if not all(_PART.fullmatch(part) for part in parts):
        raise ConfigError([Problem.at(origin, f"'{key}' is not a dotted key such as organs.training.num_steps")])
    if not text.strip():
        raise ConfigError([Problem.at(origin, f"no value; write {key}=null for none, {key}='\"\"' for empty text")])
    return Override(parts, read_value(text, origin), origin)


def apply_overrides(
    tree: MappingNode,
    arguments: Sequence[str],
    *,
    kinds: Collection[str] | None = None,
    check_defaults: CheckDefaults | None = None,
    known_keys: Collection[str] = (),
) -> MappingNode:
    """The tree under all arguments; `known_keys` are the keys a workflow may have, whether or not this one has them."""
    overlay = overlay_of(tree, arguments, known_keys=known_keys)
    raise_if_any(layer_problems(tree, overlay, kinds, check_defaults))
    return apply_layer(tree, overlay)


def overlay_of(tree: MappingNode, arguments: Sequence[str], *, known_keys: Collection[str] = ()) -> MappingNode:
    """The arguments as one overlay for that tree."""
    overlay = MappingNode({}, Origin("command line"))
    problems: list[Problem] = []
    for argument in arguments:
        try:
            override = parse_override(argument)
            path = _full_path(tree, override, known_keys)
            overlay = _set(overlay, tree, path, override)
        except ConfigError as error:
            problems.extend(error.problems)
    raise_if_any(problems)
    assert isinstance(overlay, MappingNode)
    return overlay


def _full_path(tree: MappingNode, override: Override, known_keys: Collection[str]) -> tuple[str, ...]:
    """The path with `stages.` in front where it begins with the name of a stage."""
    first = override.path[0]
    keys = {*tree.entries, *known_keys, "stages", "defaults"}
    stages = tree.get("stages")
    names = set(stages.entries) if isinstance(stages, MappingNode) else set()
    if first in keys:
        return override.path
    if first in names:
        return ("stages", *override.path)
    if known_keys or closest(first, names):
        hint = suggestion(first, keys | names, "keys and stages")
        raise ConfigError(
            [Problem.at(override.origin, f"'{first}' is no key of the workflow and no stage of it{hint}")]
        )
    return override.path


def _set(over: Node | None, base: Node | None, path: tuple[str, ...], override: Override) -> Node:
    """`over`, the overlay at some place, with the value set at `path` below it; `base` is what stands there."""
    if not path:
        return override.value
    part, rest = path[0], path[1:]
    standing = base if over is None else over
    if isinstance(standing, ListNode):
        return _set_in_list(standing, part, rest, override)
    mapping = over if isinstance(over, MappingNode) else MappingNode({}, override.origin)
    below = base.get(part) if isinstance(base, MappingNode) else None
    return mapping.with_entry(part, _set(mapping.get(part), below, rest, override), override.origin)


def _set_in_list(entries: ListNode, part: str, rest: tuple[str, ...], override: Override) -> ListNode:
    index = int(part) if part.isascii() and part.isdigit() and len(part) < 10 else len(entries.items)
    if index >= len(entries.items):
        where = dotted(override.path[: len(override.path) - len(rest) - 1])
        known = f"its entries are 0 to {len(entries.items) - 1}" if entries.items else "it is empty"
        raise ConfigError([Problem.at(override.origin, f"'{where}' is a list without an entry '{part}'; {known}")])
    item = entries.items[index]
    new = _set(None, item, rest, override)
    merged = merge_nodes(item, new) if rest else new
    return ListNode((*entries.items[:index], merged, *entries.items[index + 1 :]), entries.origin)
