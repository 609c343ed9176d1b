"""The surface of one structure as points, and exact distances between two such sets."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from medpipe.metrics import surface_bits as bits
from medpipe.metrics import surface_kernels as kernels

Box = NDArray[np.int64]  # lowest z, y, x and highest z, y, x, both inside

# Rows are searched up to here, farther points plane by plane. Ten millimetres is what contours disagree by; a search
# that finds nothing costs 230 rows a point at 2.5 x 0.8 mm.
NEAR_MM = 12.0
PROBES = 256  # points tried first: where most are far, all go plane by plane


@final
@dataclass(frozen=True, eq=False)
class SurfacePoints:
    """Points of a lattice, row by row: `xs[starts[r]:starts[r + 1]]` lie in row r, counted y fastest from `first`.

    codes: of the voxels around each corner, where the points are corners between voxels; None for voxel centres.
    """

    first: tuple[int, int]  # z, y
    shape: tuple[int, int]  # slices, rows a slice
    starts: NDArray[np.int64]
    xs: NDArray[np.int32]
    codes: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.xs)

    def coordinates(self) -> NDArray[np.int64]:
        """(points, 3): z, y, x."""
        rows = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))
        z, y = np.divmod(rows, self.shape[1])
        return np.stack([z + self.first[0], y + self.first[1], self.xs.astype(np.int64)], axis=1)


def voxel_points(labels: NDArray[Any], label: int, box: Box, *, is_flat: bool) -> SurfacePoints:
    """Surface voxels of a label of a label map (D, H, W), whose box is known."""
    inside = bits.packed(labels, label, box)
    marks = np.zeros((inside.shape[0] - 2, inside.shape[1] - 2, inside.shape[2]), dtype=np.uint64)
    return _marked(bits.mark_voxels, inside, marks, box, is_flat=is_flat)


def corner_points(labels: NDArray[Any], label: int, box: Box, *, is_flat: bool) -> SurfacePoints:
    """Lattice corners on the surface of a label; corner (z, y, x) is the first corner of voxel (z, y, x)."""
    inside = bits.packed(labels, label, box)
    marks = np.zeros((inside.shape[0] - (2 if is_flat else 1), *inside.shape[1:]), dtype=np.uint64)[:, :-1]
    points = _marked(bits.mark_corners, inside, marks, box, is_flat=is_flat)
    codes = np.empty(len(points), dtype=np.uint8)
    bits.corner_codes(inside, points.starts, points.shape[1], points.xs, int(box[2]) - 1, is_flat, codes)
    return replace(points, codes=codes)


def _marked(mark: Any, inside: Any, marks: NDArray[np.uint64], box: Box, *, is_flat: bool) -> SurfacePoints:
    starts = np.empty(marks.shape[0] * marks.shape[1] + 1, dtype=np.int64)
    xs = np.empty(mark(inside, is_flat, marks, starts), dtype=np.int32)
    bits.places(marks, int(box[2]) - 1, xs)
    return SurfacePoints((int(box[0]), int(box[1])), (marks.shape[0], marks.shape[1]), starts, xs)


def nearest_mm(points: SurfacePoints, others: SurfacePoints, spacing_mm: Sequence[float]) -> NDArray[np.float64]:
    """Distance in mm from each point to the nearest of `others`, exact; infinite where there are none."""
    found = np.full(len(points), np.inf)
    if not len(points) or not len(others):
        return found
    sz, sy, sx = (float(size) for size in spacing_mm)
    near_mm = min(NEAR_MM, (kernels.FAR - 1) * sx)
    margin = int(near_mm / sx) + 1
    x_first = int(others.xs.min()) - margin
    slots = np.empty(len(others.starts) - 1, dtype=np.int32)
    num_rows = int(np.count_nonzero(np.diff(others.starts)))
    table = np.empty((num_rows, int(others.xs.max()) + margin + 1 - x_first), dtype=np.uint8)
    kernels.row_table(others.starts, others.xs, x_first, slots, table)
    offsets, offset_mm2 = _offsets(near_mm, sy, sz)
    x_mm2 = (np.arange(kernels.FAR + 1) * sx) ** 2
    origin = (points.first[0] - others.first[0], points.first[1] - others.first[1])

    def search(step: int) -> int:
        return kernels.nearest_by_rows(
            origin, points.shape[1], points.starts, points.xs, others.shape, slots, table, x_first,
            offsets, offset_mm2, x_mm2, near_mm**2, step, found,
        )  # fmt: skip

    step = max(1, len(points) // PROBES)
    are_most_far = 2 * search(step) > len(range(0, len(points), step))
    num_far = len(points) if are_most_far else search(1)
    if num_far:
        is_far = np.isinf(found) if num_far < len(points) else np.ones(len(points), dtype=bool)
        found[is_far] = _by_planes(points, others, is_far, (sz, sy, sx))
    return np.sqrt(found, out=found)


def _by_planes(
    points: SurfacePoints, others: SurfacePoints, chosen: NDArray[np.bool_], spacing_mm: tuple[float, float, float]
) -> NDArray[np.float64]:
    """Squared distances of the chosen points, in their order."""
    z, y, x = (points.coordinates()[chosen] - np.array([*others.first, 0])).T
    order = np.argsort(x, kind="stable")
    ordered, result = np.empty(len(x)), np.empty(len(x))
    kernels.nearest_by_planes(z[order], y[order], x[order], others.shape, others.starts, others.xs, spacing_mm, ordered)
    result[order] = ordered
    return result


@lru_cache(maxsize=16)
def _offsets(near_mm: float, sy: float, sz: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Steps (z, y) between rows shorter than near_mm, and their squared mm, in increasing order."""
    most_z, most_y = int(near_mm / sz), int(near_mm / sy)
    z, y = np.mgrid[-most_z : most_z + 1, -most_y : most_y + 1].reshape(2, -1)
    mm2 = (z * sz) ** 2 + (y * sy) ** 2
    order = np.argsort(mm2, kind="stable")
    order = order[mm2[order] < near_mm**2]
    return np.ascontiguousarray(np.stack([z, y], axis=1)[order]), mm2[order]
