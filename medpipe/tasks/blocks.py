"""Blocks of a volume: which are hidden, what is asked of them, and what a reconstruction of them costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

Size = tuple[int, int, int]

# Keeps the draws of masks apart from those of patches, which are keyed by (seed, sample) as well.
MASK_STREAM = 0x6D61736B


def block_grid(size: Sequence[int], block: Size) -> Size:
    """Blocks (d, h, w) of a patch of `size`; ValueError where they do not fit or nothing could stay visible."""
    if any(edge % side for edge, side in zip(size, block, strict=True)):
        raise ValueError(f"patch {tuple(size)} (D, H, W) is no whole number of blocks of {block}; change patches.size")
    d, h, w = (edge // side for edge, side in zip(size, block, strict=True))
    if d * h * w < 2:
        raise ValueError(
            f"patch {tuple(size)} (D, H, W) is a single block of {block}: one must be hidden and one visible; "
            "double one side of patches.size"
        )
    return d, h, w


def num_hidden_blocks(num_blocks: int, mask_ratio: float) -> int:
    """The same number in every sample; at least one hidden, at least one visible."""
    return min(max(round(mask_ratio * num_blocks), 1), num_blocks - 1)


def keyed_scores(num_samples: int, num_blocks: int, *, seed: int, first_sample: int, draw: int) -> Tensor:
    """(B, blocks) uniform numbers that depend on (seed, draw, sample number) alone. float64: ties do not occur."""
    return torch.from_numpy(
        np.stack(
            [
                np.random.default_rng([seed, MASK_STREAM, draw, first_sample + index]).random(num_blocks)
                for index in range(num_samples)
            ]
        )
    )


def hide_highest(scores: Tensor, num_hidden: int) -> Tensor:
    """(B, blocks) bool: the `num_hidden` highest scores of each sample."""
    is_hidden = torch.zeros_like(scores, dtype=torch.bool)
    return is_hidden.scatter_(1, scores.topk(num_hidden, dim=1).indices, True)


def hide_hard(losses: Tensor, scores: Tensor, *, num_hard: int, num_hidden: int) -> Tensor:
    """(B, blocks) bool: the `num_hard` blocks of highest loss, the rest of `num_hidden` by the highest scores (< 1)."""
    is_hard = hide_highest(losses, num_hard) if num_hard else torch.zeros_like(losses, dtype=torch.bool)
    return hide_highest(scores + is_hard, num_hidden)


def split_blocks(volume: Tensor, block: Size) -> Tensor:
    """(B, 1, D, H, W) to (B, blocks, voxels of a block)."""
    b, _, d, h, w = volume.shape
    split = volume.reshape(b, d // block[0], block[0], h // block[1], block[1], w // block[2], block[2])
    return split.permute(0, 1, 3, 5, 2, 4, 6).reshape(b, -1, block[0] * block[1] * block[2])


def join_blocks(blocks: Tensor, size: Sequence[int], block: Size) -> Tensor:
    """The inverse of `split_blocks`; size: (D, H, W)."""
    d, h, w = (edge // side for edge, side in zip(size, block, strict=True))
    split = blocks.reshape(len(blocks), d, h, w, *block).permute(0, 1, 4, 2, 5, 3, 6)
    return split.reshape(len(blocks), 1, *size)


@final
@dataclass(frozen=True)
class BlockTarget:
    """What a network is asked to reconstruct, in blocks (B, blocks, voxels), and how it turns back into the image."""

    blocks: Tensor
    mean: Tensor  # (B, blocks, 1)
    scale: Tensor  # (B, blocks, 1)
    is_flat: Tensor  # (B, blocks)

    def to_image(self, reconstructed: Tensor) -> Tensor:
        """Blocks of a reconstruction in the units of the volume."""
        return reconstructed * self.scale + self.mean


def normalised_target(volume: Tensor, block: Size, *, floor: float) -> BlockTarget:
    """Each block less its mean over its SD (SparK), the SD never below `floor` (in the volume's units).

    Without the floor a block of air or table is noise blown up a thousand times. Flat: SD below floor / 20.
    """
    blocks = split_blocks(volume.float(), block)
    mean = blocks.mean(dim=2, keepdim=True)
    sd = blocks.std(dim=2, keepdim=True, correction=0)
    scale = sd.clamp(min=floor)
    return BlockTarget((blocks - mean) / scale, mean, scale, sd[..., 0] < floor / 20)


def plain_target(volume: Tensor, block: Size, *, floor: float) -> BlockTarget:
    """The volume's own values: the target of a plain masked autoencoder."""
    blocks = split_blocks(volume.float(), block)
    zero = torch.zeros_like(blocks[..., :1])
    return BlockTarget(blocks, zero, zero + 1, blocks.std(dim=2, correction=0) < floor / 20)


def block_losses(reconstruction: Tensor, target: BlockTarget, block: Size) -> Tensor:
    """(B, blocks) mean squared error of each block, float32."""
    return (split_blocks(reconstruction.float(), block) - target.blocks).square().mean(dim=2)


def mean_over(losses: Tensor, is_counted: Tensor, count: Tensor | None = None) -> Tensor:
    """The mean of the counted blocks of the whole batch; 0 where none counts.

    count: how many count in the batch that this one is a part of.
    """
    total = is_counted.sum() if count is None else count.to(losses.dtype)
    return torch.where(is_counted, losses, 0.0).sum() / total.clamp(min=1)
