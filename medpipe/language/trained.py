"""What a stage vqa_training left behind the one contract: the small model, or a folder that was trained further."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch

from medpipe.backbones.vision_language_files import load_vision_language
from medpipe.backbones.word_tokenizer import ANSWER, END
from medpipe.datasets.visual_questions import to_side
from medpipe.language.model import Asked, Reply, VisionLanguageModel
from medpipe.language.options import GenerationConfig, TrainedModel

if TYPE_CHECKING:
    from PIL.Image import Image


def load_trained(
    folder: Path, generation: GenerationConfig, config: TrainedModel, system: str = ""
) -> VisionLanguageModel:
    """The model of a training's folder, on the GPU where there is one (a tuned folder then in bfloat16)."""
    from medpipe.language.tuning import load_tuned, read_tuned_record

    record = read_tuned_record(folder)
    if record is None:
        return TrainedAnswerer(folder, generation, config.batch_size or 256)
    from medpipe.language.transformers_model import LocalModel

    use_gpu = torch.cuda.is_available()
    model, processor, backbone = load_tuned(
        folder, record, base_folder=config.base_folder, dtype=torch.bfloat16 if use_gpu else torch.float32
    )
    model = model.to(torch.device("cuda" if use_gpu else "cpu")).eval()
    return LocalModel(
        model, processor, generation, system=system, image_first=backbone.image_first, batch_size=config.batch_size or 8
    )


def trained_prompt(folder: Path) -> dict[str, Any] | None:
    """The prompt that a model was trained with, where its record tells it."""
    record = folder / "model.json"
    return json.loads(record.read_text(encoding="utf-8")).get("prompt") if record.is_file() else None


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
