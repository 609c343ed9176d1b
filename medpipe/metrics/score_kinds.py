"""The kinds of scores that models are compared by: by which definition they are made, and which metrics they have."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np

from medpipe.metrics.definitions import DEFINITION, METRICS
from medpipe.metrics.phase_metrics import PHASE_DEFINITION, PHASE_METRICS

if TYPE_CHECKING:
    import pandas as pd

WHOLE_VIDEO = "whole video"  # stands where scores of structures name a structure


@final
@dataclass(frozen=True)
class ScoreKind:
    """`what` is scored; `definition` stands in its files; `defaults`: the metrics compared where none are named."""

    what: str
    definition: str
    metrics: tuple[str, ...]
    defaults: tuple[str, ...]


OF_STRUCTURES = ScoreKind("structures", DEFINITION, tuple(METRICS), ("dice", "hd95_mm"))
OF_PHASES = ScoreKind("phases", PHASE_DEFINITION, tuple(PHASE_METRICS), ("macro_f1", "f1_at_25"))


def kind_of(columns: Iterable[str]) -> ScoreKind:
    """What a table of scores is of, by its columns: a row a video, or a row a case and structure."""
    given = set(columns)
    return OF_PHASES if "video_id" in given and "structure" not in given else OF_STRUCTURES


def phase_arms(scores: "pd.DataFrame", name: str) -> "dict[str, pd.DataFrame]":
    """Each model of a table of phase scores by its title (`name` where there is one), a row a patient.

    Several procedures of one patient are averaged first; a file without `patient_id` has a patient a video. Raises
    ValueError: a row without a video, a video scored twice.
    """
    table = scores.copy()
    nameless = int(np.count_nonzero(table["video_id"].isna()))
    if nameless:
        raise ValueError(f"the scores hold {nameless} rows without a video_id")
    table["model"] = table["model"].fillna(name) if "model" in table.columns else name
    repeated = table[table.duplicated(["model", "video_id"])]
    if len(repeated):
        first = repeated.iloc[0]
        raise ValueError(f"the video {first['video_id']!r} stands twice for {first['model']!r}")
    if "patient_id" not in table.columns:
        table["patient_id"] = table["video_id"]
    if "withdrawal_error_s" in table.columns:
        table["withdrawal_absolute_error_s"] = table["withdrawal_error_s"].abs()
    metrics = [metric for metric in PHASE_METRICS if metric in table.columns]
    arms = {}
    groups = list(table.groupby("model", sort=False))
    for model, rows in groups:
        of_patients = rows.groupby("patient_id", sort=False).agg(dict.fromkeys(metrics, "mean")).reset_index()
        of_patients.insert(0, "structure", WHOLE_VIDEO)
        arms[name if len(groups) == 1 else str(model)] = of_patients
    return arms
