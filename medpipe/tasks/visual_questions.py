"""Learning to answer: the loss of the answers' tokens, questions and images given."""

from typing import Any, ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional

from medpipe.backbones.vision_language import VisionLanguageNetwork
from medpipe.backbones.word_tokenizer import PAD
from medpipe.tasks.task import Task
from medpipe.tasks.totals import Totals


@final
class VisualQuestions(Task):
    """Cross-entropy of every token of an answer, its end among them.

    Batches: image (B, 3, side, side) uint8; tokens (B, Q, L) int64; is_answer (B, Q, L) bool.
    """

    best_metric: ClassVar[str] = "validation_accuracy"
    best_is_highest: ClassVar[bool] = True

    def __init__(self, network: VisionLanguageNetwork) -> None:
        super().__init__(network)

    def counts(self, batch: dict[str, Any]) -> Tensor:
        return batch["is_answer"][..., 1:].sum()[None]

    def part_loss(self, batch: dict[str, Any], totals: Totals) -> Tensor:
        tokens, is_answer = batch["tokens"].flatten(0, 1), batch["is_answer"].flatten(0, 1)
        used = int((tokens != PAD).any(dim=0).sum())
        tokens, is_answer = tokens[:, :used], is_answer[:, :used]
        per_image = batch["tokens"].shape[1]
        image_of = torch.arange(len(batch["image"]), device=tokens.device).repeat_interleave(per_image)
        logits = self.network(batch["image"], tokens[:, :-1], image_of)
        wanted = is_answer[:, 1:]
        summed = functional.cross_entropy(logits[wanted].float(), tokens[:, 1:][wanted], reduction="sum")
        return summed / totals.counts[0].float().clamp(min=1)
