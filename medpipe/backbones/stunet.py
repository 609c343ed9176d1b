"""STU-Net (Huang et al., 2023, arXiv:2304.06716), whose encoder also runs on visible blocks alone."""

from typing import cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from medpipe.backbones.backbone import Backbone
from medpipe.backbones.masking import Visibility
from medpipe.backbones.normalisation import InstanceNorm
from medpipe.backbones.options import Stride, StunetOptions
from medpipe.backbones.sparse_map import SparseMap, in_form_of_level, sparse_input

NUM_LEVELS = 6
SLOPE = 0.01  # of the leaky rectifier, torch's default, which STU-Net uses


@final
class ResidualBlock(nn.Module):
    """conv3 - norm - leaky ReLU - conv3 - norm, plus the input (through a 1^3 convolution where `projected`).

    `sparse` is the same on the visible voxels of a map: submanifold convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: Stride = (1, 1, 1), projected: bool) -> None:
        super().__init__()
        # Biases before a normalisation do nothing; they are kept because published weights and counts have them.
        self.conv1 = nn.Conv3d(in_channels, out_channels, 3, stride=stride, padding=1)
        self.norm1 = InstanceNorm(out_channels)
        self.conv2 = nn.Conv3d(out_channels, out_channels, 3, padding=1)
        self.norm2 = InstanceNorm(out_channels)
        self.shortcut = nn.Conv3d(in_channels, out_channels, 1, stride=stride) if projected else None

    def forward(self, x: Tensor) -> Tensor:
        # In place: neither normalisation nor leaky ReLU needs what is overwritten for its gradient.
        y = functional.leaky_relu(self.norm1(self.conv1(x)), SLOPE, inplace=True)
        y = self.norm2(self.conv2(y))
        if self.shortcut is not None:
            x = self.shortcut(x)
        return functional.leaky_relu(y.add_(x), SLOPE, inplace=True)

    def sparse(self, x: SparseMap) -> SparseMap:
        # What a masked convolution spills onto hidden voxels is left out of the statistics and zeroed by the norm.
        y = self.norm1.sparse(x.convolved(self.conv1))
        y = self.norm2.sparse(y.holding(functional.leaky_relu(y.values, SLOPE, inplace=True)).convolved(self.conv2))
        if self.shortcut is not None:
            x = x.convolved(self.shortcut).cleared()
        return y.holding(functional.leaky_relu(y.values.add_(x.values), SLOPE, inplace=True))


def residual_blocks(in_channels: int, out_channels: int, depth: int, stride: Stride = (1, 1, 1)) -> nn.ModuleList:
    """`depth` residual blocks, the first of which changes channels and grid."""
    first = ResidualBlock(in_channels, out_channels, stride=stride, projected=True)
    return nn.ModuleList(
        [first, *(ResidualBlock(out_channels, out_channels, projected=False) for _ in range(depth - 1))]
    )


@final
class StunetEncoder(nn.Module):
    """The contracting half: one feature map a level, finest first.

    Built with fewer than six levels for masked pretraining (five: blocks of 16^3 voxels), so that no parameter stands
    there without a gradient; parameters have the same names as in the whole encoder.
    """

    def __init__(self, options: StunetOptions, *, in_channels: int = 1, num_levels: int = NUM_LEVELS) -> None:
        super().__init__()
        self.channels = options.widths[:num_levels]
        self.strides = options.level_strides[:num_levels]
        self.steps: tuple[Stride, ...] = ((1, 1, 1), *options.strides)  # from each level to the next
        widths = (in_channels, *self.channels)
        self.levels = nn.ModuleList(
            residual_blocks(widths[level], widths[level + 1], options.depth, self.steps[level])
            for level in range(num_levels)
        )
        self.apply(initialise)

    def forward(
        self, x: Tensor, visibility: Visibility | None = None, num_levels: int | None = None
    ) -> tuple[Tensor, ...]:
        """Feature maps of the first `num_levels` levels (all by default) of x (B, C, D, H, W).

        With `visibility` nothing of a hidden voxel reaches any map, and every map is 0 on hidden voxels; with nothing
        hidden the maps are those of the plain encoder. Raises ValueError: a level is no multiple of the block grid.
        """
        if visibility is not None:
            return tuple(level.dense() for level in self.sparse_maps(x, visibility, num_levels))
        maps = []
        for blocks in self.levels[:num_levels]:
            for block in cast(nn.ModuleList, blocks):
                x = block(x)
            maps.append(x)
        return tuple(maps)

    def sparse_maps(
        self, volume: Tensor, visibility: Visibility, num_levels: int | None = None
    ) -> tuple[SparseMap, ...]:
        """The maps of visible voxels, each in the form that its level was computed in."""
        x, maps = sparse_input(volume, visibility), []
        for blocks, step, channels in zip(self.levels[:num_levels], self.steps, self.channels, strict=False):
            x = in_form_of_level(x, step, channels)
            for block in cast(nn.ModuleList, blocks):
                x = cast(ResidualBlock, block).sparse(x)
            maps.append(x)
        return tuple(maps)


@final
class DecoderLevel(nn.Module):
    """The coarser map to this level's grid, the encoder's map beside it, residual blocks over both."""

    def __init__(self, coarse_channels: int, channels: int, depth: int) -> None:
        super().__init__()
        self.projection = nn.Conv3d(coarse_channels, channels, 1)
        self.blocks = residual_blocks(2 * channels, channels, depth)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        # A 1^3 convolution and repetition commute: on the coarse grid it costs an eighth.
        x = functional.interpolate(self.projection(coarse), size=skip.shape[2:], mode="nearest")
        x = torch.cat([x, skip], dim=1)
        for block in self.blocks:
            x = block(x)
        return x


@final
class StunetDecoder(nn.Module):
    """The expanding half: from the six maps of the encoder to five, finest first."""

    def __init__(self, options: StunetOptions) -> None:
        super().__init__()
        widths = options.widths
        self.levels = nn.ModuleList(
            DecoderLevel(widths[level + 1], widths[level], options.depth) for level in range(NUM_LEVELS - 1)
        )
        self.apply(initialise)

    def forward(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        *skips, x = maps
        decoded = []
        for level, skip in zip(reversed(self.levels), reversed(skips), strict=True):
            x = level(x, skip)
            decoded.append(x)
        return tuple(reversed(decoded))


@final
class Stunet(Backbone):
    """The whole network: five decoder maps, finest first, for a head each under deep supervision."""

    def __init__(self, options: StunetOptions, *, in_channels: int = 1) -> None:
        super().__init__()
        self.channels = options.widths[:-1]
        self.strides = options.level_strides[:-1]
        self.divisor = options.divisor
        self.encoder = StunetEncoder(options, in_channels=in_channels)
        self.decoder = StunetDecoder(options)

    def forward(self, volume: Tensor) -> tuple[Tensor, ...]:
        self.check_size(volume.shape[2:])
        return self.decoder(self.encoder(volume))


def initialise(module: nn.Module) -> None:
    """He's normal initialisation for the leaky rectifier, biases 0: nnU-Net's, on which STU-Net stands."""
    if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, a=SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
