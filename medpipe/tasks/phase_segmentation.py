"""Phases along whole procedures: the task that `fit` trains."""

from typing import Any, ClassVar, final

import torch
from torch import Tensor

from medpipe.tasks.phase_losses import phase_counts, phase_loss
from medpipe.tasks.phase_network import PhaseNetwork
from medpipe.tasks.phase_options import PhaseLossConfig
from medpipe.tasks.task import Task
from medpipe.tasks.totals import Totals


@final
class PhaseSegmentation(Task):
    """Cross-entropy and smoothness over every stage of a temporal network.

    Batches: embeddings (B, T, D) float32; labels (B, T) int64; is_frame, is_valid (B, T) bool.
    """

    best_metric: ClassVar[str] = "validation_macro_f1"
    best_is_highest: ClassVar[bool] = True

    def __init__(self, network: PhaseNetwork, *, weights: Any, loss: PhaseLossConfig) -> None:
        super().__init__(network)
        self.weights = torch.as_tensor(weights, dtype=torch.float32)
        self.loss_config = loss

    def counts(self, batch: dict[str, Any]) -> Tensor:
        return phase_counts(batch["labels"], batch["is_frame"], self.weights)

    def part_loss(self, batch: dict[str, Any], totals: Totals) -> Tensor:
        stages = self.network(batch["embeddings"], batch["is_frame"], batch["is_valid"])
        return phase_loss(stages, batch["labels"], batch["is_frame"], self.weights, self.loss_config, totals)
