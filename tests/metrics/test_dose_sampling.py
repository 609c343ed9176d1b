"""D2cc and D90 of analytic doses on coarse dose grids against their closed forms."""

import numpy as np
import pytest
from scipy.optimize import brentq

from medpipe.geometry.dose import Dose
from medpipe.geometry.volume import Grid
from medpipe.metrics import dose_sampling
from medpipe.metrics.dose_sampling import DoseField, sample_structure

STRENGTH = 700.0  # Gy mm2


def grid_of(spacing_mm: tuple[float, float, float], shape: tuple[int, int, int], origin_mm: tuple) -> Grid:
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = origin_mm
    return Grid(shape, affine)


def dose_around(source_mm: np.ndarray, axes: tuple[int, ...]) -> DoseField:
    """Inverse square of the distance to a line along the other axis (two axes) or to a point (three), every 2.5 mm."""
    grid = grid_of((2.5,) * 3, (60, 60, 60), (-75.0, -75.0, -75.0))
    points = grid.index_to_world(np.indices(grid.shape).reshape(3, -1).T)
    squared = sum((points[:, axis] - source_mm[axis]) ** 2 for axis in axes)
    return DoseField(Dose((STRENGTH / np.maximum(squared, 1.0)).reshape(grid.shape), grid.affine))


def box_in_level(radius_mm: float, wall_mm: float, half_mm: float) -> float:
    """mm2 of a disc of `radius_mm` beyond the plane x = wall_mm and between y = -half_mm and half_mm; closed form."""

    def under(y: float) -> float:  # integral of sqrt(R2 - y2) from 0 to y
        return (y * np.sqrt(radius_mm**2 - y**2) + radius_mm**2 * np.arcsin(y / radius_mm)) / 2

    end = min(half_mm, np.sqrt(max(radius_mm**2 - wall_mm**2, 0.0)))
    return 2 * (under(end) - wall_mm * end)


@pytest.mark.parametrize(
    ("wall_mm", "width_mm", "spacing_mm", "source_mm"),
    [
        (10, 30, (1.0, 1.0, 1.0), (0, 0.0, 0.0)),  # on a voxel centre of the dose grid
        (10, 30, (3.0, 1.0, 1.0), (0, 1.25, 1.25)),  # in the middle of a voxel
        (8, 26, (3.0, 1.0, 1.0), (0, 0.3, -0.4)),
        (15, 40, (2.5, 2.5, 2.5), (0, 0.7, 2.1)),
        (20, 40, (1.25, 0.9, 0.9), (0, -1.1, 0.2)),
    ],
)
def test_d2cc_of_an_inverse_square_around_a_line(
    wall_mm: float, width_mm: float, spacing_mm: tuple[float, float, float], source_mm: tuple[float, float, float]
) -> None:
    """A box beside the line, its voxels aligned with the dose grid's axes: within 0.2 % of the closed form."""
    shape = (round(39 / spacing_mm[0]), round(20 / spacing_mm[1]), 2 * round(width_mm / 2 / spacing_mm[2]))
    length_mm, half_mm = shape[0] * spacing_mm[0], shape[2] * spacing_mm[2] / 2
    origin = (
        (spacing_mm[0] - length_mm) / 2,
        source_mm[1] + wall_mm + spacing_mm[1] / 2,
        source_mm[2] - half_mm + spacing_mm[2] / 2,
    )
    histogram, step_mm = sample_structure(
        dose_around(np.asarray(source_mm), (1, 2)), np.ones(shape, bool), grid_of(spacing_mm, shape, origin)
    )
    depth = brentq(
        lambda radius: box_in_level(radius, wall_mm, half_mm) * length_mm - 2000, wall_mm + 1e-9, wall_mm + 15
    )
    assert step_mm <= 0.5
    assert histogram.total_ml == pytest.approx(np.prod(shape) * np.prod(spacing_mm) / 1000)
    assert histogram.dose_in_hottest(2.0) == pytest.approx(STRENGTH / depth**2, rel=2e-3)


def test_d90_of_a_ball_around_a_point_source() -> None:
    """The dose at the radius that holds 90 % of the volume, that of the voxels the ball was drawn with."""
    centre = np.array([0.6, -0.9, 0.2])
    grid = grid_of((1.0, 1.0, 1.0), (50, 50, 50), (-24.5, -24.5, -24.5))
    radius = np.linalg.norm(grid.index_to_world(np.indices(grid.shape).reshape(3, -1).T) - centre, axis=1)
    ball = (radius <= 20).reshape(grid.shape)
    histogram, _ = sample_structure(dose_around(centre, (0, 1, 2)), ball, grid)
    # 90 % of 20 mm's ball end at 19.31 mm; the steps of its voxels' surface move that by hundredths.
    assert histogram.dose_covering(0.90) == pytest.approx(STRENGTH / (20 * 0.9 ** (1 / 3)) ** 2, rel=5e-3)
    # Well inside the ball its surface plays no part: V(15 mm) is a ball's.
    assert histogram.volume_receiving(STRENGTH / 15**2) == pytest.approx(4 / 3 * np.pi * 15**3 / 1000, rel=2e-3)


def test_log_interpolation_is_exact_for_an_exponential() -> None:
    grid = grid_of((2.0, 3.0, 2.5), (12, 10, 11), (5.0, -3.0, 1.0))
    slope = np.array([0.05, -0.08, 0.03])
    points = grid.index_to_world(np.indices(grid.shape).reshape(3, -1).T)
    field = DoseField(Dose(np.exp(points @ slope).reshape(grid.shape), grid.affine))
    inside = np.random.default_rng(0).uniform((5, -3, 1), (27, 24, 26), (500, 3))  # to the outermost centres
    gy, is_outside = field.at(inside)
    assert not is_outside.any()
    assert np.allclose(gy, np.exp(inside @ slope), rtol=1e-4)


def test_beyond_the_outermost_centres_there_is_no_dose() -> None:
    grid = grid_of((2.0, 2.0, 2.0), (6, 6, 6), (0.0, 0.0, 0.0))
    field = DoseField(Dose(np.full(grid.shape, 5.0), grid.affine))
    gy, is_outside = field.at(np.array([[0.0, 0, 0], [10, 10, 10], [-0.01, 0, 0], [3, 3, 10.2]]))
    assert is_outside.tolist() == [False, False, True, True]
    assert gy == pytest.approx([5, 5, 0, 0])
    histogram, _ = sample_structure(field, np.ones((6, 6, 6), bool), grid_of((2.0, 2.0, 2.0), (6, 6, 6), (0, 0, 5.0)))
    # Voxels' edges: from -1 to 11 along two axes, 4 to 16 along the third, of which 0 to 10 and 4 to 10 are inside.
    assert histogram.outside_share == pytest.approx(1 - (10 / 12) ** 2 * 6 / 12, abs=0.01)


def test_zeros_beside_the_dose_do_not_ring() -> None:
    """A dose cut off to zero at a plane: inside, beyond the last voxel, the dose stays as it is."""
    grid = grid_of((2.0, 2.0, 2.0), (20, 12, 12), (0.0, 0.0, 0.0))
    gy = np.full(grid.shape, 4.0)
    gy[:8] = 0
    field = DoseField(Dose(gy, grid.affine))
    along = np.stack([np.linspace(16, 38, 200), np.full(200, 11.3), np.full(200, 9.1)], axis=1)
    assert np.allclose(field.at(along)[0], 4.0, rtol=1e-6)
    assert field.low_share == pytest.approx(8 / 20)
    assert field.at(np.array([[6.0, 8, 8]]))[0][0] == pytest.approx(4e-5)


def test_blocks_and_positions_do_not_change_the_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    field = dose_around(np.zeros(3), (0, 1, 2))
    grid = grid_of((2.0, 1.0, 1.0), (10, 12, 14), (-10.0, 8.0, -7.0))
    mask = np.random.default_rng(1).random(grid.shape) < 0.5
    whole, _ = sample_structure(field, mask, grid)
    monkeypatch.setattr(dose_sampling, "SAMPLES_AT_ONCE", 1000)
    blocks, _ = sample_structure(field, mask, grid)
    assert np.array_equal(whole.dose_gy, blocks.dose_gy)


def test_a_large_structure_gets_a_coarser_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dose_sampling, "MOST_SAMPLES", 20_000)
    field = dose_around(np.zeros(3), (0, 1, 2))
    grid = grid_of((2.0, 2.0, 2.0), (12, 12, 12), (10.0, 8.0, -7.0))
    histogram, step_mm = sample_structure(field, np.ones(grid.shape, bool), grid)
    assert step_mm > 0.5
    assert len(histogram.dose_gy) <= 20_000
    assert histogram.total_ml == pytest.approx(12**3 * 0.008)


def test_a_turned_grid_samples_the_same_places() -> None:
    """A structure on axes turned against the dose grid's: a box on the far side gets the same dose."""
    field = dose_around(np.zeros(3), (0, 1, 2))
    turn = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1.0]])
    straight = grid_of((1.0, 1.0, 1.0), (16, 16, 16), (10.0, -8.0, -8.0))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn, turn @ straight.origin_mm
    mask = np.ones(straight.shape, bool)
    a, _ = sample_structure(field, mask, straight)
    b, _ = sample_structure(field, mask, Grid(straight.shape, affine))
    assert b.dose_in_hottest(2.0) == pytest.approx(a.dose_in_hottest(2.0), rel=1e-3)
