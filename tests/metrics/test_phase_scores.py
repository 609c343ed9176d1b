"""A study's numbers: pooled, by fold, by video."""

import math

import numpy as np
import pytest

from medpipe.metrics.phase_scores import (
    VideoPhases,
    bootstrap_interval,
    official_scores,
    over_folds,
    pooled_scores,
    video_row,
)
from medpipe.metrics.phases import IGNORED, PHASES


def video(name: str, ref: list[int], pred: list[int]) -> VideoPhases:
    return VideoPhases(name, np.arange(len(ref)) * 1.0, np.array(ref), np.array(pred), np.full(len(ref), 0.8))


A = video("a", [1] * 6 + [2] * 6 + [8] * 4, [1] * 5 + [2] * 7 + [8] * 4)
B = video("b", [1] * 10, [1] * 9 + [2])


def test_pooled_scores_weigh_videos_by_their_frames() -> None:
    pooled = pooled_scores([A, B])
    assert pooled["accuracy"] == pytest.approx(100 * 24 / 26)
    assert pooled["frames"] == 26
    assert pooled["undefined_phases"] == 6
    assert pooled["withdrawal_undefined"] == 1
    assert pooled["withdrawal_mae_s"] == 1
    assert pooled["f1_at_50"] == pytest.approx(100 * 8 / 9)  # 4 found, 1 invented


def test_official_scores_follow_the_published_conventions() -> None:
    official = official_scores([A, B])
    jaccard = [14 / 16, 6 / 8, 4 / 4]
    assert official["official_mean_jaccard"] == pytest.approx(100 * sum(jaccard) / 9)
    assert official["official_weighted_jaccard"] == pytest.approx(
        100 * (jaccard[0] * 16 + jaccard[1] * 6 + jaccard[2] * 4) / 26
    )
    assert official["official_withdrawal_mape"] == pytest.approx(100 * (1 / 10 + 0) / 2)  # b has none: 0 there


def test_deviation_over_folds_is_that_of_the_sample() -> None:
    table = over_folds({1: [A], 2: [B]})
    accuracies = [100 * 15 / 16, 90.0]
    assert table.loc["accuracy", "mean"] == pytest.approx(np.mean(accuracies))
    assert table.loc["accuracy", "sd"] == pytest.approx(np.std(accuracies, ddof=1))
    assert math.isnan(over_folds({1: [A]}).loc["accuracy", "sd"])


def test_every_row_has_nine_phases_whatever_the_video_holds() -> None:
    row = video_row(B)
    assert [name for name in row if name.startswith("jaccard_")] == [f"jaccard_{name}" for name in PHASES]
    assert math.isnan(row["f1_ileum"])
    assert row["undefined_phases"] == 7


def test_a_video_without_a_named_frame_is_scored_as_nothing() -> None:
    row = video_row(video("c", [IGNORED] * 5, [1] * 5))
    assert row["frames"] == 0
    assert math.isnan(row["accuracy"])
    assert pooled_scores([video("c", [IGNORED] * 5, [1] * 5)])["frames"] == 0


def test_bootstrap_resamples_videos() -> None:
    value, low, high = bootstrap_interval([1.0, 2.0, 3.0, math.nan, 4.0, 5.0])
    assert value == 3
    assert 1 <= low < 3 < high <= 5
    assert all(map(math.isnan, bootstrap_interval([math.nan])))
