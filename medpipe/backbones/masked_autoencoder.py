"""Masked pretraining as one network: an encoder that sees visible blocks alone, and a decoder that is thrown away."""

from abc import ABC, abstractmethod
from typing import final

from torch import Tensor, nn

from medpipe.backbones.hybrid import HybridEncoder
from medpipe.backbones.light_decoder import LightDecoder
from medpipe.backbones.masking import Visibility
from medpipe.backbones.options import (
    BackboneOptions,
    HybridOptions,
    LightDecoderOptions,
    SparseForm,
    Stride,
    StunetOptions,
    VisionTransformerOptions,
)
from medpipe.backbones.stunet import StunetEncoder
from medpipe.backbones.vision_transformer import TokenDecoder, VisionTransformerEncoder

# Of six; see StunetOptions.hidden_block.
NUM_PRETRAINED_LEVELS = 5


class MaskedEncoderNetwork(nn.Module, ABC):
    """Abstract. Reconstructs volumes of which blocks are hidden; only `encoder.` is of use afterwards."""

    block_size: Stride  # voxels (D, H, W) of a block; patches are whole numbers of blocks

    @abstractmethod
    def forward(self, volume: Tensor, is_hidden: Tensor) -> Tensor:
        """The reconstruction (B, 1, D, H, W) of volume (B, C, D, H, W).

        is_hidden (B, d, h, w) bool has one entry a block. What hidden voxels hold, be it NaN, has no influence.
        """


@final
class SparseMaskedAutoencoder(MaskedEncoderNetwork):
    """An encoder of convolutions on visible voxels alone, and SparK's decoder over its maps.

    form: how the encoder computes; the parameters and, to rounding, the results are the same.
    """

    def __init__(
        self, encoder: StunetEncoder | HybridEncoder, light_decoder: LightDecoder, form: SparseForm = "measured"
    ) -> None:
        super().__init__()
        self.form: SparseForm = form
        self.encoder = encoder
        self.light_decoder = light_decoder
        self.block_size = encoder.strides[-1]

    def forward(self, volume: Tensor, is_hidden: Tensor) -> Tensor:
        return self.light_decoder(self.encoder.sparse_maps(volume, Visibility(is_hidden, self.form)))


@final
class TokenMaskedAutoencoder(MaskedEncoderNetwork):
    """A transformer over the visible tokens, and a small one over all of them."""

    def __init__(self, options: VisionTransformerOptions, *, decoder_width: int, in_channels: int = 1) -> None:
        super().__init__()
        self.encoder = VisionTransformerEncoder(options, in_channels=in_channels)
        self.light_decoder = TokenDecoder(options, decoder_width)
        self.block_size = options.hidden_block

    def forward(self, volume: Tensor, is_hidden: Tensor) -> Tensor:
        visibility = Visibility(is_hidden)
        tokens = self.encoder(volume, visibility)
        return self.light_decoder(tokens, visibility.at(tokens.shape[2:]))


def build_sparse_autoencoder(
    backbone: BackboneOptions,
    decoder: LightDecoderOptions | None = None,
    *,
    in_channels: int = 1,
    form: SparseForm = "measured",
) -> MaskedEncoderNetwork:
    """The pretraining network of a backbone. Raises ValueError: the backbone has no sparse form."""
    decoder = decoder or LightDecoderOptions()
    if isinstance(backbone, VisionTransformerOptions):
        if decoder.hidden_only:
            raise ValueError("a decoder on hidden blocks alone needs an encoder of convolutions (stunet, hybrid)")
        return TokenMaskedAutoencoder(backbone, decoder_width=decoder.width, in_channels=in_channels)
    if isinstance(backbone, HybridOptions):
        encoder = HybridEncoder(backbone, in_channels=in_channels, num_levels=NUM_PRETRAINED_LEVELS)
    elif isinstance(backbone, StunetOptions):
        encoder = StunetEncoder(backbone, in_channels=in_channels, num_levels=NUM_PRETRAINED_LEVELS)
    else:
        raise ValueError(
            f"backbone '{backbone.name}' has no sparse form, only 'stunet', 'hybrid' and 'vision_transformer' have; "
            "plain masking takes any"
        )
    return SparseMaskedAutoencoder(encoder, LightDecoder(encoder.channels, encoder.strides, decoder), form)
