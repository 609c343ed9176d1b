"""The one contract: images and a prompt in, text out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from PIL.Image import Image


@final
@dataclass(frozen=True)
class Reply:
    """What a model gave for one question.

    text            as it came, thoughts and tags included; None where there is none
    finish_reason   "stop", "length", "content_filter", or None where the model does not say
    error           why there is no text
    """

    text: str | None
    finish_reason: str | None = None
    error: str = ""
    attempts: int = 1
    reasoning: str = ""  # thoughts that a server returns apart


@final
@dataclass(frozen=True)
class Asked:
    """A prompt with its images, decoded, and the id to name in messages. There is no place for a reference."""

    question_id: str
    prompt: str
    images: "tuple[Image, ...]" = ()


class VisionLanguageModel(ABC):
    """Abstract. Answers prompts about images."""

    batch_size: int = 1  # how many are given at once
    concurrency: int = 1  # how many calls may run at the same time

    @abstractmethod
    def answer_all(self, asked: Sequence[Asked]) -> list[Reply]:
        """One reply for each, in their order. Raises ModelGone where no further question can be answered."""

    def answer(self, images: "Sequence[Image]", prompt: str) -> str:
        """The text for one prompt; ValueError where the model gave none."""
        (reply,) = self.answer_all([Asked("", prompt, tuple(images))])
        if reply.text is None:
            raise ValueError(f"the model gave no answer: {reply.error}")
        return reply.text

    def close(self) -> None:  # noqa: B027  # most have nothing to let go of
        """Let go of connections and memory."""


class ModelGone(RuntimeError):
    """The model cannot answer any more; what it answered so far is on disk."""
