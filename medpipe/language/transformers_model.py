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

    def __init__(
        self,
        model: Any,
        processor: "Processor",
        generation: GenerationConfig,
        *,
        system: str = "",
        image_first: bool = True,
        batch_size: int = 8,
    ) -> None:
        self.model, self.processor, self.generation = model, processor, generation
        self.system, self.image_first, self.batch_size = system, image_first, batch_size

    @classmethod
    def of_folder(cls, config: TransformersModel, generation: GenerationConfig, system: str = "") -> "LocalModel":
        """The model of a folder as it is. Raises DataFault: not such a folder."""
        use_gpu = torch.cuda.is_available() if config.device == "auto" else config.device == "cuda"
        reduced = config.precision == "bf16" or (config.precision == "auto" and use_gpu)
        model, processor = load_folder(config.folder, torch.bfloat16 if reduced else torch.float32)
        return cls(
            model.to(torch.device("cuda" if use_gpu else "cpu")).eval(), processor, generation, system=system,
            image_first=config.image_first, batch_size=config.batch_size,
        )  # fmt: skip

    @torch.inference_mode()
    def answer_all(self, asked: Sequence[Asked]) -> list[Reply]:
        texts = [
            self.processor.chat(messages_of(one.prompt, len(one.images), self.system, image_first=self.image_first))
            for one in asked
        ]
        images = [list(one.images) for one in asked]
        inputs = self.processor(texts, images).to(self.model.device)
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


def messages_of(prompt: str, num_images: int, system: str, *, image_first: bool) -> list[dict[str, Any]]:
    """A prompt as a chat template takes it."""
    pictures = [{"type": "image"} for _ in range(num_images)]
    text = [{"type": "text", "text": prompt}]
    messages: list[dict[str, Any]] = [{"role": "user", "content": pictures + text if image_first else text + pictures}]
    if system:
        messages.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
    return messages


def load_folder(folder: Path, dtype: torch.dtype) -> "tuple[Any, Processor]":
    """Model and processor of a folder, on the CPU. Raises DataFault: not such a folder, or not all of its weights."""
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForImageTextToText
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    folder = folder.expanduser()
    if not (folder / "config.json").is_file():
        raise DataFault(folder, "no config.json: expected a folder of transformers weights")
    family = AutoConfig.from_pretrained(folder, local_files_only=True).model_type
    # Without safetensors transformers would read pickled weights, which may hold code.
    try:
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            folder, local_files_only=True, dtype=dtype, use_safetensors=True, output_loading_info=True
        )
    except (OSError, SafetensorError) as error:
        raise DataFault(folder, f"no weights as safetensors that can be read: {error}") from error
    model, info = loaded
    missing = sorted(info["missing_keys"])
    if missing:  # transformers would go on with random ones
        raise DataFault(folder, f"{len(missing)} weights of the model are not in the folder, first {missing[0]}")
    return model, load_processor(folder, family)


@final
class StockProcessor:
    """transformers' own processor of the family."""

    def __init__(self, processor: Any) -> None:
        self.processor, self.tokenizer = processor, processor.tokenizer
        set_padding(self.tokenizer)

    def chat(self, messages: list[dict[str, Any]], *, open_end: bool = True) -> str:
        return self.processor.apply_chat_template(messages, add_generation_prompt=open_end, tokenize=False)

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

    def chat(self, messages: list[dict[str, Any]], *, open_end: bool = True) -> str:
        """The messages in the model's own template; open_end: the model's turn begins behind them."""
        return self.tokenizer.apply_chat_template(messages, add_generation_prompt=open_end, tokenize=False)

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


Processor = StockProcessor | QwenProcessor


def load_processor(folder: Path, family: str) -> Processor:
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
