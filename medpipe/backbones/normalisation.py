"""Instance normalisation, over all voxels or over the visible ones alone: one module, the same parameters."""

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from medpipe.backbones.masking import LevelVisibility
from medpipe.backbones.sparse_map import SparseMap
from medpipe.kernels.block_sparse_conv.normalisation import block_instance_norm
from medpipe.kernels.block_sparse_conv.visible_blocks import BlockLevel


@final
class InstanceNorm(nn.Module):
    """Each channel of each sample to mean 0 and variance 1, then an affine map (`weight`, `bias`).

    `sparse`: mean and variance are those of the visible voxels of that sample, and hidden voxels come out 0.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda:
            return functional.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)
        return normalise(x, self.weight, self.bias, self.eps)

    def sparse(self, x: SparseMap) -> SparseMap:
        visible = x.visible
        if isinstance(visible, BlockLevel):
            return x.holding(block_instance_norm(x.values, self.weight, self.bias, visible, eps=self.eps))
        return x.holding(normalise(x.values, self.weight, self.bias, self.eps, visible))


def normalise(x: Tensor, weight: Tensor, bias: Tensor, eps: float, visible: LevelVisibility | None = None) -> Tensor:
    """Instance normalisation of x (B, C, D, H, W), with `visible` over each sample's visible voxels; others come out 0.

    Hidden voxels must be finite; a sample without a visible voxel comes out 0. Sums run in float32 at least, over the
    values less their mean. On a CPU and channels-last (2 x 8 x 48 x 64 x 64) this takes 0.6 of the time of torch's
    group_norm, which there is wrong by 0.025 where the mean is 20 SD, and 0.85 of instance_norm's.
    """
    values = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    weight, bias = (parameter.view(1, -1, 1, 1, 1).to(values.dtype) for parameter in (weight, bias))
    if visible is None:
        count = values[0, 0].numel()
        centred = values - values.sum(dim=(2, 3, 4), keepdim=True) / count
    else:
        mask, count = visible.is_visible.to(values.dtype), visible.count.clamp(min=1).to(values.dtype)
        centred = (values - (values * mask).sum(dim=(2, 3, 4), keepdim=True) / count).mul_(mask)
        bias = bias * mask
    variance = centred.square().sum(dim=(2, 3, 4), keepdim=True) / count
    return torch.addcmul(bias, centred, weight * torch.rsqrt(variance + eps)).to(x.dtype)
