"""What a dose does to a structure: the dose-volume histogram, its named numbers, EQD2.

Definitions follow ICRU report 89 and the GEC-ESTRO recommendations (doi:10.1016/j.radonc.2005.11.014).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

HOTTEST_ML = {"d2cc": 2.0, "d1cc": 1.0, "d0_1cc": 0.1}  # D(x cm3)
COVERED_SHARE = {"d90": 0.90, "d98": 0.98}  # D(x %)
QUANTITIES = (*HOTTEST_ML, *COVERED_SHARE)
TITLES = {"d2cc": "D2cc", "d1cc": "D1cc", "d0_1cc": "D0.1cc", "d90": "D90", "d98": "D98"}

DEFINITIONS = {
    "DVH": "Share of a structure's volume that receives at least a dose. Each voxel of the structure is divided into "
    "parts of at most the stated step; a part's dose is that at a fixed random point inside it, interpolated in the "
    "logarithm of the dose (cubic spline; linear beside voxels under the floor) between the centres of the dose grid.",
    "D2cc, D1cc, D0.1cc": "The lowest dose inside the hottest 2, 1 or 0.1 cm3 of the structure, interpolated in "
    "volume. A structure smaller than that has none.",
    "D90, D98": "The dose that 90 % or 98 % of the structure's volume receive at least, interpolated in volume.",
    "V100": "The part of the structure that receives at least the dose prescribed for one fraction, in % and in cm3.",
    "EQD2": "n d (d + ab) / (2 + ab): n fractions of d Gy as the dose in fractions of 2 Gy with the same effect in the "
    "linear-quadratic model (ab: alpha/beta in Gy; no correction for repair during long irradiation or for time). "
    "Computed for each fraction, then summed with the external beam's: the sum assumes that the same tissue receives "
    "the highest dose in each fraction.",
    "outside": "The part of the structure beyond the dose grid's outermost voxel centres. It counts as receiving 0 Gy.",
    "predicted - reference": "Both contours under the same dose: the difference in Gy, in % of the reference's number, "
    "and in EQD2.",
    "surface near the target": "Distances between the two surfaces, counted only at surface voxels within 20 mm of the "
    "reference target's nearest voxel; the nearest point is looked up on the whole other surface. HD95: the larger of "
    "the two directed 95th percentiles; ASSD: mean over both directions; ASD: prediction to reference.",
}


def eqd2(dose_per_fraction_gy: float, alpha_beta_gy: float, num_fractions: float = 1) -> float:
    """Total dose in 2 Gy fractions of equal effect: n d (d + ab) / (2 + ab). NaN stays NaN.

    Linear-quadratic model, Fowler 1989, doi:10.1259/0007-1285-62-740-679. ValueError for a negative dose or number of
    fractions, or an alpha/beta that is not above 0.
    """
    if alpha_beta_gy <= 0 or not math.isfinite(alpha_beta_gy):
        raise ValueError(f"alpha/beta is {alpha_beta_gy} Gy, a number above 0 is expected")
    if dose_per_fraction_gy < 0 or num_fractions < 0:
        raise ValueError(f"{num_fractions} fractions of {dose_per_fraction_gy} Gy: neither can be negative")
    return num_fractions * dose_per_fraction_gy * (dose_per_fraction_gy + alpha_beta_gy) / (2 + alpha_beta_gy)


def total_eqd2(
    fraction_doses_gy: Sequence[float], alpha_beta_gy: float, *, external_gy: float = 0, external_fractions: int = 1
) -> float:
    """EQD2 of each fraction summed, and of an external beam of `external_gy` in equal fractions. NaN if any is."""
    external = eqd2(external_gy / external_fractions, alpha_beta_gy, external_fractions)
    return external + sum(eqd2(dose, alpha_beta_gy) for dose in fraction_doses_gy)


@final
@dataclass(frozen=True, eq=False)
class DoseVolume:
    """A structure's samples of dose, hottest first, and the volume that each stands for.

    dose_gy    (N,) falling
    volume_ml  (N,), or one number for all
    outside_ml  of them beyond the dose grid, counted with 0 Gy
    """

    dose_gy: NDArray[Any]
    volume_ml: NDArray[Any] | float
    outside_ml: float = 0.0

    @cached_property
    def total_ml(self) -> float:
        if isinstance(self.volume_ml, np.ndarray):
            return float(self.volume_ml.sum())
        return self.volume_ml * len(self.dose_gy)

    @property
    def outside_share(self) -> float:
        return self.outside_ml / self.total_ml if self.total_ml else math.nan

    def _at(self, volume_ml: float) -> float:
        """Dose at a place of the falling curve: a sample's dose lies at the middle of its volume."""
        if isinstance(self.volume_ml, np.ndarray):
            middle = np.cumsum(self.volume_ml) - self.volume_ml / 2
            return float(np.interp(volume_ml, middle, self.dose_gy))
        place = min(max(volume_ml / self.volume_ml - 0.5, 0.0), len(self.dose_gy) - 1.0)
        below = min(int(place), len(self.dose_gy) - 2) if len(self.dose_gy) > 1 else 0
        above = min(below + 1, len(self.dose_gy) - 1)
        share = place - below
        return float(self.dose_gy[below] * (1 - share) + self.dose_gy[above] * share)

    def dose_in_hottest(self, volume_ml: float) -> float:
        """D(x cm3) in Gy: the lowest dose inside the hottest `volume_ml`. NaN for a smaller structure."""
        if volume_ml <= 0:
            raise ValueError(f"the hottest {volume_ml} ml: a volume above 0 is expected")
        # Volumes that are sums of voxels carry rounding.
        return self._at(volume_ml) if self.total_ml >= volume_ml * (1 - 1e-9) else math.nan

    def dose_covering(self, share: float) -> float:
        """D(x %) in Gy: the dose that `share` of the volume receive at least. NaN for an empty structure."""
        if not 0 < share <= 1:
            raise ValueError(f"a share of the volume lies above 0 and up to 1, got {share}")
        return self._at(share * self.total_ml) if self.total_ml else math.nan

    def volume_receiving(self, dose_gy: float) -> float:
        """Millilitres that receive at least `dose_gy`."""
        # searchsorted wants rising numbers.
        count = len(self.dose_gy) - int(np.searchsorted(self.dose_gy[::-1], dose_gy, side="left"))
        if isinstance(self.volume_ml, np.ndarray):
            return float(self.volume_ml[:count].sum())
        return self.volume_ml * count

    def mean_gy(self) -> float:
        if not self.total_ml:
            return math.nan
        if isinstance(self.volume_ml, np.ndarray):
            return float(np.average(self.dose_gy, weights=self.volume_ml))
        return float(self.dose_gy.mean(dtype=np.float64))

    def quantity(self, name: str) -> float:
        """One of QUANTITIES, in Gy."""
        if name in HOTTEST_ML:
            return self.dose_in_hottest(HOTTEST_ML[name])
        return self.dose_covering(COVERED_SHARE[name])

    def curve(self, num_points: int = 200) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The cumulative histogram: rising dose in Gy from 0, and ml that receive it at least.

        Points lie evenly in volume, closer and closer towards the hottest part. Evenly in dose they would all lie
        beside the source, where a thousandth of a target receives a hundred times what the rest does.
        """
        if not self.total_ml:
            return np.zeros(1), np.zeros(1)
        num_hot = num_points // 4
        shares = np.concatenate([np.geomspace(1e-4, 0.02, num_hot, endpoint=False), np.linspace(0.02, 1, num_points)])
        dose = np.unique([0.0, *(self._at(share * self.total_ml) for share in shares), float(self.dose_gy[0])])
        return dose, np.asarray([self.volume_receiving(float(one)) for one in dose])


def dose_volume(dose_gy: NDArray[Any], weights: NDArray[Any], voxel_ml: float) -> DoseVolume:
    """The histogram of a dose on a structure's own grid: arrays (D, H, W), `weights` a mask or shares from 0 to 1.

    Nothing is interpolated between voxels: the grid must be fine against the gradient (`dose_sampling` sees to that).
    """
    if dose_gy.shape != weights.shape:
        raise ValueError(f"the dose is {dose_gy.shape}, the structure {weights.shape}: bring both to one grid")
    if weights.dtype != np.bool_ and (not np.isfinite(weights).all() or weights.min() < 0 or weights.max() > 1):
        raise ValueError(f"shares of voxels lie from 0 to 1, got {weights.min()} to {weights.max()}")
    is_inside = weights > 0
    doses = dose_gy[is_inside].astype(np.float64)
    if not (doses >= 0).all():
        raise ValueError("the dose inside the structure is negative or NaN")
    order = np.argsort(doses)[::-1]
    if weights.dtype == np.bool_:
        return DoseVolume(doses[order], float(voxel_ml))
    return DoseVolume(doses[order], weights[is_inside].astype(np.float64)[order] * voxel_ml)
