"""A plain transformer over patches of a volume and a light decoder, after Primus (Wald et al., 2025, arXiv:2503.01835).

Under masking the encoder runs on the visible tokens alone, as in MAE (He et al., 2021, arXiv:2111.06377).
"""

from collections.abc import Sequence
from math import prod
from typing import cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from medpipe.backbones.attention import EPS, TransformerBlock, initialise
from medpipe.backbones.backbone import Backbone
from medpipe.backbones.masking import LevelVisibility, Visibility
from medpipe.backbones.normalisation import InstanceNorm
from medpipe.backbones.options import Stride, VisionTransformerOptions
from medpipe.backbones.rotary import axial_angles
from medpipe.backbones.tokens import TokenStage


@final
class AxialTable(nn.Module):
    """A learned vector for each place along each axis, added up: (N, width) for any grid up to `longest` a side."""

    def __init__(self, width: int, longest: int) -> None:
        super().__init__()
        self.tables = nn.ParameterList(nn.Parameter(0.02 * torch.randn(longest, width)) for _ in range(3))

    def forward(self, grid: Sequence[int]) -> Tensor:
        longest = len(self.tables[0])
        if max(grid) > longest:
            raise ValueError(
                f"a grid of {tuple(grid)} tokens (D, H, W) is longer than the {longest} places of the learned table: "
                "raise longest_side, or use position: rotary"
            )
        d, h, w = (table[:size] for table, size in zip(self.tables, grid, strict=True))
        return (d[:, None, None] + h[None, :, None] + w[None, None]).flatten(0, 2)


@final
class VisionTransformerEncoder(nn.Module):
    """From a volume to one map of tokens, (B, width, d, h, w)."""

    def __init__(self, options: VisionTransformerOptions, *, in_channels: int = 1) -> None:
        super().__init__()
        self.patch = options.patch
        self.embedding = nn.Conv3d(in_channels, options.width, self.patch, stride=self.patch)
        self.table = AxialTable(options.width, options.longest_side) if options.position == "learned" else None
        self.tokens = TokenStage(
            options.width, options.num_heads, options.depth, options.attention,
            has_rotary=self.table is None, has_norm=True,
        )  # fmt: skip
        self.apply(initialise)

    def forward(self, volume: Tensor, visibility: Visibility | None = None) -> Tensor:
        """With `visibility` hidden tokens take no part, whatever their voxels hold, and come out 0."""
        if visibility is not None:
            volume = visibility.at(volume.shape[2:]).only_visible(volume)
        x = self.embedding(volume)
        grid = x.shape[2:]
        if self.table is not None:
            x = x + self.table(grid).t().unflatten(1, grid)
        return self.tokens(x, None if visibility is None else visibility.at(grid))


@final
class UpStep(nn.Module):
    """Transposed convolution as wide as its step, normalised, GELU."""

    def __init__(self, in_channels: int, out_channels: int, step: Stride) -> None:
        super().__init__()
        self.upsample = nn.ConvTranspose3d(in_channels, out_channels, step, stride=step)
        self.norm = InstanceNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return functional.gelu(self.norm(self.upsample(x)))


@final
class VisionTransformer(Backbone):
    """The encoder, and a step of transposed convolution to each finer grid: as many maps, finest first."""

    def __init__(self, options: VisionTransformerOptions, *, in_channels: int = 1) -> None:
        super().__init__()
        *finer, coarsest = options.level_strides
        self.strides = tuple(finer)
        self.channels = tuple(options.decoder_width << level for level in range(len(finer)))
        self.divisor = options.divisor
        self.encoder = VisionTransformerEncoder(options, in_channels=in_channels)
        widths, strides = (*self.channels, options.width), (*finer, coarsest)
        self.decoder = nn.ModuleList(
            UpStep(widths[level + 1], widths[level], _step(strides[level], strides[level + 1]))
            for level in reversed(range(len(finer)))
        )

    def forward(self, volume: Tensor) -> tuple[Tensor, ...]:
        self.check_size(volume.shape[2:])
        x, maps = self.encoder(volume), []
        for step in self.decoder:
            x = step(x)
            maps.append(x)
        return tuple(reversed(maps))


def _step(fine: Stride, coarse: Stride) -> Stride:
    return (coarse[0] // fine[0], coarse[1] // fine[1], coarse[2] // fine[2])


@final
class TokenDecoder(nn.Module):
    """From a map of tokens, hidden ones 0, to the volume (B, 1, D, H, W): two blocks over all tokens."""

    HEAD_WIDTH = 32
    DEPTH = 2

    def __init__(self, options: VisionTransformerOptions, width: int) -> None:
        super().__init__()
        num_heads = max(1, width // self.HEAD_WIDTH)
        width = num_heads * self.HEAD_WIDTH
        self.patch = options.patch
        self.projection = nn.Linear(options.width, width)
        self.mask_vector = nn.Parameter(torch.empty(width))
        nn.init.trunc_normal_(self.mask_vector, std=0.02)
        self.blocks = nn.ModuleList(TransformerBlock(width, num_heads, options.attention) for _ in range(self.DEPTH))
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.head = nn.Linear(width, prod(self.patch))
        self.apply(initialise)

    def forward(self, tokens: Tensor, visible: LevelVisibility) -> Tensor:
        grid = cast(tuple[int, int, int], tuple(tokens.shape[2:]))
        x = self.projection(tokens.flatten(2).transpose(1, 2))
        x = torch.where(visible.is_visible.flatten(2).transpose(1, 2), x, self.mask_vector.to(x.dtype))
        rotary = axial_angles(grid, self.HEAD_WIDTH, x.device)
        for block in self.blocks:
            x = block(x, rotary=rotary)
        voxels = self.head(self.norm(x)).unflatten(1, grid).unflatten(-1, self.patch)
        # (B, d, h, w, pd, ph, pw) to (B, d, pd, h, ph, w, pw)
        volume = voxels.permute(0, 1, 4, 2, 5, 3, 6)
        return volume.flatten(5, 6).flatten(3, 4).flatten(1, 2).unsqueeze(1)
