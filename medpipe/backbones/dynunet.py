"""monai's DynUNet, the plain 3D network of nnU-Net, with its decoder maps in place of its output heads."""

from typing import final

from monai.networks.nets.dynunet import DynUNet
from torch import Tensor, nn

from medpipe.backbones.backbone import Backbone
from medpipe.backbones.options import DynUnetOptions


@final
class DynUnet(Backbone):
    """One decoder map a level but the coarsest, finest first, for a head each under deep supervision."""

    def __init__(self, options: DynUnetOptions, *, in_channels: int = 1) -> None:
        super().__init__()
        network = DynUNet(
            spatial_dims=3,
            in_channels=in_channels,
            out_channels=1,
            kernel_size=options.kernels,
            strides=options.strides,
            upsample_kernel_size=options.strides[1:],
            filters=options.widths,
            res_block=options.residual,
        )
        self.channels = options.widths[:-1]
        self.strides = options.level_strides[:-1]
        self.divisor = options.divisor
        # The parts alone: the network itself holds every one of them twice, which safetensors refuses.
        self.encoder = nn.ModuleList([network.input_block, *network.downsamples, network.bottleneck])
        self.decoder = nn.ModuleList(network.upsamples)

    def forward(self, volume: Tensor) -> tuple[Tensor, ...]:
        self.check_size(volume.shape[2:])
        x, skips = volume, []
        for block in self.encoder:
            x = block(x)
            skips.append(x)
        decoded = []
        for block, skip in zip(self.decoder, reversed(skips[:-1]), strict=True):
            x = block(x, skip)
            decoded.append(x)
        return tuple(reversed(decoded))
