"""Label maps and masks of whole cases, on the grid that the CT came on."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from medpipe.datasets.preprocessing import AIR_HU, STORED_HU, Preprocessing
from medpipe.geometry.orientation import canonical_grid, from_canonical, to_canonical
from medpipe.geometry.resampling import resample_volume, resampled_grid
from medpipe.geometry.volume import Grid, LabelMap, MaskStack, Volume
from medpipe.tasks.options import PredictionConfig
from medpipe.tasks.segmentation_network import Output
from medpipe.tasks.slice_resampling import label_type, resampled_slices
from medpipe.tasks.sliding_window import SlidingWindow


def predict_case(
    networks: Sequence[nn.Module],
    volume: Volume,
    preprocessing: Preprocessing,
    *,
    patch_size: tuple[int, int, int],
    output: Output,
    structures: Sequence[str],
    config: PredictionConfig,
    device: torch.device | str = "cpu",
    should_stop: Callable[[], bool] | None = None,
    on_windows: Callable[[int, int], Any] | None = None,
) -> LabelMap | MaskStack:
    """The structures of a CT on its own grid: a label map (softmax, 1..S) or a mask stack (sigmoid).

    The mean of the networks' probabilities is interpolated linearly to the original grid and decided there (most
    probable; 0.5 and above). No float array of the whole volume and all outputs ever exists. Raises PredictionStopped.
    """
    canonical = canonical_grid(volume.grid)
    image, prepared = prepare_volume(volume, preprocessing)
    windows = SlidingWindow(
        networks,
        image,
        patch_size=patch_size,
        output=output,
        air=AIR_HU,
        normalise=preprocessing.normalise,
        config=config,
        device=device,
        should_stop=should_stop,
        on_windows=on_windows,
    )
    labels = resampled_slices(windows.slices(), prepared, canonical, output)
    found = assemble(labels, canonical, output, structures)
    if isinstance(found, LabelMap):
        return from_canonical(found, volume.grid)
    return from_canonical(found, volume.grid)


def predict_prepared(
    networks: Sequence[nn.Module],
    image: np.ndarray,
    preprocessing: Preprocessing,
    *,
    patch_size: tuple[int, int, int],
    output: Output,
    structures: Sequence[str],
    config: PredictionConfig,
    device: torch.device | str = "cpu",
    should_stop: Callable[[], bool] | None = None,
) -> np.ndarray:
    """The structures of a prepared image (D, H, W) HU on its own, prepared grid: for validation within a training.

    Returns (D, H, W) labels or (S, D, H, W) bool. Raises PredictionStopped.
    """
    windows = SlidingWindow(
        networks,
        image,
        patch_size=patch_size,
        output=output,
        air=AIR_HU,
        normalise=preprocessing.normalise,
        config=config,
        device=device,
        should_stop=should_stop,
    )
    d, h, w = image.shape
    grid = Grid((d, h, w), np.eye(4))
    return assemble(resampled_slices(windows.slices(), grid, grid, output), grid, output, structures).array


def prepare_volume(volume: Volume, preprocessing: Preprocessing) -> tuple[np.ndarray, Grid]:
    """The volume as training saw its kind: canonical axes, resampled, HU clipped and rounded to int16; and its grid."""
    canonical = to_canonical(Volume(np.clip(volume.array, *STORED_HU), volume.affine))
    grid = resampled_grid(canonical.grid, preprocessing.spacing_mm)
    hu = resample_volume(canonical, grid, interpolation=preprocessing.interpolation).array
    return np.clip(np.rint(hu), *STORED_HU).astype(np.int16), grid


def assemble(
    slices: Iterable[np.ndarray], grid: Grid, output: Output, structures: Sequence[str]
) -> LabelMap | MaskStack:
    """Slices in order to one image on `grid`."""
    if output == "softmax":
        labels = np.empty(grid.shape, dtype=label_type(1 + len(structures)))
        for depth, plane in enumerate(slices):
            labels[depth] = plane
        return LabelMap(labels, grid.affine)
    masks = np.empty((len(structures), *grid.shape), dtype=bool)
    for depth, plane in enumerate(slices):
        masks[:, depth] = plane
    return MaskStack(masks, grid.affine, tuple(structures))
