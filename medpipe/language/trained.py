"""The small model of a stage vqa_training behind the one contract."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np
import torch

from medpipe.backbones.vision_language_files import load_vision_language
from medpipe.backbones.word_tokenizer import ANSWER, END
from medpipe.datasets.visual_questions import to_side
from medpipe.language.model import Asked, Reply, VisionLanguageModel
from medpipe.language.options import GenerationConfig

if TYPE_CHECKING:
    from PIL.Image import Image


@final
class TrainedAnswerer(VisionLanguageModel):
    """Greedy answers on the CPU or, where there is one, the GPU; a question without an image is asked of a grey one."""

    def __init__(self, folder: Path, generation: GenerationConfig, batch_size: int) -> None:
        self.network, self.tokenizer = load_vision_language(folder)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network.to(self.device)
        self.batch_size, self.generation = batch_size, generation

    def answer_all(self, asked: Sequence[Asked]) -> list[Reply]:
        side, limit = self.network.options.image_size, self.network.options.max_tokens
        # Several questions of one picture share its tokens: pictures are told apart by their pixels.
        pixels: dict[bytes, int] = {}
        images: list[np.ndarray] = []
        image_of: list[int] = []
        for one in asked:
            array = one_image(one.images, side)
            number = pixels.setdefault(array.tobytes(), len(images))
            if number == len(images):
                images.append(array)
            image_of.append(number)
        prompts = [[*self.tokenizer.encode(one.prompt)[: limit - 2], ANSWER] for one in asked]
        found = self.network.answer(
            torch.from_numpy(np.stack(images)).to(self.device), prompts, torch.tensor(image_of),
            max_new_tokens=self.generation.max_new_tokens,
        )  # fmt: skip
        return [
            Reply(self.tokenizer.decode(tokens), "stop" if tokens and tokens[-1] == END else "length")
            for tokens in found
        ]


def one_image(images: "Sequence[Image]", side: int) -> np.ndarray:
    """The first image of a question, (3, side, side) uint8; the network takes one."""
    if not images:
        return np.full((3, side, side), 128, dtype=np.uint8)
    return to_side(images[0], side)
