"""A workflow with its overlays and arguments, as one tree: the order in which everything is applied."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from medpipe.config.interpolation import interpolate
from medpipe.config.overlays import CheckDefaults, merge
from medpipe.config.overrides import apply_overrides
from medpipe.config.reader import read_tree
from medpipe.config.tree import MappingNode


def resolve(
    path: Path | str,
    overlays: Sequence[Path | str] = (),
    overrides: Sequence[str] = (),
    *,
    kinds: Collection[str] | None,
    known_keys: Collection[str] = (),
    check_defaults: CheckDefaults | None = None,
    env: Mapping[str, str] | None = None,
) -> MappingNode:
    """Read the files, merge them with their defaults, apply `key=value`, interpolate; not yet validated.

    kinds           the kinds of stage that exist; a `defaults:` for another one is refused (None: any goes)
    known_keys      the top-level keys a workflow may have, so that `dat.root=x` is refused with a suggestion
    check_defaults  what is wrong with the values for a kind, for example by `partial_problems` of its config class
    env             the environment of `${env:NAME}`, `os.environ` by default
    """
    tree = merge(
        read_tree(path), [read_tree(overlay) for overlay in overlays], kinds=kinds, check_defaults=check_defaults
    )
    if overrides:
        tree = apply_overrides(tree, overrides, kinds=kinds, check_defaults=check_defaults, known_keys=known_keys)
    return interpolate(tree, env)
