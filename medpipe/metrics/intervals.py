"""How sure a share is: Wilson's interval for independent items, and the bootstrap over clusters for dependent ones."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Z_95 = 1.959963984540054
NUM_BOOTSTRAPS = 10_000

Values = NDArray[np.float64]


class Interval(NamedTuple):
    """A 95 % interval; NaN where there is none."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"[{self.low:.3f}, {self.high:.3f}]"


NO_INTERVAL = Interval(math.nan, math.nan)


def wilson(successes: float, n: int) -> Interval:
    """Wilson's score interval of a share (Wilson, 1927, doi:10.1080/01621459.1927.10502953); NaN for no items.

    Never of no width: 0 of n and n of n have one too.
    """
    if n == 0:
        return NO_INTERVAL
    share, z2 = successes / n, Z_95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def cluster_sums(clusters: NDArray[np.int64], values: Values) -> Values:
    """(clusters, 1 + K): number of items and sums of the K columns of `values` (items, K), of each cluster that
    occurs."""
    values = values.reshape(len(clusters), -1)
    _, index = np.unique(clusters, return_inverse=True)
    columns = [np.bincount(index), *(np.bincount(index, weights=column) for column in values.T)]
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)


def resampled(rows: "Values | NDArray[np.float32]", *, seed: int, num_bootstraps: int = NUM_BOOTSTRAPS) -> Values:
    """(num_bootstraps, columns): column sums over clusters drawn with replacement.

    Clusters with equal rows are interchangeable, so that how often each kind of row is drawn is multinomial: the same
    distribution as drawing one by one, at the cost of the number of different rows.
    """
    kinds, counts = np.unique(rows, axis=0, return_counts=True)
    draw = np.random.default_rng(seed)
    sums = np.empty((num_bootstraps, rows.shape[1]))
    step = max(1, 4_000_000 // len(kinds))
    for start in range(0, num_bootstraps, step):
        stop = min(start + step, num_bootstraps)
        drawn = draw.multinomial(len(rows), counts / len(rows), size=stop - start)
        sums[start:stop] = drawn @ kinds.astype(np.float64)
    return sums


def mean_interval(
    clusters: NDArray[np.int64], scores: Values, *, seed: int = 0, num_bootstraps: int = NUM_BOOTSTRAPS
) -> Interval:
    """Percentile interval of the mean score over items, clusters resampled whole; NaN for fewer than two clusters.

    Where every cluster has the same mean the bootstrap has no width; Wilson's interval on the number of clusters stands
    in then.
    """
    rows = cluster_sums(clusters, scores)
    if len(rows) < 2:
        return NO_INTERVAL
    means = rows[:, 1] / rows[:, 0]
    if np.ptp(means) == 0:
        return wilson(float(means[0]) * len(rows), len(rows))
    sums = resampled(rows, seed=seed, num_bootstraps=num_bootstraps)
    return percentiles(sums[:, 1] / sums[:, 0])


def macro_interval(
    clusters: NDArray[np.int64], groups: NDArray[np.int64], scores: Values, *, seed: int = 0,
    num_bootstraps: int = NUM_BOOTSTRAPS,
) -> Interval:  # fmt: skip
    """The same for the mean over groups of each group's mean; groups without an item in a resample are left out
    of it."""
    _, index = np.unique(clusters, return_inverse=True)
    num_clusters, present = int(index.max(initial=-1)) + 1, np.unique(groups)
    rows = np.empty(
        (num_clusters, 2 * len(present))
    )  # of each group: items, sum; by cluster, or a million would not fit
    for column, group in enumerate(present):
        chosen = groups == group
        rows[:, 2 * column] = np.bincount(index[chosen], minlength=num_clusters)
        rows[:, 2 * column + 1] = np.bincount(index[chosen], weights=scores[chosen], minlength=num_clusters)
    if len(rows) < 2:
        return NO_INTERVAL
    sums = resampled(rows, seed=seed, num_bootstraps=num_bootstraps)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.nanmean(sums[:, 1::2] / sums[:, 0::2], axis=1)
    return percentiles(means) if np.ptp(means) > 0 else wilson(float(means[0]) * len(rows), len(rows))


def percentiles(values: Values) -> Interval:
    """The middle 95 % of resampled values."""
    low, high = np.percentile(values, [2.5, 97.5])
    return Interval(float(low), float(high))
