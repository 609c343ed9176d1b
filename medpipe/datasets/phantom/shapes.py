"""Shapes as signed distances in millimetres (negative inside), and smooth random fields, on a patient's coordinates.

Everything here depends on positions in mm and not on the voxel grid, so that one patient is the same at any spacing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Distance that stands for "far outside" where a tube was not evaluated, in mm.
FAR_MM = 60.0
# A tube's distance is evaluated this far beyond its surface; carving and walls need less.
TUBE_REACH_MM = 8.0

Vector = Sequence[float] | np.ndarray


@dataclass(frozen=True, eq=False)
class Space:
    """Patient coordinates of every voxel centre: `x` to the right, `y` forwards, `z` upwards, each (D, H, W), in mm.

    They are rotated and bent against the grid; `bend_mm` bounds the bending, `rotation` (3, 3) takes grid
    millimetres to patient millimetres, `axes` are the grid's own (z, y, x) positions.
    """

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    axes: tuple[np.ndarray, np.ndarray, np.ndarray]
    rotation: np.ndarray
    bend_mm: float

    @property
    def shape(self) -> tuple[int, ...]:
        return self.x.shape

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        depth, height, width = (abs(float(axis[1] - axis[0])) for axis in self.axes)
        return depth, height, width

    def box(self, point: np.ndarray, reach_mm: float) -> tuple[slice, slice, slice]:
        """The voxels within `reach_mm` of a point in patient coordinates, as slices (D, H, W)."""
        on_grid = self.rotation.T @ point
        depth, height, width = (
            _within(axis, centre, reach_mm + self.bend_mm)
            for axis, centre in zip(self.axes, on_grid[::-1], strict=True)
        )
        return depth, height, width


def _within(axis: np.ndarray, centre: float, reach_mm: float) -> slice:
    step = axis[1] - axis[0]
    ends = sorted(((centre - reach_mm - axis[0]) / step, (centre + reach_mm - axis[0]) / step))
    return slice(max(0, int(np.ceil(ends[0]))), max(0, int(np.floor(ends[1])) + 1))


def smooth_field(
    rng: np.random.Generator, axes: tuple[np.ndarray, ...], wavelength_mm: float, num_waves: int = 24
) -> np.ndarray:
    """A smooth random field (D, H, W) with mean 0 and variance 1: plane waves around one wavelength.

    A sum of waves is a product of one matrix over z and one over (y, x), hence cheap at any size.
    """
    directions = rng.normal(size=(num_waves, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths = wavelength_mm * rng.uniform(0.7, 1.6, size=(num_waves, 1))
    waves = 2 * np.pi * directions / lengths
    phases = rng.uniform(0, 2 * np.pi, size=num_waves)
    z, y, x = axes
    along_z = np.exp(1j * (np.outer(waves[:, 0], z) + phases[:, None]))
    in_plane = np.exp(1j * np.outer(waves[:, 1], y))[:, :, None] * np.exp(1j * np.outer(waves[:, 2], x))[:, None, :]
    in_plane = in_plane.reshape(num_waves, -1)
    field = np.real(along_z).T @ np.real(in_plane) - np.imag(along_z).T @ np.imag(in_plane)
    return (field * np.sqrt(2.0 / num_waves)).reshape(len(z), len(y), len(x))


def ellipsoid(space: Space, centre: Vector, radii: Vector, axes: np.ndarray | None = None) -> np.ndarray:
    """Distance to an ellipsoid, exact to first order at its surface. `axes` (3, 3): its unit axes as rows."""
    offset = (space.x - centre[0], space.y - centre[1], space.z - centre[2])
    if axes is not None:
        offset = tuple(row[0] * offset[0] + row[1] * offset[1] + row[2] * offset[2] for row in axes)
    scaled = [part / radius for part, radius in zip(offset, radii, strict=True)]
    level = np.sqrt(scaled[0] ** 2 + scaled[1] ** 2 + scaled[2] ** 2)
    slope = np.sqrt(sum((part / radius) ** 2 for part, radius in zip(scaled, radii, strict=True)))
    return level * (level - 1) / np.maximum(slope, 1e-6)


def ball(space: Space, centre: Vector, radius: float) -> np.ndarray:
    return np.sqrt((space.x - centre[0]) ** 2 + (space.y - centre[1]) ** 2 + (space.z - centre[2]) ** 2) - radius


def tube(space: Space, points: np.ndarray, radii: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance to a union of balls along `points` (N, 3), and for each voxel the index of the nearest one.

    Evaluated within TUBE_REACH_MM of the surface; FAR_MM and index 0 elsewhere. Points should lie closer than
    half a radius, which keeps the surface smooth.
    """
    distance = np.full(space.shape, FAR_MM)
    nearest = np.zeros(space.shape, dtype=np.int16)
    for index, (point, radius) in enumerate(zip(points, radii, strict=True)):
        box = space.box(point, float(radius) + TUBE_REACH_MM)
        to_point = np.sqrt(
            (space.x[box] - point[0]) ** 2 + (space.y[box] - point[1]) ** 2 + (space.z[box] - point[2]) ** 2
        )
        to_surface = to_point - radius
        closer = to_surface < distance[box]
        distance[box][closer] = to_surface[closer]
        nearest[box][closer] = index
    return distance, nearest


def capsules(space: Space, segments: Sequence[tuple[Vector, Vector, float, float]]) -> np.ndarray:
    """Distance to a union of rods (start, end, radius at the start, radius at the end)."""
    points, radii = [], []
    for start, end, radius_start, radius_end in segments:
        length = float(np.linalg.norm(np.subtract(end, start)))
        share = np.linspace(0, 1, max(2, int(np.ceil(length / (0.6 * min(radius_start, radius_end))))))
        points.append(np.outer(1 - share, start) + np.outer(share, end))
        radii.append((1 - share) * radius_start + share * radius_end)
    distance, _ = tube(space, np.concatenate(points), np.concatenate(radii))
    return distance


def curve(controls: Sequence[Vector] | np.ndarray, step_mm: float = 4.0) -> np.ndarray:
    """Points (N, 3) about every `step_mm` along a smooth (Catmull-Rom) curve through the controls."""
    knots = np.asarray(controls, dtype=np.float64)
    padded = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    share = np.linspace(0, 1, 12, endpoint=False)[:, None]
    pieces = []
    for before, start, end, after in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        tangent_start, tangent_end = (end - before) / 2, (after - start) / 2
        pieces.append(
            (2 * share**3 - 3 * share**2 + 1) * start
            + (share**3 - 2 * share**2 + share) * tangent_start
            + (3 * share**2 - 2 * share**3) * end
            + (share**3 - share**2) * tangent_end
        )
    dense = np.concatenate([*pieces, knots[-1:]])
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(dense, axis=0), axis=1))])
    stations = np.linspace(0, length[-1], max(2, round(length[-1] / step_mm) + 1))
    return np.stack([np.interp(stations, length, dense[:, axis]) for axis in range(3)], axis=1)


def blend(first: np.ndarray, second: np.ndarray, radius_mm: float) -> np.ndarray:
    """Union of two shapes with a fillet of about `radius_mm` between them."""
    closeness = np.maximum(radius_mm - np.abs(first - second), 0) / radius_mm
    return np.minimum(first, second) - closeness**2 * radius_mm / 4


def carve(shape: np.ndarray, obstacle: np.ndarray, gap_mm: float) -> np.ndarray:
    """The shape less everything closer than `gap_mm` to the obstacle."""
    return np.maximum(shape, gap_mm - obstacle)


def push_out(points: np.ndarray, radius_mm: float, obstacles: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Points of a tube's axis moved until the tube clears ellipsoids given as (centre, radii) along x, y, z."""
    moved = points.copy()
    for centre, radii in obstacles:
        offset = (moved - centre) / (np.asarray(radii) + radius_mm)
        level = np.linalg.norm(offset, axis=1, keepdims=True)
        moved = np.where(level < 1, centre + (moved - centre) / np.maximum(level, 0.2), moved)
    return moved


def smoothed(points: np.ndarray, num_passes: int) -> np.ndarray:
    """The same curve with kinks averaged out; its ends stay."""
    for _ in range(num_passes):
        points = np.concatenate([points[:1], (points[:-2] + 2 * points[1:-1] + points[2:]) / 4, points[-1:]])
    return points
