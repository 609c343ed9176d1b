"""A mask's slice to closed polygons along its voxels' edges, so that filling them gives back the same mask."""

import numpy as np
from numpy.typing import NDArray

# Directions in turning order, clockwise where h points down and w right: right, down, left, up.
_STEPS = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])


def mask_to_contours(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Polygons (N, 2) of a mask (H, W): corners (h, w) in voxels, at half-integer positions, collinear ones left out.

    The mask lies to the right of each outline: around holes the polygon runs the other way. Voxels that touch at
    a corner alone get polygons of their own, so that no outer outline touches itself.
    """
    edges, following = _linked_edges(np.asarray(mask, dtype=bool))
    return [_corners(edges, loop) for loop in _loops(following)]


def _linked_edges(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Edges between mask and background as (direction, start h, start w) and, for each, the edge that follows it.

    Corner (h, w) is the upper left one of voxel (h, w), at position (h - 0.5, w - 0.5).
    """
    inside = np.pad(mask, 1)
    core = inside[1:-1, 1:-1]
    starts = np.zeros((4, mask.shape[0] + 1, mask.shape[1] + 1), dtype=bool)
    starts[0, :-1, :-1] = core & ~inside[:-2, 1:-1]  # along the top, to the right
    starts[1, :-1, 1:] = core & ~inside[1:-1, 2:]  # down the right side
    starts[2, 1:, 1:] = core & ~inside[2:, 1:-1]  # along the bottom, to the left
    starts[3, 1:, :-1] = core & ~inside[1:-1, :-2]  # up the left side
    edges = np.argwhere(starts)
    number = np.full(starts.shape, -1)
    number[starts] = np.arange(len(edges))
    ends = edges[:, 1:] + _STEPS[edges[:, 0]]
    following = np.full(len(edges), -1)
    # A right turn first: where two voxels meet at a corner, the outline stays with its own. Later choices come first
    # here and are overwritten.
    for turn in (3, 0, 1):
        candidate = number[(edges[:, 0] + turn) % 4, ends[:, 0], ends[:, 1]]
        following = np.where(candidate >= 0, candidate, following)
    return edges, following


def _loops(following: NDArray[np.int64]) -> list[list[int]]:
    """The cycles of the permutation `following`."""
    successor = following.tolist()
    is_done = [False] * len(successor)
    loops = []
    for first in range(len(successor)):
        loop = []
        edge = first
        while not is_done[edge]:
            is_done[edge] = True
            loop.append(edge)
            edge = successor[edge]
        if loop:
            loops.append(loop)
    return loops


def _corners(edges: NDArray[np.int64], loop: list[int]) -> NDArray[np.float64]:
    along = edges[loop]
    is_corner = along[:, 0] != np.roll(along[:, 0], 1)
    return along[is_corner, 1:].astype(np.float64) - 0.5
