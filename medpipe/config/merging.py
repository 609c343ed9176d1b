"""One tree on top of another.

Mappings are merged key by key; anything else (a list, a number, null) replaces what was there. Two rules concern
mappings that say which variant of a union they are, by the key `name` or `stage`:

- an entry of another `name` (or `stage`) replaces the whole mapping: `{name: swin_unetr}` over `{name: stunet, size:
  base}` leaves no `size` behind; without a `name` it is merged, whatever stands there;
- within `defaults`, a mapping with a `name` is applied only where the stage's mapping has the same `name`, has none,
  or is not there: `backbone: {name: stunet, size: tiny}` shrinks every STU-Net and touches no other network. And what
  a stage has switched off with `null`, a mapping within `defaults` does not switch on.

A mapping over a reference `${key.path}` is merged with what the reference names, once that is known.
"""

from collections.abc import Callable

from medpipe.config.references import is_key_reference
from medpipe.config.tree import TAGS, MappingNode, Node, PatchedNode, ScalarNode, tag_of


def merge_nodes(base: Node, over: Node) -> Node:
    """`over` on top of `base`: mappings of one variant key by key, everything else replaced."""
    if not isinstance(over, MappingNode):
        return over
    if patched := _patched(base, over, is_default=False):
        return patched
    if not isinstance(base, MappingNode) or _other_variant(base, over):
        return over
    return _merge_entries(base, over, merge_nodes)


def merge_default(base: Node, default: Node) -> Node:
    """A layer's default on top of a stage's value: as `merge_nodes`, but never across variants or over a null."""
    if not isinstance(default, MappingNode):
        return default
    if patched := _patched(base, default, is_default=True):
        return patched
    if isinstance(base, ScalarNode):
        return base if base.value is None else default
    if not isinstance(base, MappingNode):
        return default
    return base if _other_variant(base, default) else _merge_entries(base, default, merge_default)


def _merge_entries(base: MappingNode, over: MappingNode, merge: Callable[[Node, Node], Node]) -> MappingNode:
    merged = base
    for key, node in over.entries.items():
        below = base.get(key)
        merged = merged.with_entry(key, node if below is None else merge(below, node), over.key_origin(key))
    return merged


def _patched(base: Node, over: MappingNode, *, is_default: bool) -> PatchedNode | None:
    """A mapping over a reference, to be merged when the reference is resolved."""
    if isinstance(base, PatchedNode):
        return PatchedNode(base.reference, (*base.patches, (over, is_default)))
    if isinstance(base, ScalarNode) and is_key_reference(base.value):
        return PatchedNode(base, ((over, is_default),))
    return None


def _other_variant(base: MappingNode, over: MappingNode) -> bool:
    """Whether both say which variant of a union they are, and differ."""
    return any(None not in (tags := (tag_of(base, tag), tag_of(over, tag))) and tags[0] != tags[1] for tag in TAGS)
