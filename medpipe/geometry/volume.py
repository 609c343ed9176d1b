"""A CT, a label map and a stack of masks: an array (D, H, W) with the affine that places it in the patient.

The affine maps a voxel index (d, h, w) to world millimetres, RAS+ (x to the patient's right hand, y to the front, z to
the head). Readers and writers convert from and to this form (`world.py`); nothing else ever does.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, int, int]
Affine = NDArray[np.float64]

DIRECTION_TOLERANCE = 1e-3  # of a direction cosine and, relatively, of a spacing
ORIGIN_TOLERANCE = 0.1  # voxels


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels of an image lie: `shape` (D, H, W) and `affine` (4, 4), index (d, h, w) to RAS+ mm."""

    shape: Shape
    affine: Affine

    def __post_init__(self) -> None:
        shape = tuple(int(size) for size in self.shape)
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"a grid has three sizes (D, H, W), each 1 or more, got {self.shape}")
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", checked_affine(self.affine))

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxel centres along (D, H, W)."""
        d, h, w = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(d), float(h), float(w)

    @cached_property
    def direction(self) -> NDArray[np.float64]:
        """(3, 3): column k is the unit vector, in RAS, along which index k of (d, h, w) grows."""
        return self.affine[:3, :3] / np.asarray(self.spacing_mm)

    @property
    def origin_mm(self) -> NDArray[np.float64]:
        """(3,) RAS position of the centre of voxel (0, 0, 0)."""
        return self.affine[:3, 3]

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000

    def index_to_world(self, index: NDArray[Any]) -> NDArray[np.float64]:
        """Indices (N, 3) as (d, h, w), fractions allowed, to RAS mm (N, 3)."""
        return np.asarray(index, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def world_to_index(self, points_mm: NDArray[Any]) -> NDArray[np.float64]:
        """RAS mm (N, 3) to fractional indices (N, 3) as (d, h, w)."""
        offsets = np.asarray(points_mm, dtype=np.float64) - self.affine[:3, 3]
        return offsets @ np.linalg.inv(self.affine[:3, :3]).T

    def corners_mm(self) -> NDArray[np.float64]:
        """(8, 3) RAS positions of the outer corners, that is of voxel edges, not of voxel centres."""
        ends = [(-0.5, size - 0.5) for size in self.shape]
        return self.index_to_world(np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1).reshape(8, 3))

    def box(self, start: Shape, stop: Shape) -> "Grid":
        """The grid of the voxels start <= index < stop."""
        affine = self.affine.copy()
        affine[:3, 3] = self.index_to_world(np.asarray([start]))[0]
        return Grid((stop[0] - start[0], stop[1] - start[1], stop[2] - start[2]), affine)


class _OnGrid:
    """What a volume, a label map and a mask stack share: an array whose last three axes are (D, H, W)."""

    array: NDArray[Any]
    affine: Affine

    @cached_property
    def grid(self) -> Grid:
        return Grid(self.shape, self.affine)

    @property
    def shape(self) -> Shape:
        """(D, H, W), also of a mask stack."""
        d, h, w = self.array.shape[-3:]
        return d, h, w

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        return self.grid.spacing_mm


@dataclass(frozen=True, eq=False)
class Volume(_OnGrid):
    """A CT in Hounsfield units: `array` (D, H, W) float32 or int16."""

    array: NDArray[Any]
    affine: Affine

    def __post_init__(self) -> None:
        _check_array("volume", self.array, 3, "float32 or int16", self.array.dtype in (np.float32, np.int16))
        object.__setattr__(self, "affine", checked_affine(self.affine))


@dataclass(frozen=True, eq=False)
class LabelMap(_OnGrid):
    """One label a voxel, 0 is background: `array` (D, H, W) of integers."""

    array: NDArray[Any]
    affine: Affine

    def __post_init__(self) -> None:
        _check_array("label map", self.array, 3, "integers", np.issubdtype(self.array.dtype, np.integer))
        object.__setattr__(self, "affine", checked_affine(self.affine))


@dataclass(frozen=True, eq=False)
class MaskStack(_OnGrid):
    """One mask a structure, which may overlap: `array` (S, D, H, W) bool, `structures` their S names."""

    array: NDArray[np.bool_]
    affine: Affine
    structures: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_array("mask stack", self.array, 4, "bool", self.array.dtype == np.bool_)
        object.__setattr__(self, "affine", checked_affine(self.affine))
        object.__setattr__(self, "structures", tuple(self.structures))
        if len(self.structures) != len(self.array) or len(set(self.structures)) != len(self.structures):
            raise ValueError(f"{len(self.array)} masks need as many different names, got {self.structures}")

    def mask(self, structure: str) -> NDArray[np.bool_]:
        """(D, H, W) bool of one structure."""
        if structure not in self.structures:
            raise ValueError(f"no mask of {structure!r}; there are {', '.join(self.structures) or 'none'}")
        return self.array[self.structures.index(structure)]


def checked_affine(affine: NDArray[Any]) -> Affine:
    """A read-only float64 copy; ValueError for what cannot place a voxel."""
    matrix = np.array(affine, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or np.any(matrix[3] != (0, 0, 0, 1)):
        raise ValueError(f"an affine is a finite 4 x 4 matrix with last row 0 0 0 1, got {matrix.tolist()}")
    # In units of the spacing, so that fine spacings are not taken for a lost axis.
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    if lengths.min() == 0 or abs(np.linalg.det(matrix[:3, :3] / lengths)) < 1e-3:
        raise ValueError(f"the affine's axes do not span the space: {matrix[:3, :3].tolist()}")
    matrix.setflags(write=False)
    return matrix


def grid_differences(reference: Grid, other: Grid) -> list[str]:
    """What sets two grids apart beyond 1e-3 in direction or spacing and 0.1 voxel in origin, in words; else []."""
    if reference.shape != other.shape:
        return [f"shape (D, H, W) is {other.shape} against {reference.shape}"]
    differences = []
    if np.abs(reference.direction - other.direction).max() > DIRECTION_TOLERANCE:
        cosines = np.clip(np.sum(reference.direction * other.direction, axis=0), -1, 1)
        degrees = ", ".join(f"{angle:.2f}" for angle in np.degrees(np.arccos(cosines)))
        differences.append(f"axes (d, h, w) are turned by {degrees} degrees")
    ratio = np.asarray(other.spacing_mm) / np.asarray(reference.spacing_mm)
    if np.abs(ratio - 1).max() > DIRECTION_TOLERANCE:
        differences.append(f"spacing is {_mm(other.spacing_mm)} against {_mm(reference.spacing_mm)} mm")
    offset_mm = other.origin_mm - reference.origin_mm
    # Along the reference's own axes, in its voxels.
    if np.abs((reference.direction.T @ offset_mm) / np.asarray(reference.spacing_mm)).max() > ORIGIN_TOLERANCE:
        differences.append(f"origin is off by {float(np.linalg.norm(offset_mm)):.2f} mm")
    return differences


def check_same_grid(reference: Grid, other: Grid, name: str = "label map", reference_name: str = "its CT") -> None:
    """ValueError that names mm and degrees unless both grids are one (see `grid_differences`)."""
    differences = grid_differences(reference, other)
    if differences:
        raise ValueError(
            f"{name} does not lie on the grid of {reference_name}: {'; '.join(differences)}. "
            "Export both on one grid, or resample it first: resample_like(x, grid)"
        )


def _check_array(name: str, array: NDArray[Any], axes: int, kind: str, is_kind: bool) -> None:
    if array.ndim != axes or not is_kind or not array.dtype.isnative:
        raise ValueError(f"a {name} is an array of {axes} axes of {kind}, got {array.dtype} {array.shape}")


def _mm(lengths: tuple[float, float, float]) -> str:
    return " x ".join(f"{length:.4g}" for length in lengths)
