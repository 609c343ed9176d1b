"""Logits of structures from any volume backbone: what is trained, handed over and predicted with. Free of Lightning."""

import math
from typing import Literal, cast, final

import torch
from torch import Tensor, nn

from medpipe.backbones.backbone import Backbone
from medpipe.tasks.losses import supervision_weights

Output = Literal["softmax", "sigmoid"]

# Sigmoid outputs begin at the share of voxels that a structure has, about 1 %, instead of at one half: the first steps
# are then not spent on learning that most of the volume is background (Lin et al., 2017, arXiv:1708.02002, 4.1).
PRIOR_LOGIT = -math.log((1 - 0.01) / 0.01)


@final
class SegmentationNetwork(nn.Module):
    """A backbone and a 1^3 convolution for each supervised map, finest first, under `heads.`.

    softmax: background and S structures that exclude each other; sigmoid: S structures that may overlap.
    """

    def __init__(
        self, backbone: Backbone, *, num_structures: int, output: Output = "softmax", deep_supervision: bool = True
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.output: Output = output
        self.num_outputs = num_structures + (output == "softmax")
        self.level_weights = supervision_weights(len(backbone.channels)) if deep_supervision else (1.0,)
        self.heads = nn.ModuleList(
            nn.Conv3d(channels, self.num_outputs, 1)
            for channels, _ in zip(backbone.channels, self.level_weights, strict=False)
        )
        if output == "sigmoid":
            for head in self.heads:
                nn.init.constant_(cast(Tensor, cast(nn.Conv3d, head).bias), PRIOR_LOGIT)
        self._map_shapes: dict[tuple[int, ...], list[tuple[int, ...]]] = {}

    def forward(self, volume: Tensor) -> Tensor:
        """Logits (B, outputs, D, H, W) of volume (B, C, D, H, W)."""
        return self.heads[0](self.backbone(volume)[0])

    def supervised(self, volume: Tensor) -> tuple[Tensor, ...]:
        """Logits of every supervised map, finest first."""
        return tuple(head(features) for head, features in zip(self.heads, self.backbone(volume), strict=False))

    @torch.no_grad()
    def map_shapes(self, volume: Tensor) -> list[tuple[int, ...]]:
        """(D, H, W) of every supervised map of volumes like this one; looked up by a pass of one sample, once a size.

        What a loss is a mean over has to be counted before the network runs, over all parts of a batch.
        """
        size = tuple(volume.shape[-3:])
        if size not in self._map_shapes:
            maps = self.backbone(volume[:1])
            self._map_shapes[size] = [tuple(found.shape[-3:]) for found, _ in zip(maps, self.heads, strict=False)]
            torch.clear_autocast_cache()  # it would hold casts of the weights that have no gradient
        return self._map_shapes[size]


def lay_out(network: nn.Module, device: torch.device) -> None:
    """Move a network to `device`, on a CPU with channels-last weights: 30 % less time a step (see `InstanceNorm`)."""
    is_volumetric = any(parameter.ndim == 5 for parameter in network.parameters())
    memory_format = torch.channels_last_3d if device.type == "cpu" and is_volumetric else torch.contiguous_format
    network.to(device=device, memory_format=memory_format)  # pyright: ignore[reportCallIssue]


def lay_out_input(volume: Tensor) -> Tensor:
    """The batch in the layout that the weights have on its device."""
    return volume.contiguous(memory_format=torch.channels_last_3d) if volume.device.type == "cpu" else volume
