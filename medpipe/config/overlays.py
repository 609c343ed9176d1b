"""Overlays on a workflow, and values by kind of stage.

A configuration is a pile of layers: the workflow, then each overlay in the order of the command line, then the
command line itself. Each layer may hold a `defaults:` block, `{kind of stage: values}`. A layer acts so: first its
defaults, on every stage of that kind that stands by then; then its own entries on top. Hence

    workflow's defaults < workflow's stages < 1st overlay's defaults < 1st overlay's stages < 2nd overlay's defaults ...

How one tree lies on another, and what a default may replace: `merging.py`.
"""

from collections.abc import Callable, Collection, Iterable, Sequence

from medpipe.config.errors import Problem, raise_if_any
from medpipe.config.merging import merge_default, merge_nodes
from medpipe.config.suggestions import suggestion
from medpipe.config.tree import MappingNode, Node, tag_of, with_note

# What is wrong with the values in `defaults` for that kind of stage, whether or not the workflow uses the kind.
CheckDefaults = Callable[[str, MappingNode], Iterable[Problem]]


def merge(
    workflow: MappingNode,
    overlays: Sequence[MappingNode] = (),
    *,
    kinds: Collection[str] | None = None,
    check_defaults: CheckDefaults | None = None,
) -> MappingNode:
    """The workflow under its overlays, with all `defaults:` applied and gone.

    `kinds` are the kinds of stage that exist (None: any); a default for another kind is refused, as is an overlay's
    entry for a stage that the workflow does not have, unless it brings its own `stage:`.
    """
    tree = MappingNode({}, workflow.origin)
    problems: list[Problem] = []
    for layer in (workflow, *overlays):
        problems += layer_problems(tree, layer, kinds, check_defaults)
        tree = apply_layer(tree, layer)
    raise_if_any(problems)
    return tree


def apply_layer(tree: MappingNode, layer: MappingNode) -> MappingNode:
    """One layer on top of what stands: its defaults by kind of stage, then its entries."""
    defaults = layer.get("defaults")
    defaults = defaults if isinstance(defaults, MappingNode) else None
    standing = tree.get("stages")
    if "stages" not in layer.entries and isinstance(standing, MappingNode):
        tree = tree.with_entry("stages", _merge_stages(standing, None, defaults))
    for key, node in layer.without("defaults").entries.items():
        below = tree.get(key)
        if key == "stages" and isinstance(node, MappingNode):
            node = _merge_stages(below, node, defaults)
        elif below is not None:
            node = merge_nodes(below, node)
        tree = tree.with_entry(key, node, layer.key_origin(key))
    return tree


def layer_problems(
    tree: MappingNode, layer: MappingNode, kinds: Collection[str] | None, check_defaults: CheckDefaults | None
) -> Iterable[Problem]:
    """What is wrong with a layer before it is applied; `tree` is what stands, without any key for the workflow."""
    yield from _defaults_problems(layer.get("defaults"), kinds, check_defaults)
    below, stages = tree.get("stages"), layer.get("stages")
    if not isinstance(stages, MappingNode):
        return
    for name, stage in stages.entries.items():
        kind = tag_of(stage, "stage")
        if kind is None and isinstance(below, MappingNode) and name not in below.entries:
            hint = suggestion(name, below.entries, "its stages")
            yield Problem.at(stages.key_origin(name), f"the workflow has no stage '{name}'{hint}")
        if kind is not None and kinds is not None and kind not in kinds and isinstance(stage, MappingNode):
            hint = suggestion(kind, kinds, "kinds of stage")
            yield Problem.at(stage.entries["stage"].origin, f"unknown kind of stage '{kind}'{hint}")


def _merge_stages(below: Node | None, over: MappingNode | None, defaults: MappingNode | None) -> MappingNode:
    if isinstance(below, MappingNode):
        merged = below
    else:
        assert over is not None, "the stages are in the workflow or in the layer"
        merged = MappingNode({}, over.origin)
    own = {} if over is None else over.entries
    for name in dict.fromkeys([*merged.entries, *own]):
        stage = _merge_stage(merged.get(name), own.get(name), defaults)
        merged = merged.with_entry(name, stage, over.key_origin(name) if over is not None and name in own else None)
    return merged


def _merge_stage(base: Node | None, over: Node | None, defaults: MappingNode | None) -> Node:
    """A stage under a layer's entry for it and the defaults of its kind; at least one of `base` and `over` is there."""
    kind = (tag_of(over, "stage") if over else None) or (tag_of(base, "stage") if base else None)
    default = defaults.get(kind) if defaults and kind else None
    if isinstance(default, MappingNode):
        is_new = base is None or tag_of(base, "stage") not in (None, kind)
        if is_new and isinstance(over, MappingNode):
            base = MappingNode({"stage": over.entries["stage"]}, over.origin, {"stage": over.key_origin("stage")})
        assert base is not None, "a kind without a stage"
        base = merge_default(base, with_note(default, f"default of {kind}"))
    if base is None or over is None:
        node = base or over
        assert node is not None, "a name without a stage"
        return node
    return merge_nodes(base, over)


def _defaults_problems(
    defaults: Node | None, kinds: Collection[str] | None, check: CheckDefaults | None
) -> Iterable[Problem]:
    if defaults is None:
        return
    if not isinstance(defaults, MappingNode):
        yield Problem.at(defaults.origin, "'defaults' must be a mapping of kinds of stage to their values")
        return
    for kind, values in defaults.entries.items():
        if kinds is not None and kind not in kinds:
            hint = suggestion(kind, kinds, "kinds of stage")
            yield Problem.at(defaults.key_origin(kind), f"unknown kind of stage '{kind}'{hint}")
        elif not isinstance(values, MappingNode):
            yield Problem.at(values.origin, f"the defaults of '{kind}' must be a mapping")
        elif "stage" in values.entries:
            yield Problem.at(values.key_origin("stage"), f"the key '{kind}' above already says which stages are meant")
        elif check is not None:
            yield from check(kind, values)
