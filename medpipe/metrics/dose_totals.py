"""Doses of one fraction and structure, their totals in EQD2, and what a predicted contour changes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from medpipe.metrics.dosimetry import COVERED_SHARE, HOTTEST_ML, QUANTITIES, DoseVolume, eqd2

Contour = Literal["reference", "predicted"]
_TARGET_PREFIXES = ("ctv", "gtv", "ptv")


def is_target(structure: str) -> bool:
    return structure.split("_")[0] in _TARGET_PREFIXES


def asked_of(structure: str) -> tuple[str, ...]:
    """The quantities that are judged: coverage of a target, the hottest part of an organ."""
    return tuple(COVERED_SHARE) if is_target(structure) else tuple(HOTTEST_ML)


@final
@dataclass(frozen=True, eq=False)
class StructureDose:
    """One structure in one fraction; `doses_gy` by QUANTITIES, `delivered`: how often this fraction was given."""

    fraction: int  # from 1
    delivered: int
    structure: str
    contour: Contour
    alpha_beta_gy: float
    volume_ml: float
    outside_share: float
    mean_gy: float
    doses_gy: dict[str, float]
    v100_ml: float
    v100_share: float
    curve_gy: NDArray[np.float64] = field(repr=False)
    curve_ml: NDArray[np.float64] = field(repr=False)

    @classmethod
    def of(
        cls,
        histogram: DoseVolume,
        *,
        fraction: int,
        delivered: int,
        structure: str,
        contour: Contour,
        alpha_beta_gy: float,
        prescription_gy: float | None,
    ) -> "StructureDose":
        total = histogram.total_ml
        v100 = histogram.volume_receiving(prescription_gy) if prescription_gy is not None and total else math.nan
        curve_gy, curve_ml = histogram.curve()
        return cls(
            fraction, delivered, structure, contour, alpha_beta_gy, total, histogram.outside_share,
            histogram.mean_gy(), {name: histogram.quantity(name) for name in QUANTITIES}, v100,
            v100 / total if total else math.nan, curve_gy, curve_ml,
        )  # fmt: skip

    def eqd2_gy(self, quantity: str) -> float:
        """Of one delivery of this fraction."""
        return eqd2(self.doses_gy[quantity], self.alpha_beta_gy)

    def row(self) -> dict[str, Any]:
        """A row of dose.csv."""
        return {
            "fraction": self.fraction,
            "delivered": self.delivered,
            "structure": self.structure,
            "contour": self.contour,
            "volume_ml": self.volume_ml,
            "outside_share": self.outside_share,
            "mean_gy": self.mean_gy,
            **{f"{name}_gy": dose for name, dose in self.doses_gy.items()},
            "v100_ml": self.v100_ml,
            "v100_share": self.v100_share,
            "alpha_beta_gy": self.alpha_beta_gy,
            **{f"{name}_eqd2_gy": self.eqd2_gy(name) for name in QUANTITIES},
        }


@final
@dataclass(frozen=True)
class Total:
    """EQD2 in Gy over all fractions and the external beam; NaN with a reason where a fraction lacks it."""

    structure: str
    contour: Contour
    quantity: str
    brachytherapy_gy: float
    external_gy: float
    reason: str = ""

    @property
    def total_gy(self) -> float:
        return self.brachytherapy_gy + self.external_gy


def totals_of(
    doses: Sequence[StructureDose], num_fractions: int, *, external_gy: float = 0, external_fractions: int = 1
) -> list[Total]:
    """Totals of the quantities that are judged, by contour and structure in the order of `doses`."""
    found = []
    keys: dict[tuple[Contour, str], None] = dict.fromkeys((dose.contour, dose.structure) for dose in doses)
    for contour, structure in keys:
        mine = [dose for dose in doses if (dose.contour, dose.structure) == (contour, structure)]
        missing = [str(n) for n in range(1, num_fractions + 1) if n not in {dose.fraction for dose in mine}]
        external = eqd2(external_gy / external_fractions, mine[0].alpha_beta_gy, external_fractions)
        for quantity in asked_of(structure):
            total = sum(dose.delivered * dose.eqd2_gy(quantity) for dose in mine)
            undefined = [str(dose.fraction) for dose in mine if math.isnan(dose.doses_gy[quantity])]
            reason = ""
            if undefined:
                reason = f"undefined in fraction {', '.join(undefined)}: empty, or smaller than the volume asked for"
            if missing:
                reason = f"not drawn in fraction {', '.join(missing)}"
            brachytherapy = math.nan if reason else total
            found.append(Total(structure, contour, quantity, brachytherapy, external, reason))
    return found


@final
@dataclass(frozen=True)
class DoseDifference:
    """A number under the predicted contour against the reference's, in one fraction (0: the totals, EQD2 alone)."""

    fraction: int
    structure: str
    quantity: str
    reference_gy: float
    predicted_gy: float
    reference_eqd2_gy: float
    predicted_eqd2_gy: float

    @property
    def difference_gy(self) -> float:
        return self.predicted_gy - self.reference_gy

    @property
    def difference_percent(self) -> float:
        """Of the reference's physical dose; of its EQD2 in the totals."""
        old, new = (
            (self.reference_eqd2_gy, self.predicted_eqd2_gy)
            if self.fraction == 0
            else (self.reference_gy, self.predicted_gy)
        )
        return 100 * (new - old) / old if old else math.nan

    @property
    def difference_eqd2_gy(self) -> float:
        return self.predicted_eqd2_gy - self.reference_eqd2_gy

    def row(self) -> dict[str, Any]:
        return {
            "fraction": self.fraction or "total",
            "structure": self.structure,
            "quantity": self.quantity,
            "reference_gy": self.reference_gy,
            "predicted_gy": self.predicted_gy,
            "difference_gy": self.difference_gy,
            "difference_percent": self.difference_percent,
            "reference_eqd2_gy": self.reference_eqd2_gy,
            "predicted_eqd2_gy": self.predicted_eqd2_gy,
            "difference_eqd2_gy": self.difference_eqd2_gy,
        }


def differences_of(doses: Sequence[StructureDose], totals: Sequence[Total]) -> list[DoseDifference]:
    """Predicted against reference by fraction and structure, then the totals."""
    by_key = {(dose.fraction, dose.structure, dose.contour): dose for dose in doses}
    found = []
    for (fraction, structure, contour), ref in by_key.items():
        pred = by_key.get((fraction, structure, "predicted"))
        if contour == "predicted" or pred is None:
            continue
        found += [
            DoseDifference(fraction, structure, quantity, ref.doses_gy[quantity], pred.doses_gy[quantity],
                           ref.eqd2_gy(quantity), pred.eqd2_gy(quantity))
            for quantity in asked_of(structure)
        ]  # fmt: skip
    sums = {(total.structure, total.quantity, total.contour): total.total_gy for total in totals}
    found += [
        DoseDifference(0, structure, quantity, math.nan, math.nan, sums[structure, quantity, "reference"], value)
        for (structure, quantity, contour), value in sums.items()
        if contour == "predicted" and (structure, quantity, "reference") in sums
    ]
    return found
