"""The clinical times on procedures written down by hand."""

import math

import numpy as np
import pytest

from medpipe.metrics.agreement import agreement_at, bland_altman
from medpipe.metrics.phases import IGNORED, phase_number
from medpipe.metrics.withdrawal import withdrawal, withdrawal_frames_error


def procedure(*runs: tuple[str, int], hz: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and times of (phase, seconds) runs."""
    labels = np.concatenate([np.full(round(seconds * hz), phase_number(name)) for name, seconds in runs])
    return labels, np.arange(len(labels)) / hz


def test_withdrawal_runs_from_the_first_sustained_caecum_to_the_last_rectum() -> None:
    labels, times = procedure(
        *(("outside", 10), ("insertion", 100), ("caecum", 3), ("insertion", 20), ("caecum", 30), ("ascending", 60)),
        *(("outside", 15), ("transverse", 40), ("rectum", 20), ("outside", 30)),
    )
    found = withdrawal(labels, times)
    assert found.caecum_at_s == 133  # the look of 3 s does not count
    assert found.gross_s == 30 + 60 + 15 + 40 + 20
    assert found.net_s == found.gross_s - 15
    assert found.end == "rectum"
    assert found.section_s["ascending"] == 60
    assert found.section_s["outside"] == 45
    assert found.section_s["insertion"] == 0


@pytest.mark.parametrize("hz", [5.0, 0.5])
def test_times_are_in_seconds_whatever_the_rate(hz: float) -> None:
    found = withdrawal(*procedure(("insertion", 60), ("caecum", 20), ("sigmoid", 100), ("rectum", 10), hz=hz))
    assert found.gross_s == pytest.approx(130)
    assert found.caecum_at_s == pytest.approx(60)


def test_a_gap_in_the_frames_counts_as_time() -> None:
    labels, times = procedure(("insertion", 10), ("caecum", 10), ("rectum", 10))
    kept = np.r_[0:22, 27:30]
    assert withdrawal(labels[kept], times[kept]).gross_s == withdrawal(labels, times).gross_s == 20


def test_without_a_caecum_the_withdrawal_is_undefined_not_zero() -> None:
    found = withdrawal(*procedure(("outside", 5), ("insertion", 300), ("rectum", 5)))
    assert not found.caecum_reached
    assert math.isnan(found.gross_s)
    assert math.isnan(found.net_s)
    assert all(math.isnan(seconds) for seconds in found.section_s.values())


def test_a_recording_that_ends_before_the_rectum_says_so() -> None:
    found = withdrawal(*procedure(("insertion", 30), ("caecum", 10), ("ascending", 50), ("outside", 9)))
    assert (found.gross_s, found.end) == (60, "recording")


@pytest.mark.parametrize("length", [0, 1])
def test_no_or_one_frame_has_no_withdrawal(length: int) -> None:
    labels = np.full(length, phase_number("caecum"))
    assert not withdrawal(labels, np.arange(length, dtype=float)).caecum_reached


def test_published_error_counts_frames_of_classes_2_to_8() -> None:
    ref = np.array([0, 1, 2, 5, 8, IGNORED, 8])
    pred = np.array([0, 1, 1, 5, 1, 8, 8])
    assert withdrawal_frames_error(ref, pred) == pytest.approx(0.5)
    assert math.isnan(withdrawal_frames_error(np.array([0, 1]), np.array([1, 2])))


def test_times_that_do_not_rise_are_refused() -> None:
    with pytest.raises(ValueError, match="do not rise at frame 2"):
        withdrawal(np.zeros(3, dtype=int), np.array([0.0, 1.0, 1.0]))


def test_bland_altman_by_hand_and_undefined_pairs_counted() -> None:
    found = bland_altman(np.array([100.0, 200, 300, math.nan]), np.array([110.0, 190, 330, 5]))
    assert (found.n, found.undefined, found.bias) == (3, 1, 10)
    assert found.sd == pytest.approx(20)
    assert found.low == pytest.approx(10 - 39.2)


def test_agreement_on_six_minutes() -> None:
    ref = np.array([350.0, 360, 400, 200, math.nan])
    found = agreement_at(ref, np.array([365.0, 361, 300, 100, 400]), threshold=360)
    assert (found.both, found.neither, found.only_measured, found.only_ref, found.undefined) == (1, 1, 1, 1, 1)
    assert found.sensitivity == found.specificity == 0.5
