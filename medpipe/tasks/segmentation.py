"""Supervised segmentation: deep supervision over the maps of any volume backbone."""

from typing import Any, ClassVar, final

from torch import Tensor

from medpipe.tasks.losses import deep_supervision_loss, supervised_counts
from medpipe.tasks.options import LossConfig
from medpipe.tasks.segmentation_network import SegmentationNetwork, lay_out_input
from medpipe.tasks.task import Task
from medpipe.tasks.totals import Totals


@final
class Segmentation(Task):
    """Dice + cross-entropy on patches; structures without annotation and voxels marked -1 are left out.

    Batches: volume (B, C, D, H, W) float32; target (B, D, H, W) int64 (softmax) or (B, S, D, H, W) (sigmoid);
    is_annotated (B, S) bool.
    """

    best_metric: ClassVar[str] = "validation_dice"
    best_is_highest: ClassVar[bool] = True

    def __init__(self, network: SegmentationNetwork, *, loss: LossConfig | None = None) -> None:
        super().__init__(network)
        self.voxel_loss = loss or LossConfig()
        self.adds_over_batch = self.voxel_loss.batch_dice and self.voxel_loss.dice_weight > 0

    def counts(self, batch: dict[str, Any]) -> Tensor:
        network = self.network
        assert isinstance(network, SegmentationNetwork)
        return supervised_counts(batch["target"], batch["is_annotated"], network.map_shapes(batch["volume"]))

    def part_loss(self, batch: dict[str, Any], totals: Totals) -> Tensor:
        network = self.network
        assert isinstance(network, SegmentationNetwork)
        return deep_supervision_loss(
            network.supervised(lay_out_input(batch["volume"])),
            network.level_weights,
            batch["target"],
            batch["is_annotated"],
            output=network.output,
            config=self.voxel_loss,
            totals=totals,
        )
