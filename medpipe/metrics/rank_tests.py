"""Paired tests on ranks, with exact distributions: infinite scores keep their place, ties and zeros are allowed."""

import math
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

MOST_EXACT = 300  # pairs; beyond, the normal approximation is right to 1e-4 and the exact sum takes seconds

Values = NDArray[np.float64]


def paired_differences(first: Values, second: Values) -> Values:
    """second - first of each pair; two infinite values are equal, so their difference is 0."""
    with np.errstate(invalid="ignore"):
        differences = second - first
    differences[np.isinf(first) & (first == second)] = 0
    return differences


def signed_ranks(differences: Values) -> Values:
    """Rank of each absolute difference with its sign; ties share their mean rank, infinite ones are tied highest.

    Zeros take the lowest ranks and then count 0: Pratt, 1959, doi:10.1080/01621459.1959.10501526.
    """
    from scipy.stats import rankdata

    return np.sign(differences) * rankdata(np.abs(differences))


def sign_flip_p(weights: Values) -> float:
    """Two-sided p of |sum of weights| when each one's sign is as likely + as -; 1 where all are 0.

    `weights`: multiples of 0.5 (ranks, differences of ranks). Exact over all 2^n flips up to 300 of them, by counting
    sums; beyond, normal. With `signed_ranks` this is the Wilcoxon signed-rank test, conditional on its ties.
    """
    counted = weights[weights != 0]
    if counted.size == 0:
        return 1.0
    observed = abs(round(2 * float(counted.sum())))
    if counted.size > MOST_EXACT:
        return math.erfc(abs(float(counted.sum())) / math.sqrt(2 * float((counted**2).sum())))
    steps = np.rint(2 * np.abs(counted)).astype(np.int64)
    chances = np.zeros(int(steps.sum()) + 1)  # of the sum of the positive ones
    chances[0] = 1.0
    for step in steps:
        flipped = 0.5 * chances
        flipped[step:] += 0.5 * chances[:-step]
        chances = flipped
    sums = 2 * np.arange(chances.size) - int(steps.sum())
    return float(min(1.0, chances[np.abs(sums) >= observed].sum()))


def rank_biserial(ranks: Values) -> float:
    """Matched-pairs rank-biserial correlation of signed ranks, -1 to 1; 0 for none.

    Definition: Kerby, 2014, doi:10.2466/11.IT.3.1.
    """
    total = float(np.abs(ranks).sum())
    return float(ranks.sum()) / total if total else 0.0


def smallest_num_pairs(limit: float) -> int:
    """The fewest pairs whose smallest two-sided p, 2 / 2^n, does not lie above `limit`."""
    if not 0 < limit < 1:
        raise ValueError(f"a limit of p is {limit}, expected a number between 0 and 1")
    return math.ceil(1 - math.log2(limit))


@final
@dataclass(frozen=True)
class Friedman:
    """Friedman's test of k arms on n patients; kendall_w is its effect size, 0 (no agreement of ranks) to 1."""

    statistic: float
    p: float
    kendall_w: float


def friedman(values: Values) -> Friedman:
    """Friedman's test with its correction for ties; `values` (patients, arms), infinite ones allowed, no NaN.

    Definition: Friedman, 1937, doi:10.1080/01621459.1937.10503522; p by chi-square with k - 1 degrees of freedom.
    """
    from scipy.stats import friedmanchisquare, rankdata

    num_patients, num_arms = values.shape
    ranks = rankdata(values, axis=1)
    if (ranks == ranks[:, :1]).all():  # every patient tied throughout: 0 / 0 in the formula
        return Friedman(0.0, 1.0, 0.0)
    result = friedmanchisquare(*ranks.T)
    statistic = float(result.statistic)
    return Friedman(statistic, float(result.pvalue), statistic / (num_patients * (num_arms - 1)))
