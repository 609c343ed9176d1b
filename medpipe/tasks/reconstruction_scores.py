"""How well hidden blocks of a whole volume are reconstructed, beside what knowing each block's mean would give."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np
import torch
from torch import Tensor

from medpipe.tasks.blocks import split_blocks
from medpipe.tasks.checkpoints import CHECKPOINT_FILE, load_state
from medpipe.tasks.masked_pretraining import MaskedPretraining, build_masked_autoencoder
from medpipe.tasks.model_record import ModelRecord
from medpipe.tasks.segmentation_network import lay_out_input
from medpipe.tasks.sliding_window import window_starts
from medpipe.tasks.weights import load_tensors

if TYPE_CHECKING:
    from medpipe.datasets.preprocessing import Preprocessing

DEFINITION = "medpipe-reconstruction-1"
DEFINITIONS = {
    "reconstruction loss": "Mean squared error over the voxels of hidden blocks, each block less its mean over its SD "
    "where the training's target was so (masking method sparse), flat blocks left out where the training left them "
    "out. The volume is cut into patches of the training's size side by side; masks are keyed by the patch's number.",
    "loss of the block mean": "The same of a reconstruction that knows each hidden block's mean and nothing else.",
    "explained share": "1 less the first over the second: the share of the variance inside hidden blocks that the "
    "network explains. 0: no better than the mean; 1: exact.",
    "error": "Mean absolute error over the voxels of hidden blocks in HU, within the intensity window of the training, "
    "and the same for the block mean.",
}


@final
@dataclass(frozen=True)
class ReconstructionScore:
    """One volume; NaN where none of its hidden blocks counts."""

    num_blocks: int  # hidden ones that count
    reconstruction_loss: float
    block_mean_loss: float
    error_hu: float
    block_mean_error_hu: float

    @property
    def explained_share(self) -> float:
        return 1 - self.reconstruction_loss / self.block_mean_loss if self.block_mean_loss else math.nan


def load_pretraining(folder: Path, record: ModelRecord) -> MaskedPretraining:
    """The autoencoder of a finished pretraining with its decoder, in eval mode.

    The handed-over weights are the encoder alone: the decoder is in the checkpoint beside them. Raises ValueError where
    that is missing, or of other weights.
    """
    if record.kind != "masked_pretraining" or record.masking is None:
        raise ValueError(f"{folder}: holds a model of kind {record.kind!r}, one of 'masked_pretraining' is expected")
    path = folder / CHECKPOINT_FILE
    if not path.is_file():
        raise ValueError(
            f"{path}: no such file; {folder} hands over the encoder alone, and a reconstruction needs the decoder too: "
            "give the folder in the run where the pretraining was done"
        )
    network = build_masked_autoencoder(record.backbone, record.masking, in_channels=record.in_channels)
    task = MaskedPretraining(network, record.masking, sd_hu=record.preprocessing["intensity"]["sd_hu"])
    state = load_state(path)
    task.load_state_dict(state["weights"])
    if state["average"] is not None:
        task.network.load_state_dict(state["average"])
    own = task.network.state_dict()
    differing = [name for name, tensor in load_tensors(folder).items() if not torch.equal(own[name], tensor)]
    if differing:
        raise ValueError(f"{path}: not of the weights beside it, {len(differing)} tensors differ, first {differing[0]}")
    return task.eval()


@torch.no_grad()
def score_volume(
    task: MaskedPretraining, hu: np.ndarray, preprocessing: "Preprocessing", patch_size: tuple[int, int, int]
) -> ReconstructionScore:
    """The scores of a prepared volume (D, H, W) in HU; smaller ones are padded with air."""
    sums = np.zeros(4)
    num_blocks = 0
    for number, patch in enumerate(_patches(hu, preprocessing, patch_size)):
        volume = lay_out_input(patch.to(task.device))
        is_hidden = task.random_mask(volume.shape[2:], number=number).to(volume.device)
        target = task.target(volume)
        predicted = split_blocks(task.network(volume, is_hidden).float(), task.block)
        counted = is_hidden.view(1, -1)
        if task.masking.skip_flat_blocks:
            counted = counted & ~target.is_flat
        original = split_blocks(volume.float(), task.block)
        mean = target.blocks.mean(dim=2, keepdim=True)
        sd_hu = preprocessing.intensity.sd_hu
        parts = (
            (predicted - target.blocks).square(),
            (mean - target.blocks).square(),
            (target.to_image(predicted) - original).abs() * sd_hu,
            (target.to_image(mean) - original).abs() * sd_hu,
        )
        sums += [float(part.mean(dim=2)[counted].sum(dtype=torch.float64)) for part in parts]
        num_blocks += int(counted.sum())
    means = sums / num_blocks if num_blocks else np.full(4, math.nan)
    return ReconstructionScore(num_blocks, *(float(value) for value in means))


def _patches(hu: np.ndarray, preprocessing: "Preprocessing", size: tuple[int, int, int]) -> Iterator[Tensor]:
    """(1, 1, *size) normalised, side by side over the volume."""
    starts = [window_starts(edge, side, 0.0) for edge, side in zip(hu.shape, size, strict=True)]
    for start in product(*starts):
        cut = hu[tuple(slice(first, first + side) for first, side in zip(start, size, strict=True))]
        missing = [(0, side - edge) for side, edge in zip(size, cut.shape, strict=True)]
        values = np.pad(preprocessing.normalise(np.asarray(cut)), missing, constant_values=preprocessing.air_value)
        yield torch.from_numpy(values)[None, None]
