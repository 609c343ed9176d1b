"""Dose-volume numbers against counting by hand, EQD2 against printed values."""

import math

import numpy as np
import pytest

from medpipe.metrics.dosimetry import DoseVolume, dose_volume, eqd2, total_eqd2


@pytest.mark.parametrize(
    ("num_fractions", "dose_gy", "alpha_beta_gy", "printed"),
    [(25, 1.8, 10, "44.25"), (25, 1.8, 3, "43.20"), (4, 7, 10, "39.67"), (4, 5, 3, "32.00"), (3, 8, 10, "36.00")],
)
def test_eqd2_golden_values(num_fractions: int, dose_gy: float, alpha_beta_gy: float, printed: str) -> None:
    assert f"{eqd2(dose_gy, alpha_beta_gy, num_fractions):.2f}" == printed


def test_totals_of_external_beam_and_four_fractions() -> None:
    assert f"{total_eqd2([7] * 4, 10, external_gy=45, external_fractions=25):.2f}" == "83.92"
    assert f"{total_eqd2([5] * 4, 3, external_gy=45, external_fractions=25):.2f}" == "75.20"


def test_eqd2_is_summed_by_fraction_not_from_the_sum() -> None:
    # 2 and 8 Gy: 2 + 8 * 11 / 5; twice their mean, 5 Gy, is 2 * 5 * 8 / 5.
    assert total_eqd2([2, 8], 3) == pytest.approx(2 + 17.6)
    assert total_eqd2([5, 5], 3) == pytest.approx(16)


def test_eqd2_keeps_nan_and_refuses_what_is_no_dose() -> None:
    assert math.isnan(eqd2(math.nan, 3))
    with pytest.raises(ValueError, match="alpha/beta is 0 Gy"):
        eqd2(2, 0)
    with pytest.raises(ValueError, match="-1 Gy"):
        eqd2(-1, 3)


def test_667_voxels_of_3_mm3_hold_2_ml() -> None:
    """Voxels of 1 x 1 x 3 mm: the 2 cm3 end inside voxel 667 (666.67 of them), where the dose is interpolated."""
    dose = np.linspace(10, 0.01, 1000).reshape(10, 10, 10)
    found = dose_volume(dose, np.ones(dose.shape, bool), 0.003)
    falling = np.sort(dose.ravel())[::-1]
    assert falling[667] < found.dose_in_hottest(2.0) < falling[665]
    # Linear in volume between the middles of the voxels' volumes, 666.5 and 667.5 voxels deep (indices 666 and 667).
    between = falling[666] + (2 / 0.003 - 666.5) * (falling[667] - falling[666])
    assert found.dose_in_hottest(2.0) == pytest.approx(between, rel=1e-12)


def test_under_the_volume_there_is_no_dose() -> None:
    found = dose_volume(np.ones((10, 10, 10)), np.ones((10, 10, 10), bool), 0.0019999)
    assert math.isnan(found.dose_in_hottest(2.0))
    assert found.dose_in_hottest(1.0) == 1
    exactly = dose_volume(np.ones((10, 10, 10)), np.ones((10, 10, 10), bool), 0.002)
    assert exactly.dose_in_hottest(2.0) == 1


def test_coverage_counts_the_volume_from_the_hottest() -> None:
    dose = np.arange(1.0, 1001).reshape(10, 10, 10)  # one voxel a Gy
    found = dose_volume(dose, np.ones(dose.shape, bool), 0.001)
    assert found.dose_covering(0.90) == pytest.approx(100.5)  # 900 voxels: 101 to 1000 Gy
    assert found.dose_covering(0.98) == pytest.approx(20.5)
    assert found.volume_receiving(501) == pytest.approx(0.5)
    assert found.volume_receiving(0) == pytest.approx(1)
    assert found.volume_receiving(1001) == 0
    assert found.mean_gy() == pytest.approx(500.5)


def test_shares_of_voxels_weigh_the_volume() -> None:
    dose = np.array([4.0, 3.0, 2.0, 1.0]).reshape(1, 2, 2)
    weights = np.array([0.5, 1.0, 0.0, 0.5]).reshape(1, 2, 2)
    found = dose_volume(dose, weights, 2.0)
    assert found.total_ml == pytest.approx(4)
    assert found.volume_receiving(3) == pytest.approx(3)
    assert found.mean_gy() == pytest.approx((2 + 3 + 0.5) / 2)
    # Middles of the volumes: 0.5 (4 Gy), 2 (3 Gy), 3.5 ml (1 Gy).
    assert found.dose_in_hottest(1.25) == pytest.approx(3.5)
    assert found.dose_covering(0.5) == pytest.approx(3)
    halved = dose_volume(dose, weights > 0, 2.0)
    assert halved.total_ml == pytest.approx(6)


def test_an_empty_structure_has_nothing() -> None:
    found = dose_volume(np.ones((2, 2, 2)), np.zeros((2, 2, 2), bool), 1.0)
    assert math.isnan(found.dose_covering(0.9))
    assert math.isnan(found.dose_in_hottest(0.1))
    assert math.isnan(found.mean_gy())
    assert found.volume_receiving(0) == 0


def test_what_cannot_be_a_histogram_is_refused() -> None:
    with pytest.raises(ValueError, match="bring both to one grid"):
        dose_volume(np.ones((2, 2, 2)), np.ones((2, 2, 3), bool), 1.0)
    with pytest.raises(ValueError, match="shares of voxels"):
        dose_volume(np.ones((2, 2, 2)), np.full((2, 2, 2), 2.0), 1.0)
    with pytest.raises(ValueError, match="negative or NaN"):
        dose_volume(np.full((2, 2, 2), np.nan), np.ones((2, 2, 2), bool), 1.0)
    with pytest.raises(ValueError, match="above 0"):
        DoseVolume(np.ones(3), 1.0).dose_in_hottest(0)


def test_the_curve_follows_the_histogram_where_most_of_the_volume_is() -> None:
    """A point source in its target: nine tenths of the volume lie below a hundredth of the largest dose."""
    radius_mm = np.linspace(0.3, 20, 40_000)
    shell_ml = np.diff(radius_mm, append=20.0005) * radius_mm**2
    histogram = DoseVolume(700 / radius_mm**2, shell_ml)
    dose, volume = histogram.curve()
    assert dose[0] == 0
    assert volume[0] == pytest.approx(histogram.total_ml)
    assert (np.diff(dose) > 0).all()
    assert (np.diff(volume) <= 0).all()
    between = np.linspace(1.75, 60, 500)
    exact = np.array([histogram.volume_receiving(one) for one in between])
    assert np.interp(between, dose, volume) == pytest.approx(exact, abs=0.005 * histogram.total_ml)


def test_the_curve_of_an_empty_structure_is_a_point() -> None:
    dose, volume = DoseVolume(np.zeros(0), 0.001).curve()
    assert dose.tolist() == volume.tolist() == [0.0]
