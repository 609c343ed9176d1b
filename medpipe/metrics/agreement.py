"""How far a measured time agrees with the reference's: bias and limits, and agreement on a threshold."""

import math
from dataclasses import dataclass
from typing import final

import numpy as np


@final
@dataclass(frozen=True)
class BlandAltman:
    """Bias and 95 % limits of agreement of paired values; differences are measured less reference.

    n counts the pairs in which both are defined, `undefined` the others. Bland and Altman, 1986,
    doi:10.1016/S0140-6736(86)90837-8. sd and limits are NaN under two pairs.
    """

    n: int
    undefined: int
    bias: float
    sd: float
    low: float
    high: float


def bland_altman(ref: np.ndarray, measured: np.ndarray) -> BlandAltman:
    """ref, measured: (N,), NaN where undefined."""
    differences = np.asarray(measured, dtype=float) - np.asarray(ref, dtype=float)
    known = differences[np.isfinite(differences)]
    bias = float(known.mean()) if known.size else math.nan
    sd = float(known.std(ddof=1)) if known.size > 1 else math.nan
    return BlandAltman(known.size, differences.size - known.size, bias, sd, bias - 1.96 * sd, bias + 1.96 * sd)


@final
@dataclass(frozen=True)
class ThresholdAgreement:
    """Who is over a threshold by the reference and by the measurement: counts, and what follows from them."""

    threshold: float
    both: int
    neither: int
    only_measured: int
    only_ref: int
    undefined: int

    @property
    def sensitivity(self) -> float:
        """Of those at or over it by the reference, the share that is measured so; NaN where there are none."""
        return self.both / (self.both + self.only_ref) if self.both + self.only_ref else math.nan

    @property
    def specificity(self) -> float:
        """Of those under it by the reference, the share that is measured so; NaN where there are none."""
        return self.neither / (self.neither + self.only_measured) if self.neither + self.only_measured else math.nan


def agreement_at(ref: np.ndarray, measured: np.ndarray, *, threshold: float) -> ThresholdAgreement:
    """Pairs on either side of `threshold`; a pair with an undefined value is counted apart."""
    ref, measured = np.asarray(ref, dtype=float), np.asarray(measured, dtype=float)
    known = np.isfinite(ref) & np.isfinite(measured)
    over_ref, over_measured = ref[known] >= threshold, measured[known] >= threshold
    return ThresholdAgreement(
        threshold=threshold,
        both=int(np.count_nonzero(over_ref & over_measured)),
        neither=int(np.count_nonzero(~over_ref & ~over_measured)),
        only_measured=int(np.count_nonzero(~over_ref & over_measured)),
        only_ref=int(np.count_nonzero(over_ref & ~over_measured)),
        undefined=int(np.count_nonzero(~known)),
    )
