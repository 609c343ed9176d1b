"""Weights of an earlier stage into a new network, tensor by tensor, with a list of what was loaded and what was not."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from medpipe.tasks.model_record import read_record
from medpipe.tasks.weights import load_tensors

Select = Literal["encoder", "all_but_heads", "all"]

SMALLEST_SHARE = 0.9  # of the selected tensors that must fit
# What wrappers put before a name: DistributedDataParallel, torch.compile, Lightning modules of one network.
PREFIXES = ("module.", "_orig_mod.", "network.")


@final
@dataclass(frozen=True)
class TransferReport:
    """Names of tensors. `fresh` ones of the new network keep their initialisation."""

    source: str
    select: Select
    loaded: tuple[str, ...]
    shape_mismatch: tuple[str, ...]  # with both shapes
    missing: tuple[str, ...]  # selected in the source, unknown to the new network
    fresh: tuple[str, ...]
    preprocessing: dict[str, Any]  # of the source: carried over unless the stage says otherwise
    preprocessing_changes: tuple[str, ...] = ()

    @property
    def num_selected(self) -> int:
        return len(self.loaded) + len(self.shape_mismatch) + len(self.missing)

    def summary(self) -> str:
        """One sentence for the log."""
        text = (
            f"{len(self.loaded)} of {self.num_selected} tensors ({self.select}) loaded, {len(self.fresh)} start fresh"
        )
        changes = "; ".join(self.preprocessing_changes)
        return f"{text}; preprocessing differs: {changes}" if changes else text

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def transfer(
    source: Path, into: nn.Module, select: Select, *, preprocessing: dict[str, Any] | None = None
) -> TransferReport:
    """Load the selected tensors of the folder `source` into a network.

    encoder: names under `backbone.encoder.`; all_but_heads: all but `heads.`. `preprocessing` is the new stage's; where
    it differs from the source's, the report says in what. Raises ValueError where under 90 % of the selected tensors
    fit; the network is then unchanged.
    """
    record = read_record(source)
    report = transfer_tensors(load_tensors(source), into, select, source=str(source))
    changes = () if preprocessing is None else _changes(record.preprocessing, preprocessing)
    return replace(report, preprocessing=record.preprocessing, preprocessing_changes=changes)


def transfer_tensors(tensors: dict[str, Tensor], into: nn.Module, select: Select, *, source: str) -> TransferReport:
    """`transfer` for tensors at hand, whatever prefixes their names carry."""
    selected = {
        name: tensor
        for name, tensor in ((strip_prefixes(name), tensor) for name, tensor in tensors.items())
        if is_selected(name, select)
    }
    own = into.state_dict()
    loaded = [name for name, tensor in selected.items() if name in own and own[name].shape == tensor.shape]
    mismatch = [name for name in selected if name in own and name not in set(loaded)]
    report = TransferReport(
        source=source,
        select=select,
        loaded=tuple(loaded),
        shape_mismatch=tuple(f"{name}: {_shape(selected[name])} -> {_shape(own[name])}" for name in mismatch),
        missing=tuple(name for name in selected if name not in own),
        fresh=tuple(name for name in own if name not in set(loaded)),
        preprocessing={},
    )
    if not selected or len(loaded) < SMALLEST_SHARE * len(selected):
        raise ValueError(_refusal(report, into))
    with torch.no_grad():
        for name in loaded:
            own[name].copy_(selected[name])
    return report


def is_selected(name: str, select: Select) -> bool:
    """Whether a tensor's name is among those that `select` asks for."""
    if select == "encoder":
        return name.startswith("backbone.encoder.")
    return select == "all" or not name.startswith("heads.")


def strip_prefixes(name: str) -> str:
    """A name without the chain of prefixes that wrappers put before it."""
    while prefix := next((prefix for prefix in PREFIXES if name.startswith(prefix)), None):
        name = name.removeprefix(prefix)
    return name


def _refusal(report: TransferReport, into: nn.Module) -> str:
    problems = [f"  {entry} (shape)" for entry in report.shape_mismatch]
    problems += [f"  {name} (not in the new network)" for name in report.missing]
    own = ", ".join(list(into.state_dict())[:3])
    return "\n".join(
        [
            f"{report.source}: {len(report.loaded)} of {report.num_selected} tensors selected by weights: "
            f"{report.select} fit the new network, at least {SMALLEST_SHARE:.0%} must; give both stages the same "
            f"backbone, or choose another part. The network's names begin with {own}",
            *problems,
        ]
    )


def _changes(before: dict[str, Any], after: dict[str, Any], prefix: str = "") -> tuple[str, ...]:
    changes: list[str] = []
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            changes += _changes(old, new, f"{prefix}{name}.")
        elif _plain(old) != _plain(new):
            changes.append(f"{prefix}{name} {old} -> {new}")
    return tuple(changes)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)
