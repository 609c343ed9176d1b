"""From reference and predicted phases to one row a video, and from rows to the numbers of a study."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, final

import numpy as np

from medpipe.metrics.phases import PHASES, check_pair, scored
from medpipe.metrics.temporal import (
    SegmentCounts,
    boundary_errors,
    calibration_error,
    confusion,
    edit_score,
    frame_scores,
    segment_counts,
    segments_per_video,
)
from medpipe.metrics.withdrawal import Withdrawal, withdrawal, withdrawal_frames_error

if TYPE_CHECKING:
    import pandas as pd

OVERLAPS = (10, 25, 50)  # percent, of the F1 by segment

# Column -> what it says: printed under every table.
PHASE_DEFINITIONS: Mapping[str, str] = MappingProxyType(
    {
        "frames": "Frames on the model's time axis that the reference names; `n.a.` and `uncertain` are left out.",
        "accuracy": "Share of the scored frames with the right phase.",
        "balanced accuracy": "Mean recall over the phases that the reference holds.",
        "F1, Jaccard of a phase": "By frame, over the fixed list of nine phases. A phase in neither reference nor "
        "prediction is undefined: left out of means and counted.",
        "macro F1": "Mean over the phases with a defined F1.",
        "weighted F1, weighted Jaccard": "Mean over phases, weighted by the reference's frames. Pooled over the frames "
        "of all videos these are the published scores of the benchmark.",
        "edit": "100 (1 - Levenshtein distance of the sequences of phases / length of the longer one).",
        "F1@10, @25, @50": "By segment: a predicted segment is right if the reference's best segment of its phase "
        "overlaps by that intersection over union, each once; counts are summed over the videos.",
        "segments": "Maximal runs of one phase among the scored frames.",
        "boundary error": "Seconds from each boundary of the reference to the nearest predicted one into the same "
        "phase; boundaries without one are counted as missed.",
        "calibration": "Expected calibration error of the predicted phase's probability, 15 bins.",
        "caecum reached": "The first run of caecum of at least 5 s.",
        "withdrawal": "From the first frame of that run to the end of the last frame of rectum; net: less the time "
        "outside the body. Instruments, washing and imaging modes are not taken off. Undefined without a caecum.",
        "published withdrawal error": "|predicted - reference frames of classes 2 to 8| / reference frames, in "
        "percent, mean over videos: early and late errors cancel in it.",
        "pooled, mean over folds, per video": "Pooled: one confusion matrix of all frames. Mean over folds: with the "
        "sample standard deviation (n - 1). Per video: median, and a 95 % interval from resampling the videos.",
    }
)


@final
@dataclass(frozen=True, eq=False)
class VideoPhases:
    """Reference and prediction of one video on one time axis: all (T,)."""

    video_id: str
    times_s: np.ndarray
    ref: np.ndarray
    pred: np.ndarray
    confidence: np.ndarray | None = None

    @cached_property
    def row(self) -> dict[str, Any]:
        """Its scores, computed once: tables, pooled numbers and folds all want them."""
        return video_row(self)


def video_row(video: VideoPhases) -> dict[str, Any]:
    """Every score of one video. Numbers that do not exist (no scored frame, no caecum) are NaN."""
    ref, pred = video.ref, video.pred
    check_pair(ref, pred, len(PHASES))
    scores = frame_scores(confusion(ref, pred, len(PHASES)))
    counts = {overlap: segment_counts(ref, pred, overlap=overlap / 100) for overlap in OVERLAPS}
    boundaries = boundary_errors(ref, pred, video.times_s)
    return {
        "video_id": video.video_id,
        "frames": scores.frames,
        "undefined_phases": scores.num_undefined,
        "accuracy": scores.accuracy,
        "balanced_accuracy": scores.balanced_accuracy,
        "macro_f1": scores.macro_f1,
        "weighted_f1": scores.weighted_f1,
        "weighted_jaccard": scores.weighted_jaccard,
        "edit": edit_score(ref, pred),
        **{f"f1_at_{overlap}": count.f1 for overlap, count in counts.items()},
        **{f"{name}_at_{overlap}": getattr(count, name) for overlap, count in counts.items() for name in COUNTED},
        "segments_ref": segments_per_video(ref, ref),
        "segments": segments_per_video(pred, ref),
        "boundary_error_s": boundaries.mean_s,
        "boundaries_found": boundaries.errors_s.size,
        "boundaries_missed": boundaries.missed,
        "calibration_error": math.nan if video.confidence is None else calibration_error(ref, pred, video.confidence),
        **{f"f1_{name}": float(value) for name, value in zip(PHASES, scores.f1, strict=True)},
        **{f"jaccard_{name}": float(value) for name, value in zip(PHASES, scores.jaccard, strict=True)},
        **clinical_columns(withdrawal(ref, video.times_s), withdrawal(pred, video.times_s)),
        "published_withdrawal_error": 100 * withdrawal_frames_error(ref, pred),
    }


COUNTED = ("found", "invented", "not_found")


def clinical_columns(ref: Withdrawal, pred: Withdrawal) -> dict[str, Any]:
    """The clinical times of the reference and the prediction side by side, with signed errors in seconds."""
    row: dict[str, Any] = {}
    for suffix, times in (("_ref", ref), ("", pred)):
        row[f"caecum_reached{suffix}"] = times.caecum_reached
        row[f"caecum_at_s{suffix}"] = times.caecum_at_s
        row[f"withdrawal_s{suffix}"] = times.gross_s
        row[f"withdrawal_net_s{suffix}"] = times.net_s
        row[f"withdrawal_end{suffix}"] = times.end
        row |= {f"section_s_{name}{suffix}": seconds for name, seconds in times.section_s.items()}
    row["withdrawal_error_s"] = pred.gross_s - ref.gross_s
    row["caecum_error_s"] = pred.caecum_at_s - ref.caecum_at_s
    return row


def official_scores(videos: Sequence[VideoPhases]) -> dict[str, float]:
    """The scores of the published code, by its names, over the pooled frames of `videos`: percent.

    A phase absent from reference and prediction scores 0 there in the plain mean of Jaccard, and a video without
    reference frames of classes 2 to 8 counts as a withdrawal error of 0.
    """
    matrix = total_confusion(videos)
    scores = frame_scores(matrix)
    errors = [withdrawal_frames_error(video.ref, video.pred) for video in videos]
    return {
        "official_weighted_f1": 100 * scores.weighted_f1,
        "official_weighted_jaccard": 100 * scores.weighted_jaccard,
        "official_mean_jaccard": 100 * float(np.nan_to_num(scores.jaccard).mean()),
        "official_withdrawal_mape": 100 * float(np.nan_to_num(errors).mean()) if errors else math.nan,
    }


def total_confusion(videos: Sequence[VideoPhases]) -> np.ndarray:
    """The confusion matrix of all scored frames together."""
    start = np.zeros((len(PHASES), len(PHASES)), dtype=np.int64)
    return sum((confusion(video.ref, video.pred, len(PHASES)) for video in videos), start=start)


def pooled_scores(videos: Sequence[VideoPhases]) -> dict[str, float]:
    """The numbers of a study: frames pooled, segments summed, the rest as means over videos. Shares in percent."""
    scores = frame_scores(total_confusion(videos))
    rows = [video.row for video in videos]
    confident = [video for video in videos if video.confidence is not None]
    pooled = {
        "videos": len(videos),
        "frames": scores.frames,
        "undefined_phases": scores.num_undefined,
        **{
            name: 100 * float(getattr(scores, name))
            for name in ("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "weighted_jaccard")
        },
        "edit": nan_mean([row["edit"] for row in rows]),
        **{f"f1_at_{overlap}": summed_counts(rows, overlap).f1 for overlap in OVERLAPS},
        "segments": nan_mean([row["segments"] for row in rows]),
        "segments_ref": nan_mean([row["segments_ref"] for row in rows]),
        "boundary_error_s": weighted_mean(rows, "boundary_error_s", "boundaries_found"),
        "boundaries_missed": sum(row["boundaries_missed"] for row in rows),
        "calibration_error": pooled_calibration(confident),
        "withdrawal_mae_s": nan_mean([abs(row["withdrawal_error_s"]) for row in rows]),
        "withdrawal_undefined": sum(math.isnan(row["withdrawal_error_s"]) for row in rows),
        **{f"f1_{name}": 100 * float(value) for name, value in zip(PHASES, scores.f1, strict=True)},
        **{f"jaccard_{name}": 100 * float(value) for name, value in zip(PHASES, scores.jaccard, strict=True)},
    }
    return pooled | official_scores(videos)


def pooled_calibration(videos: Sequence[VideoPhases]) -> float:
    """The calibration error of all frames together."""
    if not videos:
        return math.nan
    parts = [scored(video.ref, video.pred, np.asarray(video.confidence)) for video in videos]
    return calibration_error(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def summed_counts(rows: Sequence[Mapping[str, Any]], overlap: int) -> SegmentCounts:
    """The counts of segments over several videos."""
    counts = (SegmentCounts(*(row[f"{name}_at_{overlap}"] for name in COUNTED)) for row in rows)
    return sum(counts, start=SegmentCounts(0, 0, 0))


def nan_mean(values: Sequence[float]) -> float:
    """The mean of the defined values; NaN where there are none."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def weighted_mean(rows: Sequence[Mapping[str, Any]], column: str, weight: str) -> float:
    """The mean of a column over rows, each as often as its weight says."""
    known = [(row[column], row[weight]) for row in rows if row[weight]]
    return float(np.average([value for value, _ in known], weights=[w for _, w in known])) if known else math.nan


def over_folds(by_fold: Mapping[Any, Sequence[VideoPhases]]) -> "pd.DataFrame":
    """One row a number of `pooled_scores`: its mean over the folds and the true sample deviation (n - 1)."""
    import pandas as pd

    table = pd.DataFrame([pooled_scores(videos) for videos in by_fold.values()])
    deviations = table.std(ddof=1) if len(table) > 1 else np.nan
    return pd.DataFrame({"mean": table.mean(), "sd": deviations, "folds": table.notna().sum()})


def bootstrap_interval(
    values: Sequence[float],
    statistic: Callable[[np.ndarray], Any] = lambda values: np.median(values, axis=-1),
    *,
    num_draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """A statistic over videos and its 95 % percentile interval from resampling them; NaN values are left out.

    statistic: along the last axis of values (..., videos).
    """
    known = np.array([value for value in values if not math.isnan(value)])
    if not known.size:
        return math.nan, math.nan, math.nan
    draws = np.random.default_rng(seed).integers(0, known.size, (num_draws, known.size))
    low, high = np.quantile(statistic(known[draws]), (0.025, 0.975))
    return float(statistic(known)), float(low), float(high)
