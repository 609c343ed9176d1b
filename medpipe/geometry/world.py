"""The one place where (d, h, w) and RAS meet the index orders and worlds of other libraries.

Ours: index (d, h, w), world RAS+. NIfTI: index (i, j, k) = (w, h, d), world RAS+. DICOM and SimpleITK: index
(column, row, slice) = (w, h, d), world LPS+.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medpipe.geometry.volume import Affine, Grid

if TYPE_CHECKING:
    import SimpleITK

_LPS_RAS = np.array([-1.0, -1.0, 1.0])


def flip_points(points_mm: NDArray[Any]) -> NDArray[np.float64]:
    """Points or vectors (..., 3) from RAS to LPS, or back: x and y change sign."""
    return np.asarray(points_mm, dtype=np.float64) * _LPS_RAS


def flip_affine(affine: NDArray[Any]) -> Affine:
    """An affine into LPS as one into RAS, or back."""
    return np.diag([*_LPS_RAS, 1.0]) @ np.asarray(affine, dtype=np.float64)


def reverse_axes(affine: NDArray[Any]) -> Affine:
    """An affine of (d, h, w) as one of (w, h, d), or back. The array goes along with `.T`."""
    return np.asarray(affine, dtype=np.float64)[:, [2, 1, 0, 3]]


def affine_from_dicom(
    row_direction: NDArray[Any], column_direction: NDArray[Any], spacing_mm: tuple[float, float, float],
    first_position: NDArray[Any],
) -> Affine:  # fmt: skip
    """From DICOM's LPS vectors: along a row (w grows), down a column (h grows), the slices along their cross product.

    spacing_mm (D, H, W); first_position is ImagePositionPatient of the slice with d = 0.
    """
    directions = np.stack([np.cross(row_direction, column_direction), column_direction, row_direction], axis=1)
    lps = np.eye(4)
    lps[:3, :3] = directions * np.asarray(spacing_mm)
    lps[:3, 3] = first_position
    return flip_affine(lps)


def to_sitk(array: NDArray[Any], grid: Grid) -> "SimpleITK.Image":
    """A SimpleITK image of an array (D, H, W) on `grid`."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(array)
    image.SetSpacing(grid.spacing_mm[::-1])
    origin, direction = sitk_frame(grid)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    return image


def sitk_frame(grid: Grid) -> tuple[list[float], list[float]]:
    """SimpleITK's origin (3) and direction (9, row by row) of a grid."""
    directions = grid.direction[:, ::-1] * _LPS_RAS[:, None]
    return flip_points(grid.origin_mm).tolist(), directions.ravel().tolist()
