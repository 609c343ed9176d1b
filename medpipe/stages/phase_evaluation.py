"""Score predicted phases against the labels: by frame, by segment, and by what a clinic reads from them.

takes   the predictions of a stage phase_prediction, the labels of a stage frame_embedding
leaves  scores.csv (one row an arm and video), summary.json (pooled, by fold, per video, agreement), confusion.json
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

from medpipe.config.base import StageRef
from medpipe.geometry.atomic import written_beside
from medpipe.geometry.faults import DataFault
from medpipe.stages.phase_files import LABELS, PredictedArm, read_arms, read_phases
from medpipe.stages.stage import Stage, StageRun

if TYPE_CHECKING:
    import pandas as pd

    from medpipe.metrics.phase_scores import VideoPhases

SCORES_FILE, SUMMARY_FILE, CONFUSION_FILE = "scores.csv", "summary.json", "confusion.json"
THRESHOLDS_MIN = (6.0, 8.0)  # ASGE/ACG 2015 and 2024
OF_A_VIDEO = ("accuracy", "macro_f1", "weighted_jaccard", "edit", "f1_at_25", "segments")


@final
class PhaseEvaluation(Stage):
    """Undefined numbers (a phase that is nowhere, a caecum that was not reached) are left out and counted."""

    version: ClassVar[int] = 2
    takes: ClassVar[dict[str, tuple[str, ...]]] = {
        "predictions": ("phase_prediction",),
        "embeddings": ("frame_embedding",),
    }

    stage: Literal["phase_evaluation"]
    predictions: StageRef
    embeddings: StageRef

    def run(self, run: StageRun) -> None:
        folder, labels = run.folder_of(self.predictions), run.folder_of(self.embeddings) / LABELS
        arms = read_arms(folder)
        found = {arm.title: read_arm(folder, arm, labels) for arm in arms}
        scores = score_table({arm.title: (found[arm.title], arm.fold_of) for arm in arms})
        with written_beside(run.path(SCORES_FILE)) as partial:
            scores.to_csv(partial, index=False)
        summary = {arm.title: summary_of(found[arm.title], arm.fold_of, seed=run.seed) for arm in arms}
        run.write_json(SUMMARY_FILE, summary)
        run.write_json(CONFUSION_FILE, confusions(found))
        from medpipe.reporting.phases import print_phase_table

        print_phase_table(summary, run.output.console)
        silent = len(set(scores.loc[scores["frames"] == 0, "video_id"]))
        if silent:
            run.output.warn(f"{silent} videos have no named frame: they are in no score")


def read_arm(folder: Path, arm: PredictedArm, labels: Path) -> "list[VideoPhases]":
    """Every video of an arm beside its labels. Raises DataFault where lengths or times do not agree."""
    return [join(folder / arm.folder / f"{video}.csv", labels / f"{video}.csv") for video in sorted(arm.fold_of)]


def join(predicted: Path, labels: Path) -> "VideoPhases":
    """One video's predicted table and labels, joined by time."""
    import numpy as np

    from medpipe.datasets.label_axis import read_axis_labels
    from medpipe.metrics.phase_scores import VideoPhases

    found = read_phases(predicted)
    times, ref = read_axis_labels(labels)
    if len(times) != len(found["times_s"]) or not np.allclose(times, found["times_s"], atol=2e-3):
        raise DataFault(
            predicted, f"{len(found['times_s'])} rows, {len(times)} labels in {labels.name}: not on one time axis"
        )
    confidence = None if np.isnan(found["confidence"]).any() else found["confidence"]
    return VideoPhases(predicted.stem, times, ref, found["phases"], confidence)


def score_table(
    arms: "Mapping[str, tuple[Sequence[VideoPhases], Mapping[str, int]]]", patient_of: Mapping[str, str] | None = None
) -> "pd.DataFrame":
    """One row an arm and video; `patient_of`: without it each video is a patient of its own."""
    import pandas as pd

    from medpipe.metrics.phase_metrics import PHASE_DEFINITION

    rows = [
        {
            "model": title,
            "fold": fold_of.get(video.video_id),
            "centre": video.video_id.partition("-")[0],
            "patient_id": (patient_of or {}).get(video.video_id, video.video_id),
        }
        | video.row
        | {"definition": PHASE_DEFINITION}
        for title, (videos, fold_of) in arms.items()
        for video in videos
    ]
    return pd.DataFrame(rows)


def summary_of(videos: "Sequence[VideoPhases]", fold_of: Mapping[str, int], *, seed: int) -> dict[str, Any]:
    """The numbers of one arm: pooled, mean and deviation over folds, median per video with an interval, agreement."""
    from medpipe.metrics.phase_scores import bootstrap_interval, over_folds, pooled_scores
    from medpipe.reporting.comparison import portable

    rows = [video.row for video in videos]
    by_fold: dict[int, list[VideoPhases]] = {}
    for video in videos:
        by_fold.setdefault(fold_of.get(video.video_id, 0), []).append(video)
    per_video = {}
    for name in OF_A_VIDEO:
        median, low, high = bootstrap_interval([row[name] for row in rows], seed=seed)
        per_video[name] = {"median": median, "low": low, "high": high}
    return portable(
        {
            "pooled": pooled_scores(videos),
            "folds": over_folds(by_fold).to_dict(orient="index"),
            "per_video": per_video,
            "withdrawal": agreement(rows),
        }
    )


def agreement(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Bland-Altman of the withdrawal time in seconds; agreement on 6 and 8 minutes and on the caecum."""
    from dataclasses import asdict

    import numpy as np

    from medpipe.metrics.agreement import agreement_at, bland_altman

    ref, found = (np.array([row[f"withdrawal_s{suffix}"] for row in rows], dtype=float) for suffix in ("_ref", ""))
    thresholds = {}
    for minutes in THRESHOLDS_MIN:
        at = agreement_at(ref, found, threshold=60 * minutes)
        thresholds[f"{minutes:g}_min"] = asdict(at) | {"sensitivity": at.sensitivity, "specificity": at.specificity}
    reached = [(row["caecum_reached_ref"], row["caecum_reached"]) for row in rows]
    return {
        "bland_altman_s": asdict(bland_altman(ref, found)),
        "thresholds": thresholds,
        "caecum": {
            "reached": sum(in_ref for in_ref, _ in reached),
            "found": sum(in_ref and in_pred for in_ref, in_pred in reached),
            "false": sum(in_pred and not in_ref for in_ref, in_pred in reached),
        },
    }


def confusions(found: "Mapping[str, Sequence[VideoPhases]]") -> dict[str, Any]:
    """The confusion matrix of each arm: reference in rows."""
    from medpipe.metrics.phase_scores import total_confusion
    from medpipe.metrics.phases import PHASES

    return {"phases": PHASES, "arms": {title: total_confusion(videos).tolist() for title, videos in found.items()}}
