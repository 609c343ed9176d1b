"""Instance normalisation over the visible voxels of each sample.

Sums run in float32 at least, over the values less their mean, in a fixed order: within blocks, then over the blocks of
a sample. Nothing but the input and two numbers a channel and sample are kept between the passes.
"""

from typing import Any, final

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from medpipe.kernels.block_sparse_conv.visible_blocks import BlockLevel, as_blocks, as_rows

CACHED_NUMBERS = 1 << 18  # 1 MB of float32


def block_instance_norm(x: Tensor, weight: Tensor, bias: Tensor, level: BlockLevel, *, eps: float = 1e-5) -> Tensor:
    """Each channel of each sample to mean 0 and variance 1 over its visible voxels, then an affine map.

    x: (N, C, *level.block), 0 beyond the volume, where it comes out 0 as well; weight and bias: (C,).
    """
    return BlockInstanceNorm.apply(x, weight, bias, level, eps)


@final
class BlockInstanceNorm(Function):
    """`block_instance_norm` with its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, level: BlockLevel, eps: float) -> Tensor:
        rows = by_voxel(x)
        count = counts(level, rows)
        mean = over_sample(rows.sum(1), level) / count
        inverse_sd = (over_sample(centred_sums(rows, mean, level), level) / count + eps).rsqrt()
        ctx.save_for_backward(x, mean, inverse_sd, weight)
        ctx.level, ctx.bias_dtype = level, bias.dtype
        scale = inverse_sd * weight.to(rows.dtype)
        shift = bias.to(rows.dtype) - mean * scale
        # Not as a view of rows: what follows may write in place, which views made in a function forbid.
        y = torch.empty_like(x, dtype=rows.dtype, memory_format=torch.channels_last_3d)
        torch.addcmul(of_blocks(shift, level), rows, of_blocks(scale, level), out=by_voxel(y))
        keep_inside(by_voxel(y), level)
        return y.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, inverse_sd, weight = ctx.saved_tensors
        level: BlockLevel = ctx.level
        rows, gradient = by_voxel(x), by_voxel(gradients[0])
        if level.is_inside is not None:
            gradient = keep_inside(gradient.clone(), level)
        of_bias = over_sample(gradient.sum(1), level)
        of_weight = over_sample(centred_sums(rows, mean, level, gradient), level) * inverse_sd
        # The gradient less its mean and its projection on the normalised values (Ioffe and Szegedy, 2015,
        # arXiv:1502.03167), as one linear map of gradient and x.
        scale, count = inverse_sd * weight.to(rows.dtype), counts(level, rows)
        of_values = -scale * inverse_sd * of_weight / count
        constant = -scale * of_bias / count - mean * of_values
        of_x = torch.addcmul(of_blocks(constant, level), rows, of_blocks(of_values, level))
        of_x = keep_inside(of_x.addcmul_(gradient, of_blocks(scale, level)), level)
        of_x = as_blocks(of_x.to(x.dtype).flatten(0, 1), level.block)
        return of_x, of_weight.sum(0).to(weight.dtype), of_bias.sum(0).to(ctx.bias_dtype), None, None


def centred_sums(rows: Tensor, mean: Tensor, level: BlockLevel, other: Tensor | None = None) -> Tensor:
    """(N, C): of each block, the sum over its voxels of (rows - mean) * other, or of its square.

    On a CPU by parts that stay in its cache: a temporary of 80 MB costs more in page faults than all the sums.
    """
    step = max(1, CACHED_NUMBERS // max(1, rows[:1].numel())) if rows.device.type == "cpu" else max(1, len(rows))
    means, sums = of_blocks(mean, level), rows.new_empty(len(rows), rows.shape[2])
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        centred = rows[part] - means[part]
        if level.is_inside is not None:
            centred.masked_fill_(~level.is_inside[part].flatten(2).transpose(1, 2), 0)
        torch.sum(centred.square_() if other is None else centred.mul_(other[part]), 1, out=sums[part])
    return sums


def by_voxel(x: Tensor) -> Tensor:
    """x (N, C, bd, bh, bw) as (N, voxels, C), float32 at least."""
    rows = as_rows(x).view(len(x), x[0, 0].numel() if len(x) else 1, x.shape[1])
    return rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows


def over_sample(sums: Tensor, level: BlockLevel) -> Tensor:
    """(B, C): the sum of what each block has, (N, C). A product, since its order is fixed on every device."""
    return level.grid.belongs.to(sums.dtype) @ sums


def of_blocks(values: Tensor, level: BlockLevel) -> Tensor:
    """values (B, C) of samples as (N, 1, C), of their blocks."""
    return values.index_select(0, level.grid.samples)[:, None]


def counts(level: BlockLevel, rows: Tensor) -> Tensor:
    """(B, 1): visible voxels of each sample; 1 where there is none, whose sums are 0."""
    return level.count.clamp(min=1)[:, None].to(rows.dtype)


def keep_inside(rows: Tensor, level: BlockLevel) -> Tensor:
    """rows (N, voxels, C), in place 0 beyond the volume."""
    if level.is_inside is not None:
        rows.masked_fill_(~level.is_inside.flatten(2).transpose(1, 2), 0)
    return rows
