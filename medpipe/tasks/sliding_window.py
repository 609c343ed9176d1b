"""Probabilities of a volume, slice after slice, from overlapping windows with Gaussian weights.

Only the windows' own depth is held: slices that no later window covers are finished, handed out and forgotten. Memory
is outputs x patch depth x height x width, whatever the depth of the volume.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from medpipe.tasks.options import PredictionConfig
from medpipe.tasks.segmentation_network import Output, lay_out, lay_out_input

AXES = {"depth": 2, "height": 3, "width": 4}  # of (B, C, D, H, W)
SIGMA_SHARE = 1 / 8  # of the patch; nnU-Net's
SMALLEST_WEIGHT = 1e-3  # of the largest, along one axis: no voxel may be divided by next to nothing


class PredictionStopped(Exception):
    """The caller asked to stop between two windows."""


def window_starts(size: int, patch: int, overlap: float) -> list[int]:
    """First voxels of the windows along one axis: evenly spread, at most patch x (1 - overlap) apart (nnU-Net)."""
    if size <= patch:
        return [0]
    count = math.ceil((size - patch) / max(patch * (1 - overlap), 1)) + 1
    return [round(index * (size - patch) / (count - 1)) for index in range(count)]


def gaussian_weights(patch: int) -> Tensor:
    """(patch,) weights along one axis: 1 at the centre, sigma = patch / 8. Those of a window are their product."""
    position = torch.arange(patch, dtype=torch.float64) - (patch - 1) / 2
    return torch.exp(-0.5 * (position / (patch * SIGMA_SHARE)) ** 2).clamp(min=SMALLEST_WEIGHT).float()


@final
class SlidingWindow:
    """Windows over one prepared volume (D, H, W); smaller volumes are padded with air.

    The volume may be mapped from disk and need not be normalised: `normalise` is applied to each window.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        image: np.ndarray,
        *,
        patch_size: tuple[int, int, int],
        output: Output,
        air: float,
        normalise: Callable[[np.ndarray], np.ndarray] | None = None,
        config: PredictionConfig,
        device: torch.device | str = "cpu",
        should_stop: Callable[[], bool] | None = None,
        on_windows: Callable[[int, int], Any] | None = None,
    ) -> None:
        """air: of the volume as it comes, before `normalise`. on_windows(done, total): after each batch of windows."""
        self.networks, self.patch, self.config = networks, patch_size, config
        self.output: Output = output
        self.device = torch.device(device)
        self.normalise, self.should_stop, self.on_windows = normalise, should_stop, on_windows
        self.size = image.shape
        padding = [max(patch - size, 0) for patch, size in zip(patch_size, self.size, strict=True)]
        # In the middle, so that the organ borders of a small field of view have air on both sides alike.
        self.before = tuple(missing // 2 for missing in padding)
        widths = [(first, missing - first) for first, missing in zip(self.before, padding, strict=True)]
        self.image = np.pad(image, widths, constant_values=air) if any(padding) else image
        self.starts = [
            window_starts(size, patch, config.overlap) for size, patch in zip(self.image.shape, patch_size, strict=True)
        ]
        for network in networks:
            lay_out(network, self.device)
        self.num_windows = math.prod(len(starts) for starts in self.starts)
        self.half = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}.get(config.precision)
        self._mirrors = mirror_combinations(config)
        self._weights = [gaussian_weights(patch) for patch in patch_size]

    def slices(self) -> Iterator[Tensor]:
        """(outputs, H, W) probabilities of slice 0, 1, ... of the volume, on `device`.

        Probabilities, not logits, are averaged over windows, mirrored forms and networks, so that no member of an
        ensemble outvotes the others by the size of its logits. Raises PredictionStopped.
        """
        first, last = self.before[0], self.before[0] + self.size[0]
        crop = tuple(slice(start, start + size) for start, size in zip(self.before[1:], self.size[1:], strict=True))
        for number, plane in enumerate(self._padded_slices()):
            if first <= number < last:
                yield plane[:, crop[0], crop[1]]

    def _padded_slices(self) -> Iterator[Tensor]:
        in_plane = self._in_plane_weight()
        depth_weight = self._weights[0].to(self.device)
        slab: Tensor | None = None
        weight = torch.zeros(self.patch[0], device=self.device)
        done = 0
        for row, start in enumerate(self.starts[0]):
            sums, done = self._row_of_windows(start, slab, depth_weight, done)
            slab = sums
            weight += depth_weight
            is_last = row + 1 == len(self.starts[0])
            num_finished = self.patch[0] if is_last else self.starts[0][row + 1] - start
            for depth in range(num_finished):
                yield slab[:, depth] / (in_plane * weight[depth])
            slab, weight = _shifted(slab, num_finished, axis=1), _shifted(weight, num_finished, axis=0)

    def _row_of_windows(self, start: int, slab: Tensor | None, depth_weight: Tensor, done: int) -> tuple[Tensor, int]:
        """Add all windows that begin at depth `start` to the slab (outputs, patch depth, H, W)."""
        _, ph, pw = self.patch
        window = depth_weight[:, None, None] * self._plane_of_weights()
        places = list(product(self.starts[1], self.starts[2]))
        for first in range(0, len(places), self.config.windows_per_batch):
            if self.should_stop is not None and self.should_stop():
                raise PredictionStopped
            batch = places[first : first + self.config.windows_per_batch]
            cut = [self.image[start : start + self.patch[0], h : h + ph, w : w + pw] for h, w in batch]
            probabilities = self._probabilities(cut)
            if slab is None:
                shape = (probabilities.shape[1], self.patch[0], *self.image.shape[1:])
                slab = torch.zeros(shape, device=self.device)
            for (h, w), values in zip(batch, probabilities, strict=True):
                slab[:, :, h : h + ph, w : w + pw].addcmul_(values, window)
            done += len(batch)
            if self.on_windows is not None:
                self.on_windows(done, self.num_windows)
        assert slab is not None
        return slab, done

    @torch.no_grad()
    def _probabilities(self, cut: Sequence[np.ndarray]) -> Tensor:
        """(B, outputs, D, H, W), the mean over networks and mirrored forms."""
        normalised = cut if self.normalise is None else [self.normalise(window) for window in cut]
        stacked = np.stack(normalised)[:, None].astype(np.float32, copy=False)
        windows = lay_out_input(torch.from_numpy(stacked).to(self.device))
        total: Tensor | None = None
        for network, axes in product(self.networks, self._mirrors):
            with torch.autocast(self.device.type, self.half, enabled=self.half is not None):
                logits = network(windows.flip(axes) if axes else windows)
            values = to_probabilities(logits.float().flip(axes) if axes else logits.float(), self.output)
            total = values if total is None else total.add_(values)
        assert total is not None, "at least one network"
        return total.div_(len(self.networks) * len(self._mirrors))

    def _plane_of_weights(self) -> Tensor:
        return (self._weights[1][:, None] * self._weights[2][None]).to(self.device)

    def _in_plane_weight(self) -> Tensor:
        """(H, W) sum of the weights of all windows of a row: windows form a grid, so the sums are products too."""
        sums = []
        for starts, patch, weights, size in zip(
            self.starts[1:], self.patch[1:], self._weights[1:], self.image.shape[1:], strict=True
        ):
            total = torch.zeros(size)
            for start in starts:
                total[start : start + patch] += weights
            sums.append(total)
        return (sums[0][:, None] * sums[1][None]).to(self.device)


def to_probabilities(logits: Tensor, output: Output) -> Tensor:
    """softmax over axis 1, or sigmoid of each output."""
    return functional.softmax(logits, dim=1) if output == "softmax" else torch.sigmoid(logits)


def mirror_combinations(config: PredictionConfig) -> list[tuple[int, ...]]:
    """Axes (of B, C, D, H, W) to flip, every combination of the mirrored ones, none first."""
    axes = [AXES[name] for name in config.mirror_axes]
    choices = product(*((False, True) for _ in axes))
    return [tuple(axis for axis, is_flipped in zip(axes, flips, strict=True) if is_flipped) for flips in choices]


def _shifted(sums: Tensor, count: int, *, axis: int) -> Tensor:
    """The sums without their first `count` entries along `axis`, zeros at the end; in place, to keep one slab alone."""
    size = sums.shape[axis]
    for index in range(size - count):
        sums.select(axis, index).copy_(sums.select(axis, index + count))
    sums.narrow(axis, size - count, count).zero_()
    return sums
