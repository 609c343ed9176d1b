"""monai's SwinUNETR without its output convolution, with softmax or sigmoid attention in its windows."""

from typing import final

from monai.networks.nets.swin_unetr import SwinTransformerBlock, SwinUNETR
from torch import Tensor, nn

from medpipe.backbones.backbone import Backbone
from medpipe.backbones.options import SwinUnetrOptions
from medpipe.backbones.window_attention import WindowAttention


@final
class SwinUnetrEncoder(nn.Module):
    """The transformer and the convolutions behind its levels: six maps, finest first."""

    def __init__(self, network: SwinUNETR) -> None:
        super().__init__()
        self.transformer = network.swinViT
        self.input_block = network.encoder1
        # Behind the embedding, the first and the second level; the third goes to the decoder as it is.
        self.blocks = nn.ModuleList([network.encoder2, network.encoder3, network.encoder4])
        self.bottleneck = network.encoder10

    def forward(self, volume: Tensor) -> tuple[Tensor, ...]:
        *finer, third, fourth = self.transformer(volume, True)
        skips = (block(x) for block, x in zip(self.blocks, finer, strict=True))
        return self.input_block(volume), *skips, third, self.bottleneck(fourth)


@final
class SwinUnetr(Backbone):
    """One map, as fine as the input."""

    def __init__(self, options: SwinUnetrOptions, *, in_channels: int = 1) -> None:
        super().__init__()
        network = SwinUNETR(
            in_channels=in_channels,
            out_channels=1,
            feature_size=options.width,
            use_checkpoint=options.recompute,
        )
        if options.attention == "sigmoid":
            use_sigmoid_in_windows(network)
        self.channels = (options.width,)
        self.strides = ((1, 1, 1),)
        self.divisor = options.divisor
        self.encoder = SwinUnetrEncoder(network)
        self.decoder = nn.ModuleList(
            [network.decoder5, network.decoder4, network.decoder3, network.decoder2, network.decoder1]
        )

    def forward(self, volume: Tensor) -> tuple[Tensor, ...]:
        self.check_size(volume.shape[2:])
        *skips, x = self.encoder(volume)
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            x = block(x, skip)
        return (x,)


def use_sigmoid_in_windows(network: nn.Module) -> None:
    """Every window attention of monai in the network becomes ours by sigmoid, with the weights that it has."""
    for block in network.modules():
        if isinstance(block, SwinTransformerBlock):
            theirs = block.attn
            has_bias = theirs.qkv.bias is not None
            ours = WindowAttention(theirs.dim, theirs.num_heads, theirs.window_size, has_bias, attention="sigmoid")
            ours.load_state_dict(theirs.state_dict())
            block.register_module("attn", ours)
