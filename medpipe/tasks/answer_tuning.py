"""Learning to answer with a large model: part of its weights learn, a step's batch comes in parts."""

import inspect
from collections.abc import Sequence
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from medpipe.tasks.task import Task

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
        count = sum(int((part["labels"] != IGNORED).sum()) for part in batch)
        if len(batch) == 1:
            return self._sum(batch[0]) / count
        return summed_over_parts(self.network, [lambda part=part: self._sum(part) / count for part in batch])

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


class _Given(torch.autograd.Function):
    """A loss whose gradients were made before."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: list[Tensor | None], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        (scale,) = outer
        return None, None, *(None if gradient is None else gradient.mul_(scale) for gradient in ctx.gradients)


def summed_over_parts(network: nn.Module, losses: Sequence[Any]) -> Tensor:
    """The sum of the losses, each made and differentiated before the next one: activations of one part at a time.

    What comes back behaves as any loss: its `backward` leaves the summed gradients, so that clipping, loss scaling and
    the exchange between processes see one step.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    gradients: list[Tensor | None] = [None] * len(parameters)
    total: Tensor | None = None
    for make in losses:
        loss = make()
        for place, gradient in enumerate(torch.autograd.grad(loss, parameters, allow_unused=True)):
            before = gradients[place]
            gradients[place] = gradient if before is None else before if gradient is None else before.add_(gradient)
        total = loss.detach() if total is None else total + loss.detach()
    assert total is not None, "a batch has at least one part"
    return _Given.apply(total, gradients, *parameters)  # type: ignore[return-value]
