"""What every volume backbone promises: feature maps, finest first, and the patch sizes that it takes."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import prod

from torch import Tensor, nn

from medpipe.backbones.options import Stride


class Backbone(nn.Module, ABC):
    """Abstract. Turns volumes (B, C, D, H, W) into feature maps, finest first; output heads belong to the task.

    Parameters of the encoder lie under `encoder.`, those of the decoder under `decoder.`, so that a transfer can
    choose between them by prefix.
    """

    channels: tuple[int, ...]  # of each feature map
    strides: tuple[Stride, ...]  # of each feature map: voxels of the input per voxel of the map, (D, H, W)
    divisor: Stride  # the sides of a patch divide by these, (D, H, W)

    @abstractmethod
    def forward(self, volume: Tensor) -> tuple[Tensor, ...]: ...

    def check_size(self, size: Sequence[int]) -> None:
        """Refuse a patch (D, H, W) that would not come out at its own size, or that would be normalised to nothing.

        Raises ValueError: a side does not divide by `divisor`, or the coarsest map holds a single voxel (one value
        less its own mean is zero, whatever the patch shows).
        """
        if any(side % step for side, step in zip(size, self.divisor, strict=True)):
            fitting = tuple(-(-side // step) * step for side, step in zip(size, self.divisor, strict=True))
            raise ValueError(
                f"patch {tuple(size)} (D, H, W): each side must divide by {self.divisor} for this backbone; "
                f"the next size that does is {fitting}"
            )
        if prod(size) == prod(self.divisor):
            raise ValueError(
                f"patch {tuple(size)} (D, H, W) leaves one voxel on the coarsest level, which normalisation turns "
                f"into a constant; double one side at least"
            )
