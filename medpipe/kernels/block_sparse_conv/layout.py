"""Between dense volumes and visible blocks: each direction is the other's gradient."""

from typing import Any, final

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from medpipe.kernels.block_sparse_conv.visible_blocks import BlockLevel, as_rows


def to_blocks(volume: Tensor, level: BlockLevel) -> Tensor:
    """The visible blocks (N, C, bd, bh, bw) of volume (B, C, D, H, W), channels last; 0 beyond the volume.

    What hidden voxels hold, be it NaN, has no influence.
    """
    return ToBlocks.apply(volume, level)


def to_volume(blocks: Tensor, level: BlockLevel, fill: Tensor | None = None) -> Tensor:
    """The volume (B, C, D, H, W), channels last; its hidden voxels are `fill` (C,), or 0."""
    return ToVolume.apply(blocks, fill, level)


def gathered(volume: Tensor, level: BlockLevel) -> Tensor:
    pad = [step for size, edge, count in _axes(level)[::-1] for step in (0, edge * count - size)]
    volume = functional.pad(volume, pad) if any(pad) else volume
    return _split(volume, level)[level.grid.places.unbind(1)].permute(0, 4, 1, 2, 3)


def scattered(blocks: Tensor, level: BlockLevel, fill: Tensor | None = None) -> Tensor:
    sides = [edge * count for _, edge, count in _axes(level)]
    volume = blocks.new_zeros(level.grid.num_samples, *sides, blocks.shape[1])
    if fill is not None:
        volume.copy_(fill)
    volume = volume.permute(0, 4, 1, 2, 3)
    _split(volume, level)[level.grid.places.unbind(1)] = blocks.permute(0, 2, 3, 4, 1)
    d, h, w = level.size
    return volume[:, :, :d, :h, :w].contiguous(memory_format=torch.channels_last_3d)


def _split(volume: Tensor, level: BlockLevel) -> Tensor:
    """volume (B, C, D, H, W) seen as (B, d, h, w, bd, bh, bw, C)."""
    (_, bd, d), (_, bh, h), (_, bw, w) = _axes(level)
    b, c = volume.shape[:2]
    return volume.permute(0, 2, 3, 4, 1).view(b, d, bd, h, bh, w, bw, c).permute(0, 1, 3, 5, 2, 4, 6, 7)


def _axes(level: BlockLevel) -> list[tuple[int, int, int]]:
    """(voxels of the volume, of a block, number of blocks) along each axis."""
    return list(zip(level.size, level.block, level.grid.is_hidden.shape[1:], strict=True))


@final
class ToBlocks(Function):
    @staticmethod
    def forward(ctx: Any, volume: Tensor, level: BlockLevel) -> Tensor:
        ctx.level = level
        return gathered(volume, level)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return scattered(gradients[0], ctx.level), None


@final
class ToVolume(Function):
    @staticmethod
    def forward(ctx: Any, blocks: Tensor, fill: Tensor | None, level: BlockLevel) -> Tensor:
        ctx.level = level
        return scattered(blocks, level, fill)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        level: BlockLevel = ctx.level
        of_fill = as_rows(gathered(gradients[0], level.of_hidden)).sum(0) if ctx.needs_input_grad[1] else None
        return gathered(gradients[0], level), of_fill, None
