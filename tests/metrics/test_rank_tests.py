"""Exact distributions against enumeration and scipy; infinite values keep their rank."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from medpipe.metrics.rank_tests import (
    friedman,
    paired_differences,
    rank_biserial,
    sign_flip_p,
    signed_ranks,
    smallest_num_pairs,
)


def enumerated_p(weights: np.ndarray) -> float:
    sums = [abs(float(np.dot(signs, np.abs(weights)))) for signs in product((-1, 1), repeat=len(weights))]
    return float(np.mean(np.array(sums) >= abs(weights.sum()) - 1e-9))


@pytest.mark.parametrize("seed", range(12))
def test_p_is_the_share_of_all_sign_flips_with_ties_and_zeros(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = signed_ranks(rng.integers(-3, 5, size=int(rng.integers(2, 12))).astype(float))
    assert sign_flip_p(weights) == pytest.approx(enumerated_p(weights), abs=1e-12)


@pytest.mark.parametrize("num_pairs", [6, 20, 29, 49])
def test_without_ties_it_is_the_exact_wilcoxon_of_scipy(num_pairs: int) -> None:
    differences = np.random.default_rng(num_pairs).normal(0.4, 1, num_pairs)
    expected = stats.wilcoxon(differences, method="exact").pvalue
    assert sign_flip_p(signed_ranks(differences)) == pytest.approx(float(expected), rel=1e-9)


def test_many_pairs_agree_with_the_normal_approximation() -> None:
    differences = np.random.default_rng(5).normal(0.1, 1, 301)
    ranks = signed_ranks(differences)
    assert sign_flip_p(ranks) == pytest.approx(sign_flip_p(ranks[:300]), rel=0.2)
    expected = stats.wilcoxon(differences, method="approx", correction=False).pvalue
    assert sign_flip_p(ranks) == pytest.approx(float(expected), rel=1e-9)


def test_infinite_scores_keep_their_place() -> None:
    first = np.array([np.inf, 3.0, np.inf, 5.0])
    second = np.array([2.0, np.inf, np.inf, 4.0])
    differences = paired_differences(first, second)
    assert differences.tolist() == [-np.inf, np.inf, 0.0, -1.0]
    assert signed_ranks(differences).tolist() == [-3.5, 3.5, 0.0, -2.0]  # zero takes rank 1, the infinite share 3 and 4


def test_no_difference_at_all_is_p_one() -> None:
    assert sign_flip_p(np.zeros(5)) == 1.0
    assert rank_biserial(np.zeros(5)) == 0.0


def test_effect_is_one_where_every_patient_agrees() -> None:
    assert rank_biserial(signed_ranks(np.array([0.1, 0.5, 2.0]))) == 1.0
    assert rank_biserial(signed_ranks(np.array([-1.0, 1.0, 2.0, -3.0]))) == pytest.approx((1.5 + 3 - 1.5 - 4) / 10)


@pytest.mark.parametrize(("limit", "fewest"), [(0.05, 6), (0.01, 8), (0.5, 2), (0.05 / 10, 9)])
def test_smallest_number_of_pairs_is_the_first_that_reaches_the_limit(limit: float, fewest: int) -> None:
    assert smallest_num_pairs(limit) == fewest
    assert 2 / 2**fewest <= limit < 2 / 2 ** (fewest - 1)


def test_friedman_is_scipys_and_ranks_infinite_values() -> None:
    values = np.random.default_rng(2).normal(size=(15, 4)) + np.array([0, 0, 0.5, 1])
    expected = stats.friedmanchisquare(*values.T)
    found = friedman(values)
    assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert found.kendall_w == pytest.approx(expected.statistic / (15 * 3))
    values[0, np.argmax(values[0])] = np.inf
    assert friedman(values) == found


def test_friedman_of_equal_arms_is_p_one() -> None:
    assert friedman(np.ones((8, 3))).p == 1.0
