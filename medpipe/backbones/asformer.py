"""ASFormer (Yi et al., 2021, arXiv:2110.08568), after its description: attention in windows that double with depth.

Two departures, both so that padding does not leak: the instance normalisation counts frames alone, and keys that are no
frames are left out of the softmax (the published window mask lets some in, its issue 2).
"""

import math
from typing import cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medpipe.backbones.temporal import TemporalBackbone, TimeConv, mask_of
from medpipe.backbones.temporal_options import AsFormerOptions


def normalised_over_frames(x: Tensor, mask: Tensor, eps: float = 1e-5) -> Tensor:
    """x (B, C, T) less its mean, over its deviation, each channel by itself over the frames of a video."""
    count = mask.sum(dim=-1, keepdim=True).clamp(min=1)
    mean = (x * mask).sum(dim=-1, keepdim=True) / count
    centred = (x - mean) * mask
    variance = centred.square().sum(dim=-1, keepdim=True) / count
    return centred / torch.sqrt(variance + eps)


class WindowAttention(nn.Module):
    """Frames in blocks of `window`; each block attends to itself and half a window to either side."""

    def __init__(self, width: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.half: int = window // 2
        self.query = TimeConv(width, width // 2, 1)
        self.key = TimeConv(width, width // 2, 1)
        self.value = TimeConv(width, width // 2, 1)
        self.leave = TimeConv(width // 2, width, 1)

    def forward(self, x: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """x, values: (B, C, T); mask: (B, 1, T). The values come from `values`."""
        length = x.shape[-1]
        if self.window >= length:  # one block that sees every frame: no padding to attend to in vain
            q, k, v = (part.transpose(1, 2)[:, None] for part in (self.query(x), self.key(x), self.value(values)))
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=(mask > 0)[:, None])
            return self.leave(torch.relu(attended[:, 0].transpose(1, 2))) * mask
        beyond = -length % self.window
        q = self._blocks(self.query(x), beyond, reach=0)  # (B, blocks, window, C/2)
        k = self._blocks(self.key(x), beyond, reach=self.half)
        v = self._blocks(self.value(values), beyond, reach=self.half)
        is_key = self._blocks(mask, beyond, reach=self.half)[..., 0] > 0  # (B, blocks, keys)
        # A block without a single frame: let it attend to the padding, its output is masked anyway.
        is_key = is_key | ~is_key.any(dim=-1, keepdim=True)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=is_key.unsqueeze(-2))
        merged = attended.flatten(1, 2)[:, :length].transpose(1, 2)
        return self.leave(torch.relu(merged)) * mask

    def _blocks(self, x: Tensor, beyond: int, *, reach: int) -> Tensor:
        """(B, C, T) as (B, blocks, window + 2 reach, C), zeros beyond the ends."""
        padded = F.pad(x, (reach, beyond + reach))
        return padded.unfold(-1, self.window + 2 * reach, self.window).permute(0, 2, 3, 1)


class Layer(nn.Module):
    """A dilated convolution, attention in a window as long as the dilation and a 1x1 convolution; a shortcut around."""

    def __init__(self, width: int, *, dilation: int, strength: float, dropout: float) -> None:
        super().__init__()
        self.strength = strength
        self.dilated = TimeConv(width, width, 3, dilation=dilation)
        self.attention = WindowAttention(width, dilation)
        self.mix = TimeConv(width, width, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, values: Tensor | None, mask: Tensor) -> Tensor:
        """`values`: where a decoder attends to the stage before; None in the encoder."""
        hidden = torch.relu(self.dilated(x)) * mask
        normalised = normalised_over_frames(hidden, mask)
        attended = self.attention(normalised, normalised if values is None else values, mask)
        return (x + self.dropout(self.mix(self.strength * attended + hidden))) * mask


class AttentionStage(nn.Module):
    """Layers whose window doubles, between two 1x1 convolutions."""

    def __init__(self, in_channels: int, options: AsFormerOptions, num_outputs: int, strength: float) -> None:
        super().__init__()
        self.enter = TimeConv(in_channels, options.width, 1)
        self.layers = nn.ModuleList(
            Layer(options.width, dilation=2**level, strength=strength, dropout=options.dropout)
            for level in range(options.layers)
        )
        self.leave = TimeConv(options.width, num_outputs, 1)

    def forward(self, x: Tensor, values: Tensor | None, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, outputs, T) and the features (B, width, T) before them."""
        x = self.enter(x) * mask
        for layer in self.layers:
            x = layer(x, values, mask)
        return self.leave(x), x


@final
class AsFormer(TemporalBackbone):
    """An encoder, and decoders that refine its probabilities, each attending to the features before it."""

    def __init__(self, options: AsFormerOptions, *, input_dim: int, num_phases: int) -> None:
        super().__init__()
        self.channel_dropout = nn.Dropout1d(options.channel_dropout)
        self.encoder = AttentionStage(input_dim, options, num_phases, strength=1.0)
        self.decoders = nn.ModuleList(
            AttentionStage(num_phases, options, num_phases, strength=math.exp(-3 * number))
            for number in range(options.decoders)
        )

    def forward(self, embeddings: Tensor, is_frame: Tensor) -> tuple[Tensor, ...]:
        mask = mask_of(is_frame, embeddings)
        logits, features = self.encoder(self.channel_dropout(embeddings.transpose(1, 2)), None, mask)
        stages = [logits]
        for decoder in self.decoders:
            logits, features = cast(AttentionStage, decoder)(stages[-1].softmax(dim=1) * mask, features * mask, mask)
            stages.append(logits)
        return tuple(stage.transpose(1, 2) for stage in stages)
