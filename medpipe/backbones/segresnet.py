"""monai's SegResNet without its output convolution."""

from typing import final

from monai.networks.nets.segresnet import SegResNet as MonaiSegResNet
from torch import Tensor, nn

from medpipe.backbones.backbone import Backbone
from medpipe.backbones.options import SegResNetOptions


@final
class SegResNetEncoder(nn.Module):
    """One map a level, finest first."""

    def __init__(self, network: MonaiSegResNet) -> None:
        super().__init__()
        self.stem = network.convInit
        self.levels = nn.ModuleList(network.down_layers)

    def forward(self, volume: Tensor) -> tuple[Tensor, ...]:
        x, maps = self.stem(volume), []
        for level in self.levels:
            x = level(x)
            maps.append(x)
        return tuple(maps)


@final
class SegResNetDecoder(nn.Module):
    """One map, as fine as the input."""

    def __init__(self, network: MonaiSegResNet) -> None:
        super().__init__()
        self.upsamples = nn.ModuleList(network.up_samples)
        self.levels = nn.ModuleList(network.up_layers)
        self.last = network.conv_final[:2]  # normalisation and activation; the third is the output convolution

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        *skips, x = maps
        for upsample, level, skip in zip(self.upsamples, self.levels, reversed(skips), strict=True):
            x = level(upsample(x) + skip)
        return self.last(x)


@final
class SegResNet(Backbone):
    """One map, as fine as the input."""

    def __init__(self, options: SegResNetOptions, *, in_channels: int = 1) -> None:
        super().__init__()
        network = MonaiSegResNet(
            spatial_dims=3,
            init_filters=options.width,
            in_channels=in_channels,
            out_channels=1,
            blocks_down=(1, 2, 2, 4),
            blocks_up=(1, 1, 1),
        )
        self.channels = (options.width,)
        self.strides = ((1, 1, 1),)
        self.divisor = options.divisor
        self.encoder = SegResNetEncoder(network)
        self.decoder = SegResNetDecoder(network)

    def forward(self, volume: Tensor) -> tuple[Tensor, ...]:
        self.check_size(volume.shape[2:])
        return (self.decoder(self.encoder(volume)),)
