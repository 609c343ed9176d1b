"""Questions with their answers as a chat model reads them: loss on the answer's tokens alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch import Tensor

from medpipe.datasets.question_images import read_image
from medpipe.language.transformers_model import Processor, messages_of

if TYPE_CHECKING:
    from PIL.Image import Image

IGNORED = -100  # as transformers and torch mark what has no loss


@final
@dataclass(frozen=True)
class TaughtQuestion:
    """A prompt as it is asked, its images, and the answer to learn."""

    question_id: str
    prompt: str
    answer: str
    images: tuple[Path, ...] = ()


@final
class TuningSamples:
    """Sample n: the n-th question of an endless series of shuffled passes; `collate` makes the batches of a step.

    A batch is a list of parts of `part_size` questions; each part holds what the model takes, and `labels` (n, A): the
    answers' tokens, which are the last A of `input_ids`, IGNORED where there is padding.
    """

    def __init__(
        self,
        questions: Sequence[TaughtQuestion],
        processor: Processor,
        *,
        seed: int,
        system: str = "",
        image_first: bool = True,
        most_pixels: int | None = None,
        part_size: int | None = None,
        ends: Sequence[int] = (),
    ) -> None:
        self.questions, self.processor, self.seed = questions, processor, seed
        self.system, self.image_first, self.most_pixels = system, image_first, most_pixels
        self.part_size, self.ends = part_size, frozenset(ends)
        self.order: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))

    def __getitem__(self, index: int) -> "tuple[TaughtQuestion, list[Image]]":
        turn, place = divmod(index, len(self.questions))
        if self.order[0] != turn:
            self.order = (turn, np.random.default_rng([self.seed, 13, turn]).permutation(len(self.questions)))
        question = self.questions[int(self.order[1][place])]
        return question, [read_image(path, self.most_pixels) for path in question.images]

    def collate(self, samples: "Sequence[tuple[TaughtQuestion, list[Image]]]") -> list[dict[str, Tensor]]:
        """The samples of a step in parts."""
        size = self.part_size or len(samples)
        return [self._part(samples[start : start + size]) for start in range(0, len(samples), size)]

    def _part(self, samples: "Sequence[tuple[TaughtQuestion, list[Image]]]") -> dict[str, Tensor]:
        texts, answers = zip(*(self.tokens_of(question) for question, _ in samples), strict=True)
        inputs = self.processor(list(texts), [images for _, images in samples])
        return with_answers(dict(inputs), answers, self.processor.tokenizer.pad_token_id)

    def tokens_of(self, question: TaughtQuestion) -> tuple[str, list[int]]:
        """The prompt up to where the model's turn begins, and the tokens that it should say, its end among them."""
        tokenizer = self.processor.tokenizer
        messages = messages_of(question.prompt, len(question.images), self.system, image_first=self.image_first)
        prompt = self.processor.chat(messages)
        said = [*messages, {"role": "assistant", "content": [{"type": "text", "text": question.answer}]}]
        whole = self.processor.chat(said, open_end=False)
        # A template that writes past turns in another way (without their thoughts) still asks for this answer.
        answer = whole[len(prompt) :] if whole.startswith(prompt) else question.answer
        tokens = list(tokenizer(answer, add_special_tokens=False)["input_ids"])
        end = next((place for place, token in enumerate(tokens) if token in self.ends), None)
        return prompt, [*tokens, tokenizer.eos_token_id] if end is None else tokens[: end + 1]


def with_answers(inputs: dict[str, Any], answers: Sequence[Sequence[int]], pad: int) -> dict[str, Tensor]:
    """Prompts that were padded on the left, with answers behind them that are padded on the right.

    As in answering, every prompt ends at the same place and keeps its positions. Whatever else has a value for each
    token (which are of images, say) gets zeros: an answer is text.
    """
    longest = max(len(answer) for answer in answers)
    shape = inputs["input_ids"].shape
    tokens = torch.full((shape[0], longest), pad)
    labels = torch.full((shape[0], longest), IGNORED)
    for row, answer in enumerate(answers):
        tokens[row, : len(answer)] = labels[row, : len(answer)] = torch.tensor(answer)
    behind = {"input_ids": tokens, "attention_mask": (labels != IGNORED).to(inputs["attention_mask"].dtype)}
    joined: dict[str, Tensor] = {}
    for name, value in inputs.items():
        if isinstance(value, Tensor) and value.shape == shape:
            value = torch.cat([value, behind.get(name, value.new_zeros(shape[0], longest))], dim=1)
        joined[name] = value
    return {**joined, "labels": labels}
