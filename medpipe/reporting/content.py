"""What a report is made of; every part is optional, and the report says which ones it was not given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from medpipe.metrics.comparison import Comparison


@final
@dataclass(frozen=True, eq=False)
class CaseView:
    """One case to look at. All arrays on one grid in canonical order: d -> Superior, h -> Anterior, w -> Right.

    A structure is a key of `reference`, of `prediction` or of both; `dice` is printed beside its name.
    """

    case_id: str
    volume: np.ndarray  # (D, H, W), HU
    spacing_mm: tuple[float, float, float]
    reference: Mapping[str, np.ndarray]  # structure -> (D, H, W) bool
    prediction: Mapping[str, np.ndarray]
    dice: Mapping[str, float]
    model: str = ""
    focus: tuple[str, ...] = ()  # the planes go through their centre; without: where most of all structures is seen

    def __post_init__(self) -> None:
        for kind, masks in (("reference", self.reference), ("prediction", self.prediction)):
            for structure, mask in masks.items():
                if mask.shape != self.volume.shape:
                    raise ValueError(
                        f"case {self.case_id}: the {kind} of {structure} is {mask.shape}, its volume "
                        f"{self.volume.shape} (D, H, W); bring both to one grid first"
                    )

    @property
    def structures(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.reference, *self.prediction]))


@final
@dataclass(frozen=True, eq=False)
class Reconstruction:
    """A volume, what a network saw of it, and what it made of the rest; (D, H, W) each, canonical order, one scale.

    Hidden voxels of `masked` may be NaN, so that they cannot be taken for an intensity.
    """

    case_id: str
    original: np.ndarray
    masked: np.ndarray
    reconstructed: np.ndarray
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        shapes = {self.original.shape, self.masked.shape, self.reconstructed.shape}
        if len(shapes) != 1 or self.original.ndim != 3:
            raise ValueError(f"case {self.case_id}: the three volumes of a reconstruction are {sorted(shapes)}")


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class ReportContent:
    """Everything that `write_report` shows."""

    title: str  # the workflow, in words
    run: str = ""  # name of the run
    date: str = ""
    summary: str = ""  # a paragraph of the author's own, above the numbers
    notes: Sequence[str] = ()  # what was handled on the way and has to be known, one sentence each
    scores: "pd.DataFrame | None" = None  # the rows of scores.csv
    comparisons: Sequence[tuple[str, "Comparison"]] = ()  # what is compared ("" if that is plain), and the result
    curves: Mapping[str, "pd.DataFrame"] = field(default_factory=dict)  # stage -> step, loss, validation_dice ...
    cases: Sequence[tuple[str, CaseView]] = ()  # ("best" | "median" | "worst" | ..., the case)
    reconstruction: Reconstruction | None = None
    transfers: Mapping[str, Mapping[str, Any]] = field(
        default_factory=dict
    )  # stage -> source, loaded, not_loaded, fresh
    record: Mapping[str, Any] = field(default_factory=dict)  # seed, revision, versions, host, hours, ...
    workflow: str = ""  # the resolved workflow, YAML
    definitions: Mapping[str, str] | None = None  # without: those of medpipe.metrics
