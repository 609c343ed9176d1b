"""Volumes of which whole blocks are hidden, held as their visible blocks alone, and where each block's neighbours are.

The state of a level is `(N, C, bd, bh, bw)`: N visible blocks of the whole batch, in the order of sample and place.
Neighbours are found once, on the grid of blocks, and serve every level, since the mask is the same on all of them.
No coordinates are hashed or sorted: a block mask needs neither.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from medpipe.kernels.block_sparse_conv.places import Edges

NUM_NEIGHBOURS = 27  # of a block, itself among them: offsets -1 to 1 along each axis, W fastest


@final
class BlockGrid:
    """The visible blocks of a batch, and the neighbours of each."""

    def __init__(self, is_hidden: Tensor) -> None:
        """is_hidden: (B, d, h, w) bool, one entry a block. Samples need not hide equally many, or any.

        Raises ValueError: another type or shape.
        """
        if is_hidden.dtype != torch.bool or is_hidden.ndim != 4:
            raise ValueError(f"is_hidden must be bool (B, d, h, w), got {is_hidden.dtype} {tuple(is_hidden.shape)}")
        self.is_hidden = is_hidden
        # (N, 4) int64: sample and place (z, y, x) of each visible block.
        self.places = (~is_hidden).nonzero()
        self._levels: dict[tuple[Edges, Edges], BlockLevel] = {}

    @property
    def num_samples(self) -> int:
        return len(self.is_hidden)

    @property
    def num_blocks(self) -> int:
        """Visible blocks of the whole batch."""
        return len(self.places)

    @property
    def samples(self) -> Tensor:
        """(N,) int64: the sample that each visible block belongs to."""
        return self.places[:, 0]

    @cached_property
    def of_hidden(self) -> "BlockGrid":
        """The grid whose visible blocks are those hidden here."""
        return BlockGrid(~self.is_hidden)

    @cached_property
    def belongs(self) -> Tensor:
        """(B, N) bool: which visible blocks each sample has."""
        return self.samples == torch.arange(self.num_samples, device=self.samples.device)[:, None]

    @cached_property
    def neighbours(self) -> Tensor:
        """(N, 27) int64: number of the visible block at each offset, -1 where it is hidden or outside."""
        number = torch.full(self.is_hidden.shape, -1, device=self.is_hidden.device)
        number[~self.is_hidden] = torch.arange(self.num_blocks, device=number.device)
        number = functional.pad(number, (1, 1, 1, 1, 1, 1), value=-1)
        sample, z, y, x = self.places.unbind(1)
        return torch.stack([number[sample, z + dz, y + dy, x + dx] for dz, dy, dx in product(range(3), repeat=3)], 1)

    def level(self, block: Sequence[int], size: Sequence[int] | None = None) -> "BlockLevel":
        """A level whose blocks have these edges (D, H, W) in voxels.

        size: of the volume, where the last blocks of an axis reach beyond it; their voxels there are hidden.
        Raises ValueError: the size does not need as many blocks as there are.
        """
        grid = self.is_hidden.shape[1:]
        edges: Edges = (block[0], block[1], block[2])
        if min(edges) < 1:
            raise ValueError(f"a block has edges of at least 1 voxel, got {edges}")
        whole: Edges = (grid[0] * edges[0], grid[1] * edges[1], grid[2] * edges[2])
        limits: Edges = whole if size is None else (size[0], size[1], size[2])
        if any(-(-side // edge) != count for side, edge, count in zip(limits, edges, grid, strict=True)):
            raise ValueError(f"a volume of {limits} voxels is not {tuple(grid)} blocks of {edges} (D, H, W)")
        if (edges, limits) not in self._levels:
            self._levels[edges, limits] = BlockLevel(self, edges, limits)
        return self._levels[edges, limits]


@final
@dataclass(frozen=True, eq=False)
class Rows:
    """Voxels that blocks read, of themselves and their neighbours."""

    index: Tensor  # (R,) int64: row of the state seen as (N * voxels, C)
    missing: Tensor  # (M,) int64: which of the R are hidden or outside

    def read(self, x: Tensor) -> Tensor:
        """What is read of the blocks x (N, C, bd, bh, bw): (R, C), 0 where it is missing."""
        read = as_rows(x).index_select(0, self.index)
        return read.index_fill_(0, self.missing, 0) if len(self.missing) else read


def as_rows(x: Tensor) -> Tensor:
    """x (N, C, bd, bh, bw) as (N * voxels, C); a copy unless channels lie last in memory."""
    return x.permute(0, 2, 3, 4, 1).reshape(-1, x.shape[1])


def as_blocks(rows: Tensor, edges: Edges) -> Tensor:
    """rows (N * voxels, C) as (N, C, *edges), channels last in memory."""
    return rows.view(-1, *edges, rows.shape[1]).permute(0, 4, 1, 2, 3)


@final
class BlockLevel:
    """One level: blocks of one size, and what they read of their neighbours."""

    def __init__(self, grid: BlockGrid, block: Edges, size: Edges) -> None:
        self.grid = grid
        self.block = block
        self.size = size
        self._rows: dict[int, Rows] = {}

    @property
    def num_voxels(self) -> int:
        """Voxels of a block."""
        return self.block[0] * self.block[1] * self.block[2]

    @cached_property
    def is_inside(self) -> Tensor | None:
        """(N, 1, bd, bh, bw) bool: voxels within the volume; None where blocks tile it exactly."""
        counts = self.grid.is_hidden.shape[1:]
        if all(side == edge * count for side, edge, count in zip(self.size, self.block, counts, strict=True)):
            return None
        inside = torch.ones((), dtype=torch.bool, device=self.grid.places.device)
        for axis, (edge, side) in enumerate(zip(self.block, self.size, strict=True)):
            first = self.grid.places[:, 1 + axis, None] * edge
            within = first + torch.arange(edge, device=first.device) < side
            inside = inside & within.view(-1, 1, *(edge if other == axis else 1 for other in range(3)))
        return inside

    @cached_property
    def count(self) -> Tensor:
        """(B,) int64: visible voxels of each sample."""
        samples = self.grid.samples
        inside = self.is_inside
        voxels = torch.full_like(samples, self.num_voxels) if inside is None else inside.flatten(1).sum(1)
        return voxels.new_zeros(self.grid.num_samples).index_add_(0, samples, voxels)

    @cached_property
    def of_hidden(self) -> "BlockLevel":
        """The level of the blocks that are hidden here."""
        return self.grid.of_hidden.level(self.block, self.size)

    def coarser(self, stride: Edges) -> "BlockLevel":
        """The level behind a convolution of kernel 3 and this stride. Raises ValueError: it does not divide a block."""
        if any(edge % step for edge, step in zip(self.block, stride, strict=True)):
            raise ValueError(f"blocks of {self.block} voxels do not divide by stride {stride} (D, H, W)")
        pairs = zip(self.block, self.size, stride, strict=True)
        block, size = zip(*((edge // step, -(-side // step)) for edge, side, step in pairs), strict=True)
        return self.grid.level(block, size)

    def rows(self, places: Tensor) -> Rows:
        """What each block reads at places (P, 3) int64 from its first voxel, at most one voxel outside it: N * P rows.

        Kept for the next call with the same tensor (those of `places` are).
        """
        if id(places) not in self._rows:
            self._rows[id(places)] = self._find(places.to(self.grid.places.device))
        return self._rows[id(places)]

    def _find(self, places: Tensor) -> Rows:
        block = places.new_tensor(self.block)
        step = places.div(block, rounding_mode="floor")  # -1, 0, 1: which neighbour along each axis
        within = places - step * block
        neighbour = ((step[:, 0] + 1) * 3 + step[:, 1] + 1) * 3 + step[:, 2] + 1
        voxel = (within[:, 0] * self.block[1] + within[:, 1]) * self.block[2] + within[:, 2]
        owner = self.grid.neighbours.index_select(1, neighbour)
        index = (owner * self.num_voxels + voxel).clamp_(min=0)
        return Rows(index.flatten(), (owner < 0).flatten().nonzero().squeeze(1))
