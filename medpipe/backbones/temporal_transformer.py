"""A transformer along time on sigmoid attention: windows of a fixed number of frames, further apart layer by layer.

Each layer takes the frames `dilation` apart as sequences of their own and lets a frame look at `window` of them to
either side, so that ten layers see 2 x window x 1023 frames at a cost that grows with the length alone: the pattern of
dilated convolutions (Lea et al., 2017, arXiv:1611.05267), with weights by sigmoid (arXiv:2409.04431). The number of
keys in sight is the same for all frames but those at the ends, so the bias begins at its -log and is learned, head by
head. The causal form looks back alone and runs frame by frame as well.
"""

import math
from typing import cast, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medpipe.backbones.attention import EPS, LayerScale
from medpipe.backbones.rotary import rotate
from medpipe.backbones.streaming import Norm, Pointwise, Stream
from medpipe.backbones.temporal import TemporalBackbone
from medpipe.backbones.temporal_options import TemporalTransformerOptions
from medpipe.backbones.temporal_transformer_stream import BlockStream
from medpipe.kernels.sigmoid_attention.entry import sigmoid_attention

LAYER_SCALE = 0.1  # first value, as of the other transformers here


class DilatedAttention(nn.Module):
    """Self-attention (B, T, width) within a window of frames that are `dilation` apart."""

    def __init__(self, width: int, options: TemporalTransformerOptions, dilation: int) -> None:
        super().__init__()
        self.num_heads, self.window, self.dilation = options.heads, options.window, dilation
        head_width = width // options.heads
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm, self.k_norm = (nn.LayerNorm(head_width, eps=EPS) for _ in range(2))
        self.reach = (options.window, 0 if options.causal else options.window)
        self.bias = nn.Parameter(torch.full((options.heads,), -math.log(sum(self.reach) + 1)))
        self.projection = nn.Linear(width, width)
        speeds = (4.0 * options.window) ** -(torch.arange(head_width // 2) / max(1, head_width // 2))
        self.register_buffer("speeds", speeds, persistent=False)
        self.speeds: Tensor

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """lengths (B,): frames of each video; what lies behind them is not looked at, and its output means nothing."""
        apart, own_lengths = self._apart(x, lengths)
        q, k, v = self.qkv(apart).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        # Only differences of places count, but a place of 54,000 times a speed is off by 2e-3 in single precision.
        places = torch.arange(q.shape[2], device=x.device, dtype=torch.float64)[:, None]
        angles = (places * self.speeds.double()).remainder(2 * math.pi).float()
        q, k = rotate(self.q_norm(q), angles).to(v.dtype), rotate(self.k_norm(k), angles).to(v.dtype)
        out = sigmoid_attention(
            q, k, v, bias=self.bias, key_lengths=own_lengths, query_lengths=own_lengths,
            window=self.reach,
        )  # fmt: skip
        together = out.transpose(1, 2).flatten(2).unflatten(0, (x.shape[0], self.dilation))
        return self.projection(together.transpose(1, 2).flatten(1, 2)[:, : x.shape[1]])

    def _apart(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, C) as (B * dilation, T / dilation, C), and how many frames each of these sequences has."""
        step = self.dilation
        padded = F.pad(x, (0, 0, 0, -x.shape[1] % step))
        apart = padded.unflatten(1, (-1, step)).transpose(1, 2).flatten(0, 1)
        firsts = torch.arange(step, device=lengths.device)
        own = (lengths[:, None] + (step - 1) - firsts).div(step, rounding_mode="floor").clamp(min=0)
        return apart, own.flatten().to(torch.int32)


class TemporalBlock(nn.Module):
    """x + attention(norm x), then x + mlp(norm x)."""

    def __init__(self, options: TemporalTransformerOptions, dilation: int) -> None:
        super().__init__()
        width = options.width
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=EPS) for _ in range(2))
        self.attention = DilatedAttention(width, options, dilation)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.scale1, self.scale2 = (LayerScale(width, LAYER_SCALE) for _ in range(2))
        self.dropout = nn.Dropout(options.dropout)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        x = x + self.dropout(self.scale1(self.attention(self.norm1(x), lengths)))
        return x + self.dropout(self.scale2(self.mlp(self.norm2(x))))


@final
class TemporalTransformer(TemporalBackbone):
    """Blocks whose dilation doubles, between two linear layers."""

    def __init__(self, options: TemporalTransformerOptions, *, input_dim: int, num_phases: int) -> None:
        super().__init__()
        self.is_causal, self.input_dim = options.causal, input_dim
        self.channel_dropout = nn.Dropout1d(options.channel_dropout)
        self.enter = nn.Linear(input_dim, options.width)
        self.blocks = nn.ModuleList(TemporalBlock(options, 2**level) for level in range(options.layers))
        self.norm = nn.LayerNorm(options.width, eps=EPS)
        self.leave = nn.Linear(options.width, num_phases)

    def forward(self, embeddings: Tensor, is_frame: Tensor) -> tuple[Tensor, ...]:
        """Frames come first, padding last: that is how videos are padded."""
        x = self.enter(self.channel_dropout(embeddings.transpose(1, 2)).transpose(1, 2))
        lengths = is_frame.sum(dim=1)
        for block in self.blocks:
            x = block(x, lengths)
        return (self.leave(self.norm(x)),)

    def stream(self) -> Stream:
        if not self.is_causal:
            return super().stream()
        blocks = [BlockStream(cast(TemporalBlock, block)) for block in self.blocks]
        enter, norm, leave = Pointwise(self.enter), Norm(self.norm), Pointwise(self.leave)

        def step(frame: np.ndarray) -> np.ndarray:
            x = enter.step(frame)
            for block in blocks:
                x = block.step(x)
            return leave.step(norm.step(x))

        return Stream(step, blocks, input_dim=self.input_dim)
