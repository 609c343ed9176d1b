"""STU-Net with transformer blocks on its two coarsest levels, as TransUNet has (Chen et al., 2021, arXiv:2102.04306).

Convolutions see detail where there are many voxels, attention sees the whole patch where there are few: in a patch of
128^3 voxels 512 tokens on the fifth level and 64 on the sixth.
"""

from typing import cast, final

from torch import Tensor, nn

from medpipe.backbones import attention
from medpipe.backbones.backbone import Backbone
from medpipe.backbones.masking import Visibility
from medpipe.backbones.options import HybridOptions, Stride
from medpipe.backbones.sparse_map import SparseMap, in_form_of_level, sparse_input
from medpipe.backbones.stunet import ResidualBlock, StunetDecoder, initialise, residual_blocks
from medpipe.backbones.tokens import TokenStage

NUM_LEVELS = 6
FIRST_WITH_TOKENS = 4


@final
class HybridEncoder(nn.Module):
    """STU-Net's levels, finest first; behind those of the two coarsest, transformer blocks.

    Built with five levels for masked pretraining, with the names of the whole encoder, as `StunetEncoder`.
    """

    def __init__(self, options: HybridOptions, *, in_channels: int = 1, num_levels: int = NUM_LEVELS) -> None:
        super().__init__()
        stunet = options.stunet
        self.channels = stunet.widths[:num_levels]
        self.strides = stunet.level_strides[:num_levels]
        self.steps: tuple[Stride, ...] = ((1, 1, 1), *stunet.strides)
        widths = (in_channels, *self.channels)
        self.levels = nn.ModuleList(
            residual_blocks(widths[level], widths[level + 1], stunet.depth, self.steps[level])
            for level in range(num_levels)
        )
        self.levels.apply(initialise)
        self.tokens = nn.ModuleList(
            TokenStage(width, width // options.head_width, options.num_blocks, options.attention)
            for width in self.channels[FIRST_WITH_TOKENS:]
        )
        self.tokens.apply(attention.initialise)

    def forward(self, x: Tensor, visibility: Visibility | None = None) -> tuple[Tensor, ...]:
        """As of `StunetEncoder`."""
        if visibility is not None:
            return tuple(level.dense() for level in self.sparse_maps(x, visibility))
        maps = []
        for number, blocks in enumerate(self.levels):
            for block in cast(nn.ModuleList, blocks):
                x = block(x)
            if number >= FIRST_WITH_TOKENS:
                x = self.tokens[number - FIRST_WITH_TOKENS](x)
            maps.append(x)
        return tuple(maps)

    def sparse_maps(self, volume: Tensor, visibility: Visibility) -> tuple[SparseMap, ...]:
        """As of `StunetEncoder`; attention runs on the visible voxels alone in either form."""
        x, maps = sparse_input(volume, visibility), []
        for number, (blocks, step, channels) in enumerate(zip(self.levels, self.steps, self.channels, strict=False)):
            x = in_form_of_level(x, step, channels)
            for block in cast(nn.ModuleList, blocks):
                x = cast(ResidualBlock, block).sparse(x)
            if number >= FIRST_WITH_TOKENS:
                x = x.laid_out(is_gathered=False)
                x = x.holding(self.tokens[number - FIRST_WITH_TOKENS](x.values, visibility.at(x.size)))
            maps.append(x)
        return tuple(maps)


@final
class Hybrid(Backbone):
    """The whole network: five decoder maps, finest first, for a head each under deep supervision."""

    def __init__(self, options: HybridOptions, *, in_channels: int = 1) -> None:
        super().__init__()
        self.channels = options.stunet.widths[:-1]
        self.strides = options.stunet.level_strides[:-1]
        self.divisor = options.divisor
        self.encoder = HybridEncoder(options, in_channels=in_channels)
        self.decoder = StunetDecoder(options.stunet)

    def forward(self, volume: Tensor) -> tuple[Tensor, ...]:
        self.check_size(volume.shape[2:])
        return self.decoder(self.encoder(volume))
