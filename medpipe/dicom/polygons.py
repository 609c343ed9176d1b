"""Closed polygons to voxels: a voxel belongs to a polygon if its centre lies inside, by the even-odd rule.

A centre that lies exactly on the outline belongs to the polygon on its greater-index side (a half-open rule), so that
two polygons which share an edge share no voxel and leave none out.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Voxels. Positions from decimal strings and a matrix inverse are exact to 1e-9 or so: rounding them puts a vertex that
# was meant to lie on a voxel centre exactly there, on either side of the polygon.
_DECIMALS = 6


def fill_polygons(
    polygons: Sequence[NDArray[np.float64]], planes: Sequence[int], shape: tuple[int, int, int]
) -> NDArray[np.bool_]:
    """Mask (D, H, W) of polygons (N, 2), vertices (h, w) in voxels, each in its plane d; parts beyond the grid are cut.

    All polygons of one plane are combined by exclusive or: a polygon in another is a hole, one in the hole an island.
    """
    mask = np.zeros(shape, dtype=bool)
    crossings = [_crossings(polygon, plane, shape) for polygon, plane in zip(polygons, planes, strict=True)]
    if not crossings:
        return mask
    plane, row, column = np.concatenate(crossings, axis=1)
    if len(plane) == 0:
        return mask
    low, high = (plane.min(), row.min()), (plane.max() + 1, row.max() + 1)
    box = np.zeros((high[0] - low[0], high[1] - low[1], shape[2] + 1), dtype=np.uint8)
    flat = ((plane - low[0]) * box.shape[1] + row - low[1]) * box.shape[2] + column
    position, count = np.unique(flat, return_counts=True)
    box.reshape(-1)[position] = count & 1
    # Each outline crossing turns all voxels from there on in its row over.
    np.bitwise_xor.accumulate(box, axis=2, out=box)
    mask[low[0] : high[0], low[1] : high[1]] = box[:, :, :-1].view(bool)
    return mask


def _crossings(polygon: NDArray[np.float64], plane: int, shape: tuple[int, int, int]) -> NDArray[np.int64]:
    """(3, M): plane, row and first column at or beyond each crossing of the outline with a row of voxel centres."""
    start = np.round(polygon, _DECIMALS)
    stop = np.roll(start, -1, axis=0)
    upper = np.where((start[:, 0] <= stop[:, 0])[:, None], start, stop)
    lower = np.where((start[:, 0] <= stop[:, 0])[:, None], stop, start)
    # Rows with upper <= row < lower: horizontal edges cross none, a vertex between two edges counts once.
    first = np.clip(np.ceil(upper[:, 0]), 0, shape[1]).astype(np.int64)
    counts = np.clip(np.ceil(lower[:, 0]), 0, shape[1]).astype(np.int64) - first
    edge = np.repeat(np.arange(len(start)), counts)
    row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
    height = lower[edge, 0] - upper[edge, 0]
    share = (row - upper[edge, 0]) / height
    crossing = np.round(upper[edge, 1] + share * (lower[edge, 1] - upper[edge, 1]), _DECIMALS)
    column = np.clip(np.ceil(crossing), 0, shape[2]).astype(np.int64)
    return np.stack([np.full_like(row, plane), row, column])
