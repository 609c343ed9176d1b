"""Canonical axes (d to Superior, h to Anterior, w to Right) by permuting and flipping alone, and the exact way back."""

from dataclasses import replace
from itertools import permutations
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from medpipe.geometry.volume import Grid, LabelMap, MaskStack, Volume, check_same_grid

OnGrid = TypeVar("OnGrid", Volume, LabelMap, MaskStack)

_CANONICAL_WORLD_AXES = (2, 1, 0)  # of RAS: d runs along S, h along A, w along R


def canonical_grid(grid: Grid) -> Grid:
    """The grid of the same voxels with each axis along the nearest of S, A, R. No voxel moves in the world."""
    axes, flips = _canonical_order(grid)
    affine = np.eye(4)
    affine[:3, :3] = grid.affine[:3, :3][:, list(axes)] * np.where(flips, -1, 1)
    first = [0, 0, 0]
    for axis, is_flipped in zip(axes, flips, strict=True):
        first[axis] = grid.shape[axis] - 1 if is_flipped else 0
    affine[:3, 3] = grid.index_to_world(np.asarray([first]))[0]
    d, h, w = (grid.shape[axis] for axis in axes)
    return Grid((d, h, w), affine)


def to_canonical(image: OnGrid) -> OnGrid:
    """The same voxels with axes d -> Superior, h -> Anterior, w -> Right; oblique axes go to their nearest."""
    axes, flips = _canonical_order(image.grid)
    lead = tuple(range(image.array.ndim - 3))
    moved = image.array.transpose(*lead, *(len(lead) + axis for axis in axes))
    return replace(image, array=_flipped(moved, flips), affine=canonical_grid(image.grid).affine)


def from_canonical(image: OnGrid, grid: Grid) -> OnGrid:
    """What `to_canonical` made of an image on `grid`, back on `grid`. ValueError on any other grid."""
    check_same_grid(canonical_grid(grid), image.grid, "the canonical image", "the original's canonical form")
    axes, flips = _canonical_order(grid)
    lead = tuple(range(image.array.ndim - 3))
    moved = _flipped(image.array, flips).transpose(*lead, *(len(lead) + int(axis) for axis in np.argsort(axes)))
    return replace(image, array=np.ascontiguousarray(moved), affine=grid.affine)


def _canonical_order(grid: Grid) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """For each canonical axis: the axis of `grid` that becomes it, and whether it is turned round.

    Of the six assignments the one with the largest sum of direction cosines, so that a gantry turned by more than 45
    degrees still gets three different axes.
    """
    cosines = grid.direction[list(_CANONICAL_WORLD_AXES)]  # (canonical axis, axis of grid)
    axes = max(permutations(range(3)), key=lambda order: sum(abs(cosines[row, order[row]]) for row in range(3)))
    return axes, tuple(bool(cosines[row, axis] < 0) for row, axis in enumerate(axes))


def _flipped(array: NDArray[Any], flips: tuple[bool, ...]) -> NDArray[Any]:
    """Contiguous, since torch takes no negative strides."""
    lead = array.ndim - 3
    axes = tuple(lead + axis for axis, is_flipped in enumerate(flips) if is_flipped)
    return np.ascontiguousarray(np.flip(array, axes))
