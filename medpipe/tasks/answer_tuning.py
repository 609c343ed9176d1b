"""Learning to answer with a large model: part of its weights learn, a step's batch comes in parts."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from medpipe.tasks.task import Task
from medpipe.tasks.totals import Totals

IGNORED = -100


@final
class AnswerTuning(Task):
    """Cross-entropy of every token of an answer, its end among them, summed over a step and divided by their number.

    Batches: parts as `TuningSamples` makes them. How a batch is divided changes the result by rounding alone. A
    checkpoint holds the weights that learn, not those of the base.
    """

    best_metric: ClassVar[str] = "validation_accuracy"
    best_is_highest: ClassVar[bool] = True

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.hooks = keep_what_learns(self.network)
        forward = network.get_base_model().forward if hasattr(network, "get_base_model") else network.forward  # type: ignore[operator]
        self.keeps_logits = "logits_to_keep" in inspect.signature(forward).parameters

    def release(self) -> nn.Module:
        """The network, whose state dict holds everything again."""
        for hook in self.hooks:
            hook.remove()
        return self.network

    def loss(self, batch: Sequence[dict[str, Any]], step: int) -> Tensor:
        self.current_step = step
        totals = Totals(torch.stack([self.counts(part) for part in batch]).sum(0))
        return torch.stack([self.part_loss(part, totals) for part in batch]).sum()

    def counts(self, batch: dict[str, Any]) -> Tensor:
        return (batch["labels"] != IGNORED).sum()[None]

    def part_loss(self, batch: dict[str, Any], totals: Totals) -> Tensor:
        return self._sum(batch) / totals.counts[0].float().clamp(min=1)

    def draws(self, part: dict[str, Any]) -> AbstractContextManager[Any]:
        """Draws by the first sample of a part: tokens of images lie in one row, of which no sample can be told."""
        return _drawing_from([self.seed, self.first_sample]) if self.drops else nullcontext()

    def _parts(self, batch: Sequence[dict[str, Any]]) -> tuple[list[Any], list[int]]:
        sizes = [len(part["labels"]) for part in batch]
        return list(batch), [self.first_sample + sum(sizes[:place]) for place in range(len(sizes))]

    def _sum(self, part: dict[str, Any]) -> Tensor:
        """The answers are the last tokens: logits are made for these alone, of a vocabulary of 150,000 words."""
        inputs = dict(part)
        labels = inputs.pop("labels")
        kept = labels.shape[1] + 1
        if self.keeps_logits:
            inputs["logits_to_keep"] = kept
        logits = self.network(**inputs, use_cache=False).logits[:, -kept:-1]
        return functional.cross_entropy(
            logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum"
        )


def keep_what_learns(network: nn.Module) -> list[Any]:
    """Let the network's state dict hold the parameters that learn alone, and be loaded from such a one; the hooks."""
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}

    def leave_out(module: nn.Module, state: dict[str, Any], prefix: str, local: Any) -> None:
        for name in frozen:
            state.pop(prefix + name, None)

    def not_missed(module: nn.Module, keys: Any) -> None:
        keys.missing_keys[:] = [name for name in keys.missing_keys if not _is_of(name, frozen)]

    return [network.register_state_dict_post_hook(leave_out), network.register_load_state_dict_post_hook(not_missed)]


def _is_of(name: str, frozen: set[str]) -> bool:
    return name in frozen or name.removeprefix("network.") in frozen


@contextmanager
def _drawing_from(key: list[int]) -> Iterator[None]:
    """torch's generators seeded by the key, and put back afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
        yield
