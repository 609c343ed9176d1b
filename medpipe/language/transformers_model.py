"""A local folder of weights through transformers: batched, without a network, with or without torchvision.

Where the stock processor cannot be built because it wants torchvision (its video half does, in Qwen2-VL and
Qwen2.5-VL), one
is put together from the tokenizer and the image processor that works on PIL images, and that is said.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import torch

from medpipe.geometry.faults import DataFault
from medpipe.language.model import Asked, Reply, VisionLanguageModel
from medpipe.language.options import GenerationConfig, TransformersModel

if TYPE_CHECKING:
    from PIL.Image import Image

logger = logging.getLogger("medpipe.language")

# Families whose image half takes every image's grid and marks its tokens in the text.
QWEN_FAMILIES = ("qwen2_vl", "qwen2_5_vl")


@final
class LocalModel(VisionLanguageModel):
    """Any model that AutoModelForImageTextToText loads."""

    def __init__(self, config: TransformersModel, generation: GenerationConfig, system: str = "") -> None:
        from transformers import AutoConfig, AutoModelForImageTextToText
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
        folder = config.folder.expanduser()
        if not (folder / "config.json").is_file():
            raise DataFault(folder, "no config.json: expected a folder of transformers weights")
        self.config, self.generation, self.system = config, generation, system
        self.batch_size = config.batch_size
        use_gpu = torch.cuda.is_available() if config.device == "auto" else config.device == "cuda"
        self.device = torch.device("cuda" if use_gpu else "cpu")
        reduced = config.precision == "bf16" or (config.precision == "auto" and use_gpu)
        family = AutoConfig.from_pretrained(folder, local_files_only=True).model_type
        self.processor = load_processor(folder, family)
        model: Any = AutoModelForImageTextToText.from_pretrained(
            folder, local_files_only=True, dtype=torch.bfloat16 if reduced else torch.float32
        )
        self.model: Any = model.to(self.device).eval()

    @torch.inference_mode()
    def answer_all(self, asked: Sequence[Asked]) -> list[Reply]:
        texts = [self._chat(one) for one in asked]
        images = [list(one.images) for one in asked]
        inputs = self.processor(texts, images).to(self.device)
        generation = self.generation
        sampled = generation.temperature > 0
        options: dict[str, Any] = {"temperature": generation.temperature, "top_p": generation.top_p} if sampled else {}
        if sampled:
            torch.manual_seed(generation.seed)
        if generation.stop:
            options |= {"stop_strings": list(generation.stop), "tokenizer": self.processor.tokenizer}
        tokens = self.model.generate(
            **inputs, max_new_tokens=generation.max_new_tokens, do_sample=sampled,
            pad_token_id=self.processor.tokenizer.pad_token_id, **options,
        )  # fmt: skip
        new = tokens[:, inputs["input_ids"].shape[1] :]
        return [self._reply(row) for row in new]

    def _reply(self, row: torch.Tensor) -> Reply:
        ends = self.model.generation_config.eos_token_id
        ends = set(ends) if isinstance(ends, list) else {ends}
        ended = len(row) < self.generation.max_new_tokens or any(int(token) in ends for token in row)
        text = self.processor.tokenizer.decode(row, skip_special_tokens=True)
        stopped = any(stop in text for stop in self.generation.stop)
        return Reply(text, "stop" if ended or stopped else "length")

    def _chat(self, asked: Asked) -> str:
        """The prompt in the model's own chat template."""
        pictures = [{"type": "image"} for _ in asked.images]
        text = [{"type": "text", "text": asked.prompt}]
        content = pictures + text if self.config.image_first else text + pictures
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if self.system:
            messages.insert(0, {"role": "system", "content": [{"type": "text", "text": self.system}]})
        return self.processor.chat(messages)


@final
class StockProcessor:
    """transformers' own processor of the family."""

    def __init__(self, processor: Any) -> None:
        self.processor, self.tokenizer = processor, processor.tokenizer
        set_padding(self.tokenizer)

    def chat(self, messages: list[dict[str, Any]]) -> str:
        return self.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)

    def __call__(self, texts: list[str], images: "list[list[Image]]") -> Any:
        given = images if any(images) else None
        return self.processor(text=texts, images=given, padding=True, return_tensors="pt")


@final
class QwenProcessor:
    """Qwen2-VL and Qwen2.5-VL from their parts: one image token for every merged patch, and where they are."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        set_padding(self.tokenizer)
        self.images: Any = Qwen2VLImageProcessorPil.from_pretrained(folder, local_files_only=True)
        self.image_token = "<|image_pad|>"
        self.image_token_id = self.tokenizer.convert_tokens_to_ids(self.image_token)

    def chat(self, messages: list[dict[str, Any]]) -> str:
        return self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)

    def __call__(self, texts: list[str], images: "list[list[Image]]") -> Any:
        flat = [image for of_text in images for image in of_text]
        seen = self.images(images=flat, return_tensors="pt") if flat else {}
        counts = iter(
            [int(grid.prod()) // self.images.merge_size**2 for grid in seen["image_grid_thw"]] if flat else []
        )
        filled = [_repeat(text, self.image_token, counts) for text in texts]
        inputs = self.tokenizer(filled, padding=True, return_tensors="pt")
        inputs["mm_token_type_ids"] = (inputs["input_ids"] == self.image_token_id).long()
        inputs.update(seen)
        return inputs


def _repeat(text: str, token: str, counts: Any) -> str:
    """Each image token as often as its image has tokens."""
    first, *rest = text.split(token)
    return first + "".join(token * next(counts) + part for part in rest)


def load_processor(folder: Path, family: str) -> "StockProcessor | QwenProcessor":
    """The stock processor, or one from its parts where torchvision is missing."""
    import importlib.util

    if family in QWEN_FAMILIES and importlib.util.find_spec("torchvision") is None:
        logger.info("torchvision is not installed: the processor of %s is put together from its parts", family)
        return QwenProcessor(folder)
    from transformers import AutoProcessor

    return StockProcessor(AutoProcessor.from_pretrained(folder, local_files_only=True))


def set_padding(tokenizer: Any) -> None:
    """Pad on the left: what is generated follows the prompt without a gap."""
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
