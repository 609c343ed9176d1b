"""Intervals against a known implementation, brute force and their coverage."""

import math

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from medpipe.metrics.intervals import macro_interval, mean_interval, wilson


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 20), (20, 20), (7, 20), (2586, 4568)])
def test_wilson_is_that_of_statsmodels_and_never_of_no_width(successes: int, n: int) -> None:
    found = wilson(successes, n)
    assert found == pytest.approx(proportion_confint(successes, n, method="wilson"), abs=1e-12)
    assert found.high > found.low


def test_no_items_have_no_interval() -> None:
    assert all(math.isnan(end) for end in wilson(0, 0))
    assert all(math.isnan(end) for end in mean_interval(np.zeros(3, dtype=np.int64), np.ones(3)))


def test_the_bootstrap_draws_clusters_as_drawing_them_one_by_one_does() -> None:
    draw = np.random.default_rng(0)
    clusters = draw.integers(0, 40, 300)
    scores = (draw.random(300) < 0.3 + 0.4 * (clusters % 2)).astype(np.float64)
    found = mean_interval(clusters, scores, seed=1)
    names = np.unique(clusters)
    means = []
    for _ in range(4000):
        chosen = draw.choice(names, len(names))
        items = np.concatenate([scores[clusters == name] for name in chosen])
        means.append(items.mean())
    assert found == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.01)


def test_dependent_items_have_a_wider_interval() -> None:
    scores = np.repeat(np.random.default_rng(0).integers(0, 2, 50), 10).astype(np.float64)
    together = mean_interval(np.repeat(np.arange(50), 10), scores)
    apart = mean_interval(np.arange(500), scores)
    assert together.high - together.low > 2.5 * (apart.high - apart.low)


def test_all_right_keeps_a_width() -> None:
    found = mean_interval(np.arange(30), np.ones(30))
    assert found == pytest.approx(wilson(30, 30))
    assert found.low < 1.0


def test_macro_is_the_mean_of_the_groups() -> None:
    clusters, groups = np.arange(400), np.repeat([0, 1], [390, 10])
    scores = np.where(groups == 0, np.arange(400) % 2, 1).astype(np.float64)
    low, high = macro_interval(clusters, groups, scores)
    assert low < 0.75 < high
