"""Cutting a patch out of a volume that stays on disk: only the voxels that the patch needs are read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Placement:
    """Where a patch lies in a volume.

    centre   of the patch, in voxel indices of the volume (d, h, w), half voxels allowed
    size     of the patch (D, H, W)
    matrix   (3, 3) from an offset in the patch to an offset in the volume, in voxels; None: no rotation or scaling
    """

    centre: NDArray[np.float64]
    size: tuple[int, int, int]
    matrix: NDArray[np.float64] | None = None

    @property
    def start(self) -> NDArray[np.intp]:
        """First voxel (d, h, w) of an unrotated patch; negative where the patch sticks out."""
        return np.rint(self.centre - (np.asarray(self.size) - 1) / 2).astype(np.intp)


def cut(array: NDArray[Any], start: Sequence[int] | NDArray[np.intp], size: Sequence[int], fill: float) -> NDArray[Any]:
    """A box of the last three axes, as a copy; what lies outside the array is `fill`."""
    shape = array.shape[-3:]
    leading = array.shape[:-3]
    first = [max(0, int(low)) for low in start]
    last = [min(edge, int(low) + width) for edge, low, width in zip(shape, start, size, strict=True)]
    if any(low >= high for low, high in zip(first, last, strict=True)):
        return np.full((*leading, *size), fill, dtype=array.dtype)
    inside = array[(..., *(slice(low, high) for low, high in zip(first, last, strict=True)))]
    if inside.shape[-3:] == tuple(size):
        return np.array(inside)
    box = np.full((*leading, *size), fill, dtype=array.dtype)
    place = tuple(slice(low - int(at), high - int(at)) for low, high, at in zip(first, last, start, strict=True))
    box[(..., *place)] = inside
    return box


class PatchSampler:
    """Reads one placement from several arrays on the same grid."""

    def __init__(self, placement: Placement) -> None:
        self.placement = placement
        self.start, self.size = placement.start, placement.size
        if placement.matrix is not None:
            self._coordinates, self.start, self.size = _enlarged(placement, placement.matrix)

    def image(self, array: NDArray[Any], fill: float) -> NDArray[np.float32]:
        """(D, H, W) float32, linear between voxels."""
        box = cut(array, self.start, self.size, fill).astype(np.float32)
        if self.placement.matrix is None:
            return box
        return _linear(box, self._coordinates)

    def labels(self, array: NDArray[Any], fill: int = 0) -> NDArray[Any]:
        """(..., D, H, W) of the array's type, nearest voxel."""
        box = cut(array, self.start, self.size, fill)
        if self.placement.matrix is None:
            return box
        d, h, w = (np.floor(axis + np.float32(0.5)).astype(np.intp) for axis in self._coordinates)
        flat = (d * box.shape[-2] + h) * box.shape[-1] + w
        return np.take(box.reshape(*box.shape[:-3], -1), flat, axis=-1)


def _enlarged(
    placement: Placement, matrix: NDArray[np.float64]
) -> tuple[list[NDArray[np.float32]], NDArray[np.intp], tuple[int, int, int]]:
    """Coordinates of the patch's voxels within the box that holds them all, and that box: no border shows."""
    offsets = [np.arange(width, dtype=np.float64) - (width - 1) / 2 for width in placement.size]
    reach = np.abs(matrix) @ np.array([axis[-1] for axis in offsets])
    start = np.floor(placement.centre - reach).astype(np.intp) - 1
    stop = np.ceil(placement.centre + reach).astype(np.intp) + 2
    along_d, along_h, along_w = np.meshgrid(*offsets, indexing="ij", sparse=True)
    coordinates = [
        (row[0] * along_d + row[1] * along_h + row[2] * along_w + (centre - low)).astype(np.float32)
        for row, centre, low in zip(matrix, placement.centre, start, strict=True)
    ]
    d, h, w = (int(width) for width in stop - start)
    return coordinates, start, (d, h, w)


def _linear(box: NDArray[np.float32], coordinates: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    from scipy.ndimage import map_coordinates

    result: NDArray[np.float32] = np.empty(coordinates[0].shape, dtype=np.float32)
    map_coordinates(box, coordinates, output=result, order=1, mode="nearest", prefilter=False)
    return result
