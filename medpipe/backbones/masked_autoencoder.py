"""Sparse masked pretraining as one network: an encoder that sees visible blocks alone, and the light decoder."""

from typing import final

from torch import Tensor, nn

from medpipe.backbones.light_decoder import LightDecoder
from medpipe.backbones.masking import Visibility
from medpipe.backbones.options import BackboneOptions, LightDecoderOptions, Stride, StunetOptions
from medpipe.backbones.stunet import StunetEncoder

# Of six: the sixth would need blocks of 32^3 voxels, 36 of them in a crop of 96 x 96 x 128.
NUM_PRETRAINED_LEVELS = 5


@final
class SparseMaskedAutoencoder(nn.Module):
    """Reconstructs volumes of which blocks are hidden; only `encoder.` is of use afterwards."""

    def __init__(self, encoder: StunetEncoder, light_decoder: LightDecoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.light_decoder = light_decoder

    @property
    def block_size(self) -> Stride:
        """Voxels (D, H, W) of a block: the stride of the coarsest level. Patches are whole numbers of blocks."""
        return self.encoder.strides[-1]

    def forward(self, volume: Tensor, is_hidden: Tensor) -> Tensor:
        """The reconstruction (B, 1, D, H, W) of volume (B, C, D, H, W).

        is_hidden (B, d, h, w) bool has one entry a block. What hidden voxels hold, be it NaN, has no influence.
        """
        visibility = Visibility(is_hidden)
        return self.light_decoder(self.encoder(volume, visibility), visibility)


def build_sparse_autoencoder(
    backbone: BackboneOptions, decoder: LightDecoderOptions | None = None, *, in_channels: int = 1
) -> SparseMaskedAutoencoder:
    """The pretraining network of a backbone. Raises ValueError: the backbone has no sparse form."""
    if not isinstance(backbone, StunetOptions):
        raise ValueError(f"backbone '{backbone.name}' has no sparse form, only 'stunet' has; plain masking takes any")
    encoder = StunetEncoder(backbone, in_channels=in_channels, num_levels=NUM_PRETRAINED_LEVELS)
    return SparseMaskedAutoencoder(encoder, LightDecoder(encoder.channels, encoder.strides, decoder))
