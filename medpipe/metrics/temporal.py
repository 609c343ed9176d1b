"""Scores of phases along a video: by frame, by segment, at the boundaries, and of the confidence.

ref, pred: whole numbers (T,), one a frame. Frames that the reference ignores are taken out of both first, as published
scores do; segments and boundaries are then those of what is left.
"""

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from medpipe.metrics.phases import check_labels, check_pair, scored


@final
@dataclass(frozen=True)
class Segment:
    """A maximal run of frames of one phase: `start` to before `stop`."""

    phase: int
    start: int
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start


def segments_of(labels: np.ndarray) -> list[Segment]:
    """The runs of labels (T,), in order; none where there are no frames."""
    if len(labels) == 0:
        return []
    starts = np.concatenate([[0], np.flatnonzero(np.diff(labels)) + 1])
    stops = np.concatenate([starts[1:], [len(labels)]])
    return [Segment(int(labels[a]), int(a), int(b)) for a, b in zip(starts, stops, strict=True)]


def confusion(ref: np.ndarray, pred: np.ndarray, num_phases: int) -> np.ndarray:
    """Frames by reference (rows) and predicted phase (columns): (num_phases, num_phases) int64."""
    check_pair(ref, pred, num_phases)
    ref, pred = scored(ref, pred)
    return np.bincount(ref * num_phases + pred, minlength=num_phases**2).reshape(num_phases, num_phases)


@final
@dataclass(frozen=True, eq=False)
class FrameScores:
    """Scores of a confusion matrix. A phase in neither reference nor prediction is undefined: NaN, and counted.

    accuracy            share of frames
    balanced_accuracy   mean recall over the phases that the reference holds
    f1, jaccard, precision, recall   one a phase, of the fixed list; NaN where undefined
    macro_f1            mean over the phases with a defined F1
    weighted_f1, weighted_jaccard    mean with the reference's frames as weights
    """

    frames: int
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    weighted_f1: float
    weighted_jaccard: float
    f1: np.ndarray
    jaccard: np.ndarray
    precision: np.ndarray
    recall: np.ndarray

    @property
    def num_undefined(self) -> int:
        return int(np.count_nonzero(np.isnan(self.f1)))


def frame_scores(matrix: np.ndarray) -> FrameScores:
    """Every score by frame of a confusion matrix of `confusion`, of one video or summed over several."""
    hits, support, called = np.diag(matrix).astype(float), matrix.sum(axis=1), matrix.sum(axis=0)
    frames = int(matrix.sum())
    f1 = _ratio(2 * hits, support + called)
    jaccard = _ratio(hits, support + called - hits)
    recall = _ratio(hits, support)
    return FrameScores(
        frames=frames,
        accuracy=float(hits.sum() / frames) if frames else math.nan,
        balanced_accuracy=_mean(recall),
        macro_f1=_mean(f1),
        weighted_f1=_weighted(f1, support),
        weighted_jaccard=_weighted(jaccard, support),
        f1=f1,
        jaccard=jaccard,
        precision=_ratio(hits, called),
        recall=recall,
    )


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(len(numerator), np.nan), where=denominator > 0)


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.any(~np.isnan(values)) else math.nan


def _weighted(values: np.ndarray, support: np.ndarray) -> float:
    total = support.sum()
    return float(np.nansum(values * support) / total) if total else math.nan


def edit_score(ref: np.ndarray, pred: np.ndarray) -> float:
    """Order and number of segments: 100 (1 - Levenshtein distance of the two sequences / length of the longer).

    Lea et al., 2016, arXiv:1608.08242. NaN where no frame is scored.
    """
    ref, pred = scored(ref, pred)
    if len(ref) == 0:
        return math.nan
    a, b = ([segment.phase for segment in segments_of(labels)] for labels in (ref, pred))
    row = list(range(len(b) + 1))
    for i, phase in enumerate(a, start=1):
        before, row[0] = row[0], i
        for j, other in enumerate(b, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (phase != other))
    return 100.0 * (1 - row[-1] / max(len(a), len(b)))


@final
@dataclass(frozen=True)
class SegmentCounts:
    """Segments found, invented and not found; summed over videos before one F1 is taken."""

    found: int
    invented: int
    not_found: int

    def __add__(self, other: "SegmentCounts") -> "SegmentCounts":
        return SegmentCounts(self.found + other.found, self.invented + other.invented, self.not_found + other.not_found)

    @property
    def f1(self) -> float:
        """In percent; NaN where there is no segment at all."""
        total = 2 * self.found + self.invented + self.not_found
        return 100.0 * 2 * self.found / total if total else math.nan


def segment_counts(ref: np.ndarray, pred: np.ndarray, *, overlap: float) -> SegmentCounts:
    """The counts of F1@overlap: a predicted segment is found if the reference's best of its phase overlaps so much.

    Each predicted segment, in order, looks at the reference's segment of its phase with the highest intersection over
    union; that counts once, the second best is never tried. Lea et al., 2016; the published code's last segment is a
    frame short, this one's is not.
    """
    ref, pred = scored(ref, pred)
    references, predictions = segments_of(ref), segments_of(pred)
    taken: set[int] = set()
    for segment in predictions:
        overlaps = [(_overlap(segment, other), -number) for number, other in enumerate(references)]
        best, number = max(overlaps, default=(0.0, 0))
        if best >= overlap and -number not in taken:
            taken.add(-number)
    return SegmentCounts(len(taken), len(predictions) - len(taken), len(references) - len(taken))


def _overlap(a: Segment, b: Segment) -> float:
    if a.phase != b.phase:
        return 0.0
    shared = max(0, min(a.stop, b.stop) - max(a.start, b.start))
    return shared / (max(a.stop, b.stop) - min(a.start, b.start))


@final
@dataclass(frozen=True, eq=False)
class BoundaryErrors:
    """Seconds from each boundary of the reference to the nearest predicted one into its phase; how many have none."""

    errors_s: np.ndarray
    missed: int

    @property
    def mean_s(self) -> float:
        return float(self.errors_s.mean()) if self.errors_s.size else math.nan


def boundary_errors(ref: np.ndarray, pred: np.ndarray, times_s: np.ndarray) -> BoundaryErrors:
    """How far off the starts of segments are; times_s: (T,), when each frame is shown. The first start is none."""
    ref, pred, times_s = scored(ref, pred, times_s)
    entered = [(segment.phase, times_s[segment.start]) for segment in segments_of(pred)[1:]]
    errors, missed = [], 0
    for segment in segments_of(ref)[1:]:
        distances = [abs(time - times_s[segment.start]) for phase, time in entered if phase == segment.phase]
        errors += [min(distances)] if distances else []
        missed += not distances
    return BoundaryErrors(np.array(errors, dtype=float), missed)


def calibration_error(ref: np.ndarray, pred: np.ndarray, confidence: np.ndarray, *, num_bins: int = 15) -> float:
    """Expected calibration error: mean |share right - mean confidence| over bins of equal width, weighted by frames.

    confidence: (T,), probability of the predicted phase. Guo et al., 2017, arXiv:1706.04599. NaN without scored frames.
    """
    ref, pred, confidence = scored(ref, pred, confidence)
    if len(ref) == 0:
        return math.nan
    bins = np.minimum((confidence * num_bins).astype(int), num_bins - 1)
    right = np.bincount(bins, weights=(ref == pred).astype(float), minlength=num_bins)
    claimed = np.bincount(bins, weights=confidence.astype(float), minlength=num_bins)
    return float(np.abs(right - claimed).sum() / len(ref))


def segments_per_video(labels: np.ndarray, ref: np.ndarray) -> int:
    """The number of segments among the frames that the reference scores."""
    check_labels("labels", labels, 10_000)
    return len(segments_of(scored(ref, labels)[1]))
