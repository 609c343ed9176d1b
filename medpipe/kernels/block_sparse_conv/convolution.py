"""Convolutions of kernel 3 over visible blocks: each block is read with the rim of its visible neighbours.

The gradient of the input is gathered as well, from the rim of the output's gradient with the weights mirrored: nothing
is scattered, and sums run in a fixed order. Nothing but input and weights is kept between the passes.

Two forms, equal to rounding. Large blocks are convolved with their rim as a batch of small volumes. In blocks of few
voxels the rim would be most of what is read, and their taps are laid out for one matrix product.
"""

from typing import Any, final

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from medpipe.kernels.block_sparse_conv.places import Edges, adjoint_taps, rim_places, tap_places
from medpipe.kernels.block_sparse_conv.visible_blocks import BlockLevel, as_blocks, as_rows

ONE: Edges = (1, 1, 1)

# Voxels of an output block up to which its taps are laid out for a matrix product.
MAX_LAID_OUT = 8


def block_conv3d(
    x: Tensor, weight: Tensor, bias: Tensor | None, level: BlockLevel, *, stride: Edges = ONE
) -> tuple[Tensor, BlockLevel]:
    """A convolution of kernel 3 and padding 1 that sees visible voxels alone, and the level of its output.

    x: (N, C_in, *level.block), 0 beyond the volume; weight: (C_out, C_in, 3, 3, 3); bias: (C_out,).
    Equal to the dense convolution of the volume with hidden voxels 0, read at the visible blocks. Under autocast in its
    type. Raises ValueError: another kernel, a stride above 2 or one that does not divide a block.
    """
    if weight.shape[2:] != (3, 3, 3):
        raise ValueError(f"the kernel must be 3 x 3 x 3, got {tuple(weight.shape[2:])}")
    if max(stride) > 2:
        raise ValueError(f"strides are 1 or 2 along each axis, got {stride}")
    target = level.coarser(stride)
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    return BlockConv3d.apply(x, weight, bias, level, target, stride), target


def block_pointwise(
    x: Tensor, weight: Tensor, bias: Tensor | None, level: BlockLevel, *, stride: Edges = ONE
) -> tuple[Tensor, BlockLevel]:
    """A convolution of kernel 1, weight (C_out, C_in, 1, 1, 1), and the level of its output; else as `block_conv3d`."""
    if weight.shape[2:] != (1, 1, 1):
        raise ValueError(f"the kernel must be 1 x 1 x 1, got {tuple(weight.shape[2:])}")
    target = level.coarser(stride)
    y = functional.conv3d(x, weight, bias, stride)
    return y if target.is_inside is None else y.masked_fill(~target.is_inside, 0), target


@final
class BlockConv3d(Function):
    """`block_conv3d` with its gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        level: BlockLevel,
        target: BlockLevel,
        stride: Edges,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.levels, ctx.stride, ctx.has_bias = (level, target), stride, bias is not None
        if is_laid_out(target):
            by_tap = weight.permute(2, 3, 4, 1, 0).reshape(-1, weight.shape[0])
            y = laid_out(x, level, target, stride) @ by_tap
            y = as_blocks(y if bias is None else y.add_(bias), target.block)
        else:
            y = functional.conv3d(with_rim(x, level, ONE, unstrided(stride)), weight, bias, stride)
            y = y.contiguous(memory_format=torch.channels_last_3d)
        return y if target.is_inside is None else y.masked_fill_(~target.is_inside, 0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        level, target = ctx.levels
        if target.is_inside is not None:
            gradient = gradient.masked_fill(~target.is_inside, 0)
        of_input = input_gradient(gradient, weight, level, target, ctx.stride) if ctx.needs_input_grad[0] else None
        of_weight = weight_gradient(gradient, x, weight, level, target, ctx.stride) if ctx.needs_input_grad[1] else None
        of_bias = as_rows(gradient).sum(0) if ctx.has_bias and ctx.needs_input_grad[2] else None
        return of_input, of_weight, of_bias, None, None, None


def is_laid_out(target: BlockLevel) -> bool:
    return target.num_voxels <= MAX_LAID_OUT


def with_rim(x: Tensor, level: BlockLevel, low: Edges, high: Edges) -> Tensor:
    """(N, C, ...): each block with `low` voxels (0 or 1) before it and `high` behind it along each axis."""
    d, h, w = (before + edge + after for before, edge, after in zip(low, level.block, high, strict=True))
    return as_blocks(level.rows(rim_places(level.block, low, high)).read(x), (d, h, w))


def unstrided(stride: Edges) -> Edges:
    """1 along the axes without a stride: there alone a convolution reads voxels behind a block."""
    d, h, w = stride
    return int(d == 1), int(h == 1), int(w == 1)


def laid_out(x: Tensor, level: BlockLevel, target: BlockLevel, stride: Edges) -> Tensor:
    """(N * voxels of the target, 27 * C): the taps of every output voxel side by side."""
    return level.rows(tap_places(target.block, stride)).read(x).view(-1, 27 * x.shape[1])


def weight_gradient(
    gradient: Tensor, x: Tensor, weight: Tensor, level: BlockLevel, target: BlockLevel, stride: Edges
) -> Tensor:
    if is_laid_out(target):
        rows = laid_out(x, level, target, stride).T @ as_rows(gradient)
        return rows.view(3, 3, 3, *weight.shape[1::-1]).permute(4, 3, 0, 1, 2)
    read = with_rim(x, level, ONE, unstrided(stride))
    geometry = (list(stride), [0, 0, 0], [1, 1, 1], False, [0, 0, 0], 1)
    return torch.ops.aten.convolution_backward(gradient, read, weight, None, *geometry, [False, True, False])[1]


def input_gradient(gradient: Tensor, weight: Tensor, level: BlockLevel, target: BlockLevel, stride: Edges) -> Tensor:
    if is_laid_out(target):
        return laid_out_input_gradient(gradient, weight, level, target, stride)
    read = with_rim(gradient, target, unstrided(stride), ONE)
    if stride == ONE:
        y = functional.conv3d(read, weight.flip(2, 3, 4).transpose(0, 1))
    else:
        d, h, w = level.block
        padding = [2 if step == 1 else 1 for step in stride]
        y = functional.conv_transpose3d(read, weight, stride=stride, padding=padding)[:, :, :d, :h, :w]
    return y.contiguous(memory_format=torch.channels_last_3d)


def laid_out_input_gradient(
    gradient: Tensor, weight: Tensor, level: BlockLevel, target: BlockLevel, stride: Edges
) -> Tensor:
    """For each remainder by the stride, the output voxels that read such an input voxel, side by side."""
    by_tap = weight.permute(2, 3, 4, 0, 1).reshape(27, *weight.shape[:2])  # (taps, C_out, C_in)
    y = gradient.new_empty(gradient.shape[0], *level.block, weight.shape[1])
    for (d, h, w), places, taps in adjoint_taps(target.block, stride):
        read = target.rows(places).read(gradient).view(-1, len(taps) * weight.shape[0])
        part = read @ by_tap[taps.to(by_tap.device)].flatten(0, 1)
        y[:, d :: stride[0], h :: stride[1], w :: stride[2]] = part.view(-1, *target.block, weight.shape[1])
    return y.permute(0, 4, 1, 2, 3)
