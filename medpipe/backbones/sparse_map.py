"""A feature map of which only the visible voxels count, and the layers of a network on it, in two forms.

masked: the dense volume, 0 where it is hidden. gathered: its visible blocks alone, by
`medpipe.kernels.block_sparse_conv`. Both compute the same function with the same modules.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast, final

from torch import Tensor, nn

from medpipe.backbones.masking import LevelVisibility, Visibility
from medpipe.kernels.block_sparse_conv.convolution import block_conv3d, block_pointwise
from medpipe.kernels.block_sparse_conv.crossover import is_gathered_faster
from medpipe.kernels.block_sparse_conv.layout import to_blocks, to_volume
from medpipe.kernels.block_sparse_conv.visible_blocks import BlockLevel

Size = tuple[int, int, int]


@final
@dataclass(frozen=True, eq=False)
class SparseMap:
    """values: (B, C, D, H, W), 0 on hidden voxels, or where `is_gathered` the visible blocks (N, C, bd, bh, bw)."""

    values: Tensor
    size: Size  # (D, H, W) of the volume
    visibility: Visibility
    is_gathered: bool

    @property
    def visible(self) -> LevelVisibility | BlockLevel:
        """What the values are laid out by."""
        return self.visibility.blocks_at(self.size) if self.is_gathered else self.visibility.at(self.size)

    def holding(self, values: Tensor) -> "SparseMap":
        return replace(self, values=values)

    def dense(self, fill: Tensor | None = None) -> Tensor:
        """The volume (B, C, D, H, W), its hidden voxels `fill` (C,), or 0."""
        visible = self.visible
        if isinstance(visible, BlockLevel):
            return to_volume(self.values, visible, fill)
        return self.values if fill is None else self.values.where(visible.is_visible, fill.view(1, -1, 1, 1, 1))

    def laid_out(self, *, is_gathered: bool) -> "SparseMap":
        """The same map in this form."""
        if is_gathered == self.is_gathered:
            return self
        values = to_blocks(self.values, self.visibility.blocks_at(self.size)) if is_gathered else self.dense()
        return replace(self, values=values, is_gathered=is_gathered)

    def convolved(self, conv: nn.Conv3d) -> "SparseMap":
        """Through a convolution of kernel 1, or of kernel 3 and padding 1.

        In the masked form it spills onto hidden voxels: a normalisation or `cleared` has to follow.
        """
        stride = cast(Size, conv.stride)
        size = level_size(self.size, stride)
        visible = self.visible
        if isinstance(visible, BlockLevel):
            operation = block_conv3d if conv.kernel_size == (3, 3, 3) else block_pointwise
            values, _ = operation(self.values, conv.weight, conv.bias, visible, stride=stride)
        else:
            values = conv(self.values)
        return replace(self, values=values, size=size)

    def cleared(self) -> "SparseMap":
        """With hidden voxels 0, whatever they were."""
        visible = self.visible
        return self if isinstance(visible, BlockLevel) else self.holding(visible.only_visible(self.values))


def sparse_input(volume: Tensor, visibility: Visibility) -> SparseMap:
    """A volume (B, C, D, H, W) of which hidden voxels have no influence, be they NaN."""
    return SparseMap(volume, _size(volume.shape[2:]), visibility, is_gathered=False).cleared()


def in_form_of_level(x: SparseMap, stride: Size, channels: int) -> SparseMap:
    """x laid out as the next level, of this stride to x and so many channels, is to be computed."""
    form = x.visibility.form
    if form != "measured":
        return x.laid_out(is_gathered=form == "gathered")
    level = x.visibility.blocks_at(level_size(x.size, stride))
    return x.laid_out(is_gathered=is_gathered_faster(level, channels, x.values.device.type))


def level_size(size: Sequence[int], stride: Size) -> Size:
    """Size (D, H, W) of a level of this stride: convolutions of kernel 3, padding 1 round up."""
    d, h, w = (-(-edge // step) for edge, step in zip(size, stride, strict=True))
    return d, h, w


def _size(shape: Sequence[int]) -> Size:
    d, h, w = shape
    return d, h, w
