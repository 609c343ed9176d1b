"""The light decoder of SparK (Tian et al., 2023, arXiv:2301.03580) in three dimensions, without BatchNorm."""

from collections.abc import Sequence
from itertools import pairwise
from typing import cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from medpipe.backbones.masking import Visibility
from medpipe.backbones.normalisation import InstanceNorm
from medpipe.backbones.options import LightDecoderOptions, Stride
from medpipe.backbones.sparse_map import SparseMap, in_form_of_level, sparse_input

MASK_VECTOR_SD = 0.02  # of the truncated normal distribution, SparK's


@final
class Densify(nn.Module):
    """A sparse map made dense: normalised, a learned vector where it is hidden, projected to the decoder's width."""

    def __init__(self, channels: int, width: int, *, kernel_size: int) -> None:
        super().__init__()
        self.norm = InstanceNorm(channels)
        self.mask_vector = nn.Parameter(torch.empty(channels))
        nn.init.trunc_normal_(self.mask_vector, std=MASK_VECTOR_SD, a=-MASK_VECTOR_SD, b=MASK_VECTOR_SD)
        is_plain = kernel_size == 1 and channels == width
        self.projection = (
            nn.Identity() if is_plain else nn.Conv3d(channels, width, kernel_size, padding=kernel_size // 2)
        )

    def forward(self, x: SparseMap) -> Tensor:
        x = self.norm.sparse(x)
        return self.projection(x.dense(self.mask_vector.to(x.values.dtype)))


@final
class UpBlock(nn.Module):
    """Transposed convolution to the finer grid, then conv3 - norm - ReLU6 - conv3 - norm."""

    def __init__(self, in_channels: int, out_channels: int, *, step: Stride, kernel_size: int) -> None:
        super().__init__()
        rim = (kernel_size - 2) // 2  # what the kernel reaches beyond its own voxel's children, on each side
        kernel = (step[0] + 2 * rim, step[1] + 2 * rim, step[2] + 2 * rim)
        self.upsample = nn.ConvTranspose3d(in_channels, in_channels, kernel, stride=step, padding=rim)
        self.conv1 = nn.Conv3d(in_channels, in_channels, 3, padding=1, bias=False)
        self.norm1 = InstanceNorm(in_channels)
        self.conv2 = nn.Conv3d(in_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = InstanceNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu6(self.norm1(self.conv1(self.upsample(x))), inplace=True)
        return self.norm2(self.conv2(x))

    def on_blocks(self, x: Tensor, chosen: Visibility) -> SparseMap:
        """The same on the blocks that are visible in `chosen`, which see nothing of others behind the upsampling."""
        upsampled = sparse_input(self.upsample(x), chosen)
        y = in_form_of_level(upsampled, (1, 1, 1), self.conv1.out_channels).convolved(self.conv1)
        y = self.norm1.sparse(y)
        y = y.holding(functional.relu6(y.values, inplace=True)).convolved(self.conv2)
        return self.norm2.sparse(y)


@final
class LightDecoder(nn.Module):
    """From the maps of a sparse encoder to the volume (B, 1, D, H, W); maps are added on the way up.

    Of N maps the coarsest N - 1 are read: the last block leads to the grid of the finest map, and nothing follows
    there but the head. The finest map therefore has no mask vector and no projection.
    """

    def __init__(
        self, channels: Sequence[int], strides: Sequence[Stride], options: LightDecoderOptions | None = None
    ) -> None:
        """channels and strides of the encoder's maps, finest first."""
        super().__init__()
        options = options or LightDecoderOptions()
        steps = [
            (coarse[0] // fine[0], coarse[1] // fine[1], coarse[2] // fine[2]) for fine, coarse in pairwise(strides)
        ][::-1]
        widths = [max(options.width >> level, options.min_width) for level in range(len(channels))]
        read = list(channels[:0:-1])
        self.densify = nn.ModuleList(
            Densify(map_channels, width, kernel_size=1 if level == 0 else 3)
            for level, (map_channels, width) in enumerate(zip(read, widths, strict=False))
        )
        self.blocks = nn.ModuleList(
            UpBlock(width, next_width, step=step, kernel_size=options.upsampling_kernel)
            for width, next_width, step in zip(widths[:-1], widths[1:], steps, strict=True)
        )
        self.head = nn.Conv3d(widths[-1], 1, 1)
        self.hidden_only = options.hidden_only

    def forward(self, maps: Sequence[SparseMap]) -> Tensor:
        """The reconstruction (B, 1, D, H, W) from the encoder's maps, finest first; 0 where it is not asked for."""
        *coarser, last = self.blocks
        read = [densify(features) for features, densify in zip(maps[:0:-1], self.densify, strict=True)]
        x = read[0]
        for block, finer in zip(coarser, read[1:], strict=True):
            x = block(x) + finer
        if not self.hidden_only:
            return self.head(last(x))
        seen = maps[0].visibility
        return (
            cast(UpBlock, last)
            .on_blocks(x, Visibility(~seen.is_hidden, seen.form))
            .convolved(self.head)
            .cleared()
            .dense()
        )
