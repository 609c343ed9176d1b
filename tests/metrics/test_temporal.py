"""Scores along time against brute force, and by hand."""

import math
from itertools import groupby

import numpy as np
import pytest

from medpipe.metrics.phases import IGNORED, PHASES, phase_number
from medpipe.metrics.temporal import (
    SegmentCounts,
    boundary_errors,
    calibration_error,
    confusion,
    edit_score,
    frame_scores,
    segment_counts,
    segments_of,
)


def random_labels(rng: np.random.Generator, length: int, *, ignored: bool = False) -> np.ndarray:
    """Runs of random lengths, so that segments matter."""
    labels = np.repeat(rng.integers(0, 5, length), rng.integers(1, 6, length))[:length]
    if ignored:
        labels[rng.random(length) < 0.1] = IGNORED
    return labels


@pytest.mark.parametrize("seed", range(30))
def test_frame_scores_are_those_of_counting_by_hand(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ref, pred = random_labels(rng, 80, ignored=True), random_labels(rng, 80)
    scores = frame_scores(confusion(ref, pred, 9))
    pairs = [(r, p) for r, p in zip(ref, pred, strict=True) if r != IGNORED]
    f1, jaccard, support = [], [], []
    for phase in range(9):
        hit = sum(r == p == phase for r, p in pairs)
        either = sum(phase in (r, p) for r, p in pairs)
        f1.append(2 * hit / (either + hit) if either else math.nan)
        jaccard.append(hit / either if either else math.nan)
        support.append(sum(r == phase for r, _ in pairs))
    np.testing.assert_allclose(scores.f1, f1)
    np.testing.assert_allclose(scores.jaccard, jaccard)
    assert scores.num_undefined == sum(map(math.isnan, f1)) >= 4
    assert scores.accuracy == pytest.approx(np.mean([r == p for r, p in pairs]))
    assert scores.weighted_f1 == pytest.approx(np.nansum(np.array(f1) * support) / sum(support))
    assert scores.weighted_jaccard == pytest.approx(np.nansum(np.array(jaccard) * support) / sum(support))
    assert scores.macro_f1 == pytest.approx(np.nanmean(f1))


def plain_edit_distance(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """Levenshtein's recursion as it is written."""
    if not a or not b:
        return len(a) + len(b)
    return min(
        plain_edit_distance(a[1:], b) + 1,
        plain_edit_distance(a, b[1:]) + 1,
        plain_edit_distance(a[1:], b[1:]) + (a[0] != b[0]),
    )


@pytest.mark.parametrize("seed", range(20))
def test_edit_score_is_the_recursive_distance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ref, pred = np.repeat(rng.integers(0, 3, 6), 3), np.repeat(rng.integers(0, 3, 7), 2)
    ref, pred = ref[:14], pred[:14]
    a, b = (tuple(int(k) for k, _ in groupby(labels)) for labels in (ref, pred))
    assert edit_score(ref, pred) == pytest.approx(100 * (1 - plain_edit_distance(a, b) / max(len(a), len(b))))


def plain_counts(ref: np.ndarray, pred: np.ndarray, overlap: float) -> SegmentCounts:
    """By sets of frames, one predicted run after another."""

    def runs(labels: np.ndarray) -> list[tuple[int, set[int]]]:
        grouped = groupby(range(len(labels)), key=lambda t: labels[t])
        return [(int(phase), set(frames)) for phase, frames in grouped]

    references, taken, invented = runs(ref), set(), 0
    for phase, frames in runs(pred):
        shares = [len(frames & own) / len(frames | own) if phase == other else 0.0 for other, own in references]
        best = int(np.argmax(shares))
        if shares[best] >= overlap and best not in taken:
            taken.add(best)
        else:
            invented += 1
    return SegmentCounts(len(taken), invented, len(references) - len(taken))


@pytest.mark.parametrize("overlap", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("seed", range(20))
def test_segments_are_counted_as_sets_of_frames_are(seed: int, overlap: float) -> None:
    rng = np.random.default_rng(seed)
    ref, pred = random_labels(rng, 60), random_labels(rng, 60)
    assert segment_counts(ref, pred, overlap=overlap) == plain_counts(ref, pred, overlap)


def test_a_last_segment_of_one_frame_counts() -> None:
    ref = np.array([0, 0, 0, 1])
    assert segment_counts(ref, ref, overlap=0.5) == SegmentCounts(2, 0, 0)
    assert segment_counts(ref, ref, overlap=0.5).f1 == 100


def test_ignored_frames_are_taken_out_before_segments_are_looked_for() -> None:
    ref = np.array([1, 1, IGNORED, IGNORED, 1, 2, 2])
    pred = np.array([1, 1, 5, 6, 1, 2, 2])
    assert edit_score(ref, pred) == 100
    assert segment_counts(ref, pred, overlap=0.5) == SegmentCounts(2, 0, 0)


def test_nothing_scored_is_undefined_everywhere() -> None:
    ref, pred = np.full(4, IGNORED), np.zeros(4, dtype=int)
    scores = frame_scores(confusion(ref, pred, 9))
    assert scores.frames == 0
    assert math.isnan(scores.accuracy)
    assert math.isnan(scores.weighted_f1)
    assert math.isnan(edit_score(ref, pred))
    assert math.isnan(segment_counts(ref, pred, overlap=0.5).f1)
    assert segments_of(np.array([], dtype=int)) == []


def test_boundary_error_is_to_the_nearest_start_of_the_same_phase() -> None:
    ref = np.array([1, 1, 1, 2, 2, 2, 3, 3])
    pred = np.array([1, 2, 1, 1, 2, 2, 2, 4])
    found = boundary_errors(ref, pred, np.arange(8) * 0.5)
    np.testing.assert_allclose(found.errors_s, [0.5])  # frame 3, predicted at 1 and 4
    assert found.missed == 1


def test_calibration_error_by_hand() -> None:
    ref, pred = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    confidence = np.array([0.95, 0.95, 0.95, 0.15])
    expected = 0.75 * abs(2 / 3 - 0.95) + 0.25 * abs(1 - 0.15)
    assert calibration_error(ref, pred, confidence, num_bins=10) == pytest.approx(expected)


def test_lengths_that_differ_are_refused_with_both() -> None:
    with pytest.raises(ValueError, match="reference has 3 frames, the prediction 4"):
        confusion(np.zeros(3, dtype=int), np.zeros(4, dtype=int), 9)


@pytest.mark.parametrize("text", ["ceacum", "cecum", "caecum", " Caecum ", "CECUM"])
def test_every_spelling_of_the_caecum_is_one_phase(text: str) -> None:
    assert PHASES[phase_number(text)] == "caecum"


def test_n_a_is_ignored_and_a_stranger_is_refused_with_the_list() -> None:
    assert phase_number("n.a.") == phase_number("uncertain") == IGNORED
    with pytest.raises(ValueError, match="unknown phase 'appendix'; expected one of outside, insertion"):
        phase_number("appendix")
