"""One patch as it is, as the network saw it, and as it was reconstructed: the report's figure of masked pretraining."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medpipe.geometry.atomic import written_beside
from medpipe.tasks.blocks import join_blocks, split_blocks
from medpipe.tasks.masked_pretraining import MaskedPretraining
from medpipe.tasks.segmentation_network import lay_out_input


@torch.no_grad()
def reconstruct(task: MaskedPretraining, volume: Tensor, *, number: int = 0) -> tuple[Tensor, Tensor]:
    """The reconstruction of a normalised patch (1, D, H, W), and which voxels were hidden; both (D, H, W).

    Hidden blocks are brought back to the image by their own mean and SD; visible ones are the patch's own.
    """
    was_training = task.training
    task.eval()
    batch = lay_out_input(volume[None].to(task.device))
    is_hidden = task.random_mask(batch.shape[2:], number=number).to(batch.device)
    target = task.target(batch)
    predicted = target.to_image(split_blocks(task.network(batch, is_hidden).float(), task.block))
    original = split_blocks(batch.float(), task.block)
    hidden_voxels = is_hidden.view(1, -1, 1).expand_as(original)
    size = batch.shape[2:]
    image = join_blocks(torch.where(hidden_voxels, predicted, original), size, task.block)
    mask = join_blocks(hidden_voxels, size, task.block)
    task.train(was_training)
    return image[0, 0].cpu(), mask[0, 0].cpu()


def write_reconstruction(
    path: Path, task: MaskedPretraining, volume: Tensor, *, case_id: str, mean_hu: float, sd_hu: float, number: int = 0
) -> None:
    """Write case_id, original, masked (hidden voxels NaN) and reconstructed, (D, H, W) float32 HU, to an .npz file."""
    image, is_hidden = reconstruct(task, volume, number=number)
    original = volume[0].float().cpu()
    to_hu = [(array * sd_hu + mean_hu).numpy().astype(np.float32) for array in (original, image)]
    masked = np.where(is_hidden.numpy(), np.float32(np.nan), to_hu[0])
    with written_beside(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, case_id=case_id, original=to_hu[0], masked=masked, reconstructed=to_hu[1])
