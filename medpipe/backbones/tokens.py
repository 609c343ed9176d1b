"""Transformer blocks over the voxels of a map as tokens: over all of them, or over the visible ones alone."""

from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from medpipe.backbones.attention import EPS, TransformerBlock
from medpipe.backbones.masking import LevelVisibility
from medpipe.backbones.options import AttentionOptions
from medpipe.backbones.rotary import axial_angles


class VisibleTokens(NamedTuple):
    """Which tokens of each sample an encoder sees: index (B, n) into the grid; count (B,) of them are real."""

    index: Tensor
    count: Tensor | None  # None: all n of every sample

    @property
    def is_padding(self) -> Tensor | None:
        """(B, n) bool."""
        if self.count is None:
            return None
        return torch.arange(self.index.shape[1], device=self.index.device) >= self.count[:, None]


def visible_tokens(visible: LevelVisibility) -> VisibleTokens:
    """The visible places of a grid in their order, padded to the longest sample."""
    is_visible = visible.is_visible.flatten(1)
    count = is_visible.sum(dim=1)
    longest = int(count.max())
    index = torch.argsort((~is_visible).to(torch.uint8), dim=1, stable=True)[:, :longest]
    return VisibleTokens(index, None if bool((count == longest).all()) else count)


@final
class TokenStage(nn.Module):
    """`depth` blocks over a map (B, width, d, h, w), whose voxels know their places by rotation if has_rotary."""

    def __init__(
        self,
        width: int,
        num_heads: int,
        depth: int,
        options: AttentionOptions,
        *,
        has_rotary: bool = True,
        has_norm: bool = False,
    ) -> None:
        super().__init__()
        self.head_width = width // num_heads
        self.has_rotary = has_rotary
        self.blocks = nn.ModuleList(TransformerBlock(width, num_heads, options) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=EPS) if has_norm else nn.Identity()

    def forward(self, x: Tensor, visible: LevelVisibility | None = None) -> Tensor:
        """With `visible` hidden voxels take no part, must be finite, and come out 0."""
        grid = x.shape[2:]
        rotary = axial_angles(grid, self.head_width, x.device) if self.has_rotary else None
        tokens = x.flatten(2).transpose(1, 2)
        if visible is None:
            tokens = self._transform(tokens, rotary, None)
        else:
            tokens = self._transform_visible(tokens, rotary, visible_tokens(visible))
        return tokens.transpose(1, 2).unflatten(2, grid)

    def _transform_visible(self, x: Tensor, rotary: Tensor | None, tokens: VisibleTokens) -> Tensor:
        places = tokens.index[..., None].expand(-1, -1, x.shape[2])
        seen = x.gather(1, places)
        seen = self._transform(seen, None if rotary is None else rotary[tokens.index], tokens.count)
        if tokens.is_padding is not None:
            seen = seen.masked_fill(tokens.is_padding[..., None], 0)
        return torch.zeros_like(x, dtype=seen.dtype).scatter(1, places, seen)

    def _transform(self, x: Tensor, rotary: Tensor | None, key_lengths: Tensor | None) -> Tensor:
        for block in self.blocks:
            x = block(x, rotary=rotary, key_lengths=key_lengths)
        return self.norm(x)
