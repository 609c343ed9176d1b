"""What is learned, as one level of classes above Lightning's module: a loss, and which weights learn how fast."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from medpipe.tasks.options import TrainingConfig

ENCODER_PREFIX = "backbone.encoder."
SGD_MOMENTUM = 0.99  # nnU-Net


class Task(LightningModule, ABC):
    """Abstract. `network` is what is handed over; `loss` judges it on one batch."""

    # Which value of a validation decides the best weights; NaN never does.
    best_metric: ClassVar[str]
    best_is_highest: ClassVar[bool]

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.current_step = 0  # steps finished before this one, over all resumed parts
        self.first_sample = 0  # number of the first sample of this process's batch, over the whole training
        self.seed = 0
        self.optimise: TrainingConfig | None = None

    @abstractmethod
    def loss(self, batch: Any, step: int) -> Tensor:
        """The loss to descend at `step` (from 0). Random draws are keyed by (seed, step, sample) alone."""

    def after_step(self, step: int, num_steps: int) -> None:
        """Called after the optimiser's step; `step` steps are now finished."""
        return

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.loss(batch, self.current_step)

    def configure_optimizers(self) -> Optimizer:
        assert self.optimise is not None, "fit sets the values"
        return build_optimiser(self.network, self.optimise)


def parameter_groups(network: nn.Module, config: TrainingConfig) -> list[dict[str, Any]]:
    """Encoder and rest, each with and without weight decay.

    Normalisation weights, biases and other vectors (those that stand in for hidden voxels among them) have no decay.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            decays = parameter.squeeze().ndim > 1 and not name.endswith("bias")
            groups.setdefault((name.startswith(ENCODER_PREFIX), decays), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": config.weight_decay if decays else 0.0,
            "factor": config.encoder_learning_rate_factor if is_encoder else 1.0,
        }
        for (is_encoder, decays), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


def build_optimiser(network: nn.Module, config: TrainingConfig, *, fused: bool | None = None) -> Optimizer:
    """AdamW (0.9, 0.999) or SGD with Nesterov momentum 0.99; the rate itself is set before every step.

    fused   one call for all tensors on any device; None: as torch chooses
    """
    groups = parameter_groups(network, config)
    if config.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.999), fused=fused)
    return torch.optim.SGD(groups, lr=config.learning_rate, momentum=SGD_MOMENTUM, nesterov=True, fused=fused)
