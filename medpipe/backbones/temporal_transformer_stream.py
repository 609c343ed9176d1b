"""A block of the causal temporal transformer frame by frame: keys and values of the frames in its window, in a ring.

A step is some fifty products and sums of a few dozen numbers, each of which costs numpy a microsecond whatever it
does: norms and scales are folded into the products beside them, and queries and keys go together.
"""

import math
from typing import TYPE_CHECKING, Any, final

import numpy as np
from scipy.special import erf

from medpipe.backbones.streaming import Pointwise, to_numpy

if TYPE_CHECKING:
    from torch import nn

    from medpipe.backbones.temporal_transformer import TemporalBlock


@final
class NormedLinear:
    """A LayerNorm and the linear layer after it, in one product."""

    def __init__(self, norm: "nn.LayerNorm", layer: Any) -> None:
        weight, inner = to_numpy(norm.weight), Pointwise(layer)
        self.matrix = np.ascontiguousarray(weight[:, None] * inner.matrix)
        self.bias = inner.bias + to_numpy(norm.bias) @ inner.matrix
        self.width, self.eps = len(weight), norm.eps
        self.share = np.full(self.width, 1 / self.width, dtype=np.float32)

    def step(self, x: np.ndarray) -> np.ndarray:
        """(width,) to (outputs,)."""
        centred = x - x @ self.share
        return centred @ self.matrix * (1 / math.sqrt(centred @ centred / self.width + self.eps)) + self.bias


@final
class BlockStream:
    """One TemporalBlock."""

    def __init__(self, block: "TemporalBlock") -> None:
        attention: Any = block.attention
        self.heads, self.window, self.dilation = attention.num_heads, attention.window, attention.dilation
        self.width = attention.projection.in_features
        self.head_width = self.width // self.heads
        self.qkv = NormedLinear(block.norm1, attention.qkv)
        self.widen = NormedLinear(block.norm2, block.mlp[0])
        self.projection, self.narrow = Pointwise(attention.projection), Pointwise(block.mlp[2])  # type: ignore[arg-type]
        for layer, scale in ((self.projection, block.scale1), (self.narrow, block.scale2)):
            factor = to_numpy(next(scale.parameters()))
            layer.matrix, layer.bias = np.ascontiguousarray(layer.matrix * factor), layer.bias * factor
        # Queries, then keys; the scale of the scores goes with the queries.
        norms = (attention.q_norm, attention.k_norm)
        share = np.array([self.head_width**-0.5, 1], dtype=np.float32)[:, None, None]
        self.norm_weight = np.stack([to_numpy(norm.weight) for norm in norms])[:, None] * share
        self.norm_bias = np.stack([to_numpy(norm.bias) for norm in norms])[:, None] * share
        self.mean = np.full(self.head_width, 1 / self.head_width, dtype=np.float32)
        self.eps = attention.q_norm.eps
        self.bias = to_numpy(attention.bias)[:, None]
        self.speeds = to_numpy(attention.speeds).astype(np.float64)
        self.ages = np.arange(self.window, -1, -1) * self.dilation  # of the frames in sight, the oldest first
        self.length = self.window * self.dilation + 1
        self.keys = np.zeros((self.length, self.width), dtype=np.float32)
        self.values = np.zeros((self.length, self.width), dtype=np.float32)
        self.count = 0

    def step(self, x: np.ndarray) -> np.ndarray:
        """(width,) of the newest frame, alike."""
        x = x + self.projection.step(self._attend(self.qkv.step(x)))
        return x + self.narrow.step(gelu(self.widen.step(x)))

    def _attend(self, qkv: np.ndarray) -> np.ndarray:
        """Queries, keys and values (3 x width,) of the newest frame to what its heads find (width,)."""
        q, k = self._placed(qkv[: 2 * self.width].reshape(2, self.heads, self.head_width))
        place = self.count % self.length
        self.keys[place], self.values[place] = k.ravel(), qkv[2 * self.width :]
        # Before the first frame there is nothing to see.
        ages = self.ages[-min(self.window, self.count // self.dilation) - 1 :]
        rows = (place - ages) % self.length
        self.count += 1
        keys = self.keys[rows].reshape(-1, self.heads, self.head_width).transpose(1, 0, 2)
        values = self.values[rows].reshape(-1, self.heads, self.head_width).transpose(1, 0, 2)
        scores = (keys @ q[:, :, None])[..., 0] + self.bias
        weights = 1 / (1 + np.exp(-scores))
        return (weights[:, None] @ values).ravel()

    def _placed(self, both: np.ndarray) -> np.ndarray:
        """Queries and keys (2, heads, head width) normalised and turned to the frame's place."""
        centred = both - (both @ self.mean)[..., None]
        spread = np.sqrt((centred * centred) @ self.mean + self.eps)
        normed = centred / spread[..., None] * self.norm_weight + self.norm_bias
        angles = (self.count // self.dilation * self.speeds) % (2 * math.pi)
        cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        pairs = self.head_width // 2
        first, second = normed[..., :pairs], normed[..., pairs:]
        return np.concatenate((first * cos - second * sin, first * sin + second * cos), axis=-1)

    def reset(self) -> None:
        """Begin another video: forget every frame."""
        self.keys[:], self.values[:] = 0, 0
        self.count = 0

    @property
    def num_bytes(self) -> int:
        """Of the ring."""
        return self.keys.nbytes + self.values.nbytes


def gelu(x: np.ndarray) -> np.ndarray:
    """x times the normal distribution's share below x."""
    return 0.5 * x * (1 + erf(x * np.float32(0.5**0.5)))
