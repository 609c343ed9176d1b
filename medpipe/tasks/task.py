"""What is learned, as one level of classes above Lightning's module: a loss, and which weights learn how fast."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from medpipe.tasks.dropout import KeyedDropout
from medpipe.tasks.options import TrainingConfig
from medpipe.tasks.processes import ALONE, Processes
from medpipe.tasks.sharding import shard
from medpipe.tasks.totals import Sums, Totals, alone, split_batch, total_counts

ENCODER_PREFIX = "backbone.encoder."
SGD_MOMENTUM = 0.99  # nnU-Net


class Task(LightningModule, ABC):
    """Abstract. `network` is what is handed over; `loss` judges it on one batch.

    A batch may be a part of a global one (totals.py). A task says what its loss is a mean over (`counts`) and how much
    of the loss a part is (`part_loss`); the parts add up to the loss of the whole batch.
    """

    # Which value of a validation decides the best weights; NaN never does.
    best_metric: ClassVar[str]
    best_is_highest: ClassVar[bool]
    # Whether `part_loss` calls `totals.add`: the parts of a process are then seen twice, first without gradients.
    adds_over_batch: bool = False

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.current_step = 0  # steps finished before this one, over all resumed parts
        self.first_sample = 0  # number of the first sample at hand, over the whole training
        self.seed = 0
        self.optimise: TrainingConfig | None = None
        self.processes: Processes = ALONE
        self.drops = False  # set by fit: whether the network draws

    @abstractmethod
    def counts(self, batch: Any) -> Tensor:
        """(K,) what the loss is a mean over, of these samples; they have been through `prepared`."""

    @abstractmethod
    def part_loss(self, batch: Any, totals: Totals) -> Tensor:
        """What these samples add to the loss of the batch that `totals` are of.

        Random draws are keyed by (seed, step, sample) alone. Every weight takes part, also where nothing counts.
        """

    def prepared(self, batch: Any) -> Any:
        """The batch with all that is decided before the network sees it."""
        return batch

    def loss(self, batch: Any, step: int) -> Tensor:
        """The loss of a batch that is no part of another, at `step` (from 0)."""
        self.current_step = step
        batch = self.prepared(batch)
        return self.part_loss(batch, Totals(self.counts(batch)))

    def after_step(self, step: int, num_steps: int) -> None:
        """Called after the optimiser's step; `step` steps are now finished."""
        return

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Gradients of all parts but the last are added up here, the last one's by Lightning.

        `loss` is multiplied by the processes, over which DDP and FSDP average; `value` is what the figures tell.
        """
        first = self.first_sample
        parts, firsts = self._parts(batch)
        totals = self._totals(parts, firsts)
        value = torch.zeros((), device=self.device, dtype=torch.float64)
        loss = value
        for place, part in enumerate(parts):
            self.first_sample = firsts[place]
            with self.draws(part):
                loss = self.part_loss(part, totals)
            value = value + loss.detach()
            loss = loss * self.processes.size
            if place < len(parts) - 1:
                self.trainer.precision_plugin.pre_backward(loss, self).backward()
                torch.clear_autocast_cache()
        self.first_sample = first
        return {"loss": loss, "value": value}

    def optimizer_zero_grad(self, *_: Any) -> None:
        """Nothing: Lightning would call this between the parts; the gradients are zeroed before a step."""

    def configure_model(self) -> None:
        """Spread the weights over the processes, where the strategy is fsdp."""
        if self.optimise is not None and self.optimise.strategy == "fsdp" and self.processes.size > 1:
            for network in (self.network, *self.companions()):
                shard(network, self.device_mesh["data_parallel"])  # type: ignore[index]

    def companions(self) -> tuple[nn.Module, ...]:
        """Networks beside the one that learns, of the same form."""
        return ()

    def configure_optimizers(self) -> Optimizer:
        assert self.optimise is not None, "fit sets the values"
        return build_optimiser(self.network, self.optimise)

    def draws(self, part: Any) -> AbstractContextManager[Any]:
        """The context of a forward pass in training: draws by sample."""
        count = len(part) if isinstance(part, Tensor) else len(next(iter(part.values())))
        return KeyedDropout(self.seed, self.first_sample, count, self.device) if self.drops else nullcontext()

    def _parts(self, batch: Any) -> tuple[list[Any], list[int]]:
        """The batch in parts, prepared, and the number of the first sample of each."""
        assert self.optimise is not None, "fit sets the values"
        parts, firsts, first = [], [], self.first_sample
        for part in split_batch(batch, self.optimise.samples_at_once):
            self.first_sample = first + (self.optimise.samples_at_once or 0) * len(parts)
            firsts.append(self.first_sample)
            parts.append(self.prepared(part))
        self.first_sample = first
        return parts, firsts

    def _totals(self, parts: Sequence[Any], firsts: Sequence[int]) -> Totals:
        """What is known of the whole batch before the parts are learned from."""
        counts = total_counts([self.counts(part) for part in parts], self.processes)
        num_parts = self.processes.sum([len(parts)])[0] if len(parts) > 1 else self.processes.size
        sums = Sums(self.processes)
        if num_parts == 1 or not self.adds_over_batch:
            return Totals(counts, int(num_parts), alone)
        if len(parts) == 1:
            return Totals(counts, int(num_parts), sums.at_once)
        with torch.no_grad():
            for place, part in enumerate(parts):
                self.first_sample, sums.place = firsts[place], 0
                with self.draws(part):
                    self.part_loss(part, Totals(counts, int(num_parts), sums.gather))
        torch.clear_autocast_cache()
        sums.all_gathered()
        return Totals(counts, int(num_parts), sums.known)


def parameter_groups(network: nn.Module, config: TrainingConfig) -> list[dict[str, Any]]:
    """Encoder and rest, each with and without weight decay.

    Normalisation weights, biases and other vectors (those that stand in for hidden voxels among them) have no decay.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            decays = sum(side > 1 for side in parameter.shape) > 1 and not name.endswith("bias")
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
