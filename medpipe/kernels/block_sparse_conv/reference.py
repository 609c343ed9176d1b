"""What the operations on visible blocks compute: the dense operation, then a mask. In any floating type, on any device.

Definitions to test against; they cost what the dense network costs. Volumes are (B, C, D, H, W); is_hidden is
(B, d, h, w) bool, one entry a block, whose edges in voxels are `block` (the last may reach beyond the volume).
"""

import torch
from torch import Tensor
from torch.nn import functional

from medpipe.kernels.block_sparse_conv.places import Edges


def visible_voxels(is_hidden: Tensor, block: Edges, size: Edges) -> Tensor:
    """(B, 1, D, H, W) bool: the voxels of visible blocks."""
    visible = ~is_hidden
    for axis, edge in enumerate(block, start=1):
        visible = visible.repeat_interleave(edge, axis)
    return visible[:, None, : size[0], : size[1], : size[2]]


def conv3d(x: Tensor, weight: Tensor, bias: Tensor | None, visible: Tensor, visible_after: Tensor) -> Tensor:
    """A submanifold convolution of padding (kernel - 1) / 2: reads visible voxels alone, its output 0 on hidden ones.

    visible, visible_after: (B, 1, ...) bool, of the input and of the output. The stride is their ratio.
    """
    pairs = zip(visible.shape[2:], visible_after.shape[2:], strict=True)
    stride = [-(-before // after) for before, after in pairs]
    padding = [size // 2 for size in weight.shape[2:]]
    y = functional.conv3d(x.masked_fill(~visible, 0), weight, bias, stride, padding)
    return y.masked_fill(~visible_after, 0)


def instance_norm(x: Tensor, weight: Tensor, bias: Tensor, visible: Tensor, *, eps: float = 1e-5) -> Tensor:
    """Mean and variance (over the count, not one less) of each sample's visible voxels; hidden ones come out 0."""
    out = []
    for values, mask in zip(x, visible[:, 0], strict=True):
        seen = values[:, mask]  # (C, visible voxels)
        normalised = (seen - seen.mean(1, keepdim=True)) / (seen.var(1, keepdim=True, correction=0) + eps).sqrt()
        dense = torch.zeros_like(values)
        dense[:, mask] = normalised * weight[:, None] + bias[:, None]
        out.append(dense)
    return torch.stack(out)
