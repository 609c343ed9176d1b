"""Learning to answer: the loss of the answers' tokens, questions and images given."""

from typing import Any, ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import Optimizer

from medpipe.backbones.vision_language import VisionLanguageNetwork
from medpipe.backbones.word_tokenizer import PAD
from medpipe.tasks.task import Task, build_optimiser
from medpipe.tasks.totals import Totals


@final
class VisualQuestions(Task):
    """Cross-entropy of every token of an answer, its end among them.

    Batches: image (B, 3, side, side) uint8; tokens (B, Q, L) int64; is_answer (B, Q, L) bool.
    """

    best_metric: ClassVar[str] = "validation_accuracy"
    best_is_highest: ClassVar[bool] = True

    network: VisionLanguageNetwork

    def __init__(self, network: VisionLanguageNetwork) -> None:
        super().__init__(network)

    def counts(self, batch: dict[str, Any]) -> Tensor:
        return batch["is_answer"][..., 1:].sum()[None]

    def part_loss(self, batch: dict[str, Any], totals: Totals) -> Tensor:
        tokens, is_answer = batch["tokens"], batch["is_answer"]
        used = int((tokens != PAD).flatten(0, 1).any(dim=0).sum())
        tokens, wanted = tokens[..., :used], is_answer[..., 1:used]
        at, is_wanted = places_of(wanted)
        logits = self.network.answer_logits(batch["image"], tokens[..., :-1], at, is_wanted)
        summed = functional.cross_entropy(logits.float(), tokens[..., 1:].gather(-1, at)[is_wanted], reduction="sum")
        return summed / totals.counts[0].float().clamp(min=1)

    def configure_optimizers(self) -> Optimizer:
        assert self.optimise is not None, "fit sets the values"
        # Ninety small tensors: one fused call takes a tenth of the time of as many single ones. Shards have none.
        in_shards = self.optimise.strategy == "fsdp" and self.processes.size > 1
        return build_optimiser(self.network, self.optimise, fused=None if in_shards else True)


def places_of(wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Runs of True, one a row of (..., L), as places (..., A) and which of these are within the run."""
    count = wanted.sum(dim=-1, keepdim=True)
    steps = torch.arange(int(count.max()), device=wanted.device)
    at = wanted.int().argmax(dim=-1, keepdim=True) + steps
    return at.clamp(max=wanted.shape[-1] - 1), steps < count
