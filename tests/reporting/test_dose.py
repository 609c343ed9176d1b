"""The figure of dose-volume histograms."""

import math

import numpy as np
import pytest

from medpipe.metrics.dose_totals import StructureDose
from medpipe.metrics.dosimetry import DoseVolume
from medpipe.reporting.dose import _end_of_axis


def dose_of(structure: str, *gy: float) -> StructureDose:
    """A structure of 1 cm3 at each of the doses."""
    histogram = DoseVolume(np.array(gy), np.ones(len(gy)))
    return StructureDose.of(
        histogram, fraction=1, delivered=1, structure=structure, contour="reference", alpha_beta_gy=3,
        prescription_gy=7,
    )  # fmt: skip


def test_a_structure_around_the_sources_does_not_squeeze_the_judged_ones() -> None:
    target, rectum, uterus = dose_of("ctv_high_risk", 900, 8, 7, 7), dose_of("rectum", 4, 3, 2), dose_of("uterus", 800)
    d90 = target.doses_gy["d90"]
    assert _end_of_axis([target, rectum, uterus], 7) == pytest.approx(2 * d90)
    assert _end_of_axis([rectum, uterus], None) == pytest.approx(4.4)


def test_without_a_judged_structure_the_axis_ends_at_the_others() -> None:
    assert _end_of_axis([dose_of("uterus", 30, 20)], None) == pytest.approx(33)
    assert _end_of_axis([], None) == 1.0
    assert math.isclose(_end_of_axis([], 8), 12)
