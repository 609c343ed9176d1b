"""Probabilities from the prepared grid to another one of the same axes, one slice at a time, and the labels there."""

from collections.abc import Iterable, Iterator
from typing import final

import numpy as np
import torch
from torch import Tensor

from medpipe.geometry.volume import Grid
from medpipe.tasks.segmentation_network import Output

OUTPUTS_AT_A_TIME = 16  # float32 planes of the target grid held together


@final
class AxisWeights:
    """Linear interpolation along one axis: two neighbours and the upper one's share; ends are repeated."""

    def __init__(self, positions: np.ndarray, size: int, device: torch.device) -> None:
        """positions: of the target's voxels, in voxels of the source, which has `size`."""
        inside = np.clip(positions, 0, size - 1)
        below = np.minimum(np.floor(inside).astype(np.int64), max(size - 2, 0))
        above = np.minimum(below + 1, size - 1)
        self.below_index, self.above_index, self.share_above = below, above, (inside - below).astype(np.float32)
        self.below = torch.from_numpy(below).to(device)
        self.above = torch.from_numpy(above).to(device)
        self.share = torch.from_numpy(self.share_above).to(device)
        self.is_identity = len(below) == size and np.array_equal(positions, np.arange(size))

    def apply(self, x: Tensor, axis: int) -> Tensor:
        """`x` at the target's positions along `axis`."""
        if self.is_identity:
            return x
        shape = [1] * x.ndim
        shape[axis] = -1
        return torch.lerp(x.index_select(axis, self.below), x.index_select(axis, self.above), self.share.view(shape))


def axis_positions(source: Grid, target: Grid) -> list[np.ndarray]:
    """Per axis (D, H, W): positions of the target's voxels in voxels of the source. The grids' axes must agree."""
    steps = np.linalg.solve(source.affine[:3, :3], target.affine[:3, :3])
    assert np.allclose(steps, np.diag(np.diag(steps)), atol=1e-3), "grids are turned against each other"
    first = source.world_to_index(target.origin_mm[None])[0]
    positions = [first[axis] + steps[axis, axis] * np.arange(target.shape[axis]) for axis in range(3)]
    # What rounding in an affine leaves of a whole number.
    return [np.where(np.abs(p - np.rint(p)) < 1e-5, np.rint(p), p) for p in positions]


def resampled_slices(slices: Iterable[Tensor], source: Grid, target: Grid, output: Output) -> Iterator[np.ndarray]:
    """Labels of each slice of `target` from the probabilities (outputs, h, w) of each slice of `source`, in order.

    softmax: (H, W) uint8 or uint16, the most probable, the lower on a tie; sigmoid: (S, H, W) bool, 0.5 and above.
    Two slices of the source are held, and a few planes of the target.
    """
    depth_positions, height_positions, width_positions = axis_positions(source, target)
    held: dict[int, Tensor] = {}
    arriving = enumerate(slices)
    height = width = None
    depth = AxisWeights(depth_positions, source.shape[0], torch.device("cpu"))
    for below, above, share in zip(depth.below_index, depth.above_index, depth.share_above, strict=True):
        while above not in held:
            number, plane = next(arriving)
            held[number] = plane
            for old in [number for number in held if number < below]:
                del held[old]
        if height is None or width is None:
            device = held[above].device
            height = AxisWeights(height_positions, source.shape[1], device)
            width = AxisWeights(width_positions, source.shape[2], device)
        plane = torch.lerp(held[below], held[above], float(share)) if share else held[below]
        yield decide(plane, height, width, output)
    for _ in arriving:  # let the windows beyond the target end, and say so to who counts them
        pass


def decide(plane: Tensor, height: AxisWeights, width: AxisWeights, output: Output) -> np.ndarray:
    """Labels of one target slice, a few outputs at a time."""
    if output == "sigmoid":
        parts = [width.apply(height.apply(part, 1), 2) >= 0.5 for part in plane.split(OUTPUTS_AT_A_TIME)]
        return torch.cat(parts).cpu().numpy()
    best: Tensor | None = None
    labels: Tensor | None = None
    for first in range(0, len(plane), OUTPUTS_AT_A_TIME):
        part = width.apply(height.apply(plane[first : first + OUTPUTS_AT_A_TIME], 1), 2)
        value, label = part.max(dim=0)
        if best is None or labels is None:
            best, labels = value, label
        else:
            is_better = value > best
            best, labels = torch.where(is_better, value, best), torch.where(is_better, label + first, labels)
    assert labels is not None
    return labels.cpu().numpy().astype(label_type(len(plane)))


def label_type(num_outputs: int) -> type[np.unsignedinteger]:
    """uint8 for up to 256 labels with the background, else uint16."""
    return np.uint8 if num_outputs <= 256 else np.uint16
