"""monai's MedNeXt without its output convolutions."""

from typing import final

from monai.networks.nets.mednext import MedNeXt
from torch import Tensor, nn

from medpipe.backbones.backbone import Backbone
from medpipe.backbones.options import MedNextOptions, total_strides

# Expansion ratios and numbers of blocks on the way down, at the bottom and on the way up: table 1 of arXiv:2303.09975.
VARIANTS = {
    "tiny": ((2, 2, 2, 2), 2, (2, 2, 2, 2), 2),
    "small": ((2, 2, 2, 2), 2, (2, 2, 2, 2), 2),
    "base": ((2, 3, 4, 4), 4, (2, 2, 2, 2), 2),
    "medium": ((2, 3, 4, 4), 4, (3, 4, 4, 4), 4),
    "large": ((3, 4, 8, 8), 8, (3, 4, 8, 8), 8),
}


@final
class MedNextEncoder(nn.Module):
    """One map a level and the bottleneck's, finest first."""

    def __init__(self, network: MedNeXt) -> None:
        super().__init__()
        self.stem = network.stem
        self.levels = nn.ModuleList(network.enc_stages)
        self.downsamples = nn.ModuleList(network.down_blocks)
        self.bottleneck = network.bottleneck

    def forward(self, volume: Tensor) -> tuple[Tensor, ...]:
        x, maps = self.stem(volume), []
        for level, downsample in zip(self.levels, self.downsamples, strict=True):
            x = level(x)
            maps.append(x)
            x = downsample(x)
        return *maps, self.bottleneck(x)


@final
class MedNextDecoder(nn.Module):
    """The maps of the way up, finest first, the bottleneck's last."""

    def __init__(self, network: MedNeXt) -> None:
        super().__init__()
        self.upsamples = nn.ModuleList(network.up_blocks)
        self.levels = nn.ModuleList(network.dec_stages)

    def forward(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        *skips, x = maps
        decoded = [x]
        for upsample, level, skip in zip(self.upsamples, self.levels, reversed(skips), strict=True):
            x = level(upsample(x) + skip)
            decoded.append(x)
        return tuple(reversed(decoded))


@final
class MedNext(Backbone):
    """Five maps, finest first: the decoder's four and the bottleneck's, as the paper's deep supervision has them."""

    def __init__(self, options: MedNextOptions, *, in_channels: int = 1) -> None:
        super().__init__()
        expansion, bottleneck_expansion, blocks, bottleneck_blocks = VARIANTS[options.size]
        network = MedNeXt(
            spatial_dims=3,
            init_filters=options.width,
            in_channels=in_channels,
            out_channels=1,
            kernel_size=options.kernel_size,
            use_residual_connection=True,
            encoder_expansion_ratio=expansion,
            decoder_expansion_ratio=expansion[::-1],
            bottleneck_expansion_ratio=bottleneck_expansion,
            blocks_down=blocks,
            blocks_bottleneck=bottleneck_blocks,
            blocks_up=blocks[::-1],
        )
        self.channels = tuple(options.width << level for level in range(5))
        self.strides = total_strides(((1, 1, 1), *((2, 2, 2),) * 4))
        self.divisor = options.divisor
        self.encoder = MedNextEncoder(network)
        self.decoder = MedNextDecoder(network)

    def forward(self, volume: Tensor) -> tuple[Tensor, ...]:
        self.check_size(volume.shape[2:])
        return self.decoder(self.encoder(volume))
