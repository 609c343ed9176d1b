"""Which voxels of a batch are visible, on every level of a network: handed along with the data, never kept globally.

The method is SparK's (Tian et al., 2023, arXiv:2301.03580): whole blocks are hidden, the mask is drawn on the coarsest
grid and repeated to every finer one, so that it is the same on all levels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

from torch import Tensor

from medpipe.backbones.options import SparseForm
from medpipe.kernels.block_sparse_conv.visible_blocks import BlockGrid, BlockLevel


@final
@dataclass(frozen=True, eq=False)
class LevelVisibility:
    """The visible voxels of one level, is_visible: (B, 1, D, H, W) bool."""

    is_visible: Tensor

    @cached_property
    def count(self) -> Tensor:
        """Visible voxels of each sample, (B, 1, 1, 1, 1) int64; samples need not agree."""
        return self.is_visible.sum(dim=(2, 3, 4), keepdim=True)

    def only_visible(self, x: Tensor) -> Tensor:
        """x (B, C, D, H, W) with its hidden voxels 0, whatever they were: NaN and infinity too."""
        return x.masked_fill(~self.is_visible, 0)


@final
class Visibility:
    """The visible voxels of a batch on any level, from is_hidden (B, d, h, w) bool, one entry a block.

    A level may be as coarse as the blocks or finer by a whole ratio along each axis, not the same along all.
    `form` says how a network that has both forms computes; the results are equal to rounding.
    """

    def __init__(self, is_hidden: Tensor, form: SparseForm = "measured") -> None:
        self.grid = BlockGrid(is_hidden)
        self.is_hidden = is_hidden
        self.form: SparseForm = form
        self._levels: dict[tuple[int, ...], LevelVisibility] = {}

    def at(self, size: Sequence[int]) -> LevelVisibility:
        """The visible voxels of a level of size (D, H, W).

        Raises ValueError: the size is no whole multiple of the block grid. A level coarser than the blocks is among
        these: its voxels would be partly hidden.
        """
        size = tuple(size)
        if size not in self._levels:
            self._levels[size] = LevelVisibility(self._repeated(size))
        return self._levels[size]

    def blocks_at(self, size: Sequence[int]) -> BlockLevel:
        """The visible blocks of a level of size (D, H, W). Raises ValueError as `at` does."""
        return self.grid.level(self._block(size), size)

    def _block(self, size: Sequence[int]) -> tuple[int, ...]:
        blocks = tuple(self.is_hidden.shape[1:])
        if any(edge % block for edge, block in zip(size, blocks, strict=True)):
            raise ValueError(
                f"a level of {tuple(size)} voxels (D, H, W) is no whole multiple of the {blocks} blocks of is_hidden: "
                "draw is_hidden on the coarsest level that sees it"
            )
        return tuple(edge // block for edge, block in zip(size, blocks, strict=True))

    def _repeated(self, size: tuple[int, ...]) -> Tensor:
        is_visible = ~self.is_hidden
        for axis, edge in enumerate(self._block(size), start=1):
            is_visible = is_visible.repeat_interleave(edge, dim=axis)
        return is_visible.unsqueeze(1)
