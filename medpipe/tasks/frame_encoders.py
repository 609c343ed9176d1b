"""Frozen encoders of frames by name: RGB pictures in, one vector a frame out, and an identity of their own."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from medpipe.geometry.faults import DataFault
from medpipe.tasks.frame_options import EncoderConfig

IMAGENET_MEAN, IMAGENET_SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@final
@dataclass(frozen=True, eq=False)
class FrameEncoder:
    """A network from images (B, 3, H, W), scaled and standardised, to vectors (B, dim)."""

    network: nn.Module
    dim: int
    size: int  # pixels of a side; the picture's aspect is not kept, as the published embeddings
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    name: str
    weights: str  # sha256 of the file or of the tensors
    device: str

    @property
    def preprocessing(self) -> str:
        """What a picture goes through, in words that tell two encoders' input apart."""
        return f"{self.size}x{self.size} halved and area-averaged, RGB, mean {list(self.mean)}, sd {list(self.sd)}"

    def resize(self, image: np.ndarray) -> np.ndarray:
        """A picture (H, W, 3) uint8 at the encoder's size.

        Halved first as often as it stays large enough: whole factors are averaged ten times faster than others. What
        does not divide is cut off on both sides, less than a pixel of the result.
        """
        import cv2

        halvings = max(0, (min(image.shape[:2]) // self.size).bit_length() - 1)
        (top, height), (left, width) = (_middle(side, 2**halvings) for side in image.shape[:2])
        image = image[top : top + height, left : left + width]
        for _ in range(halvings):
            image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
        return cv2.resize(image, (self.size, self.size), interpolation=cv2.INTER_AREA)

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Pictures (B, size, size, 3) uint8 to vectors (B, dim) float32."""
        with torch.inference_mode():
            pictures = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2).float() / 255
            mean, sd = (torch.tensor(values, device=self.device)[:, None, None] for values in (self.mean, self.sd))
            return self.network((pictures - mean) / sd).float().cpu().numpy()


def _middle(side: int, factor: int) -> tuple[int, int]:
    """Start and length of the longest middle part that divides by `factor`."""
    return side % factor // 2, side - side % factor


def build_encoder(config: EncoderConfig, *, base: Path = Path(), device: str = "cpu") -> FrameEncoder:
    """The encoder that the values name. Raises DataFault where its weights are not there or do not fit."""
    builders = {
        "resnet50": _resnet50,
        "transformers": _transformers,
        "vision_transformer": _vision_transformer,
        "colour_grid": _colour_grid,
    }
    network, dim, size, mean, sd, weights = builders[config.name](config, base)
    network.eval().to(device)
    return FrameEncoder(network, dim, size, mean, sd, config.title, weights, device)


def _resnet50(config: EncoderConfig, base: Path) -> tuple[Any, ...]:
    from medpipe.backbones.resnet50 import WIDTH, ResNet50, load_resnet50

    network, weights = _loaded_or_random(config, base, ResNet50, load_resnet50)
    return network, WIDTH, config.size or 224, IMAGENET_MEAN, IMAGENET_SD, weights


def _vision_transformer(config: EncoderConfig, base: Path) -> tuple[Any, ...]:
    from medpipe.backbones.frame_transformer import FrameTransformer, load_frame_transformer
    from medpipe.backbones.options import VisionTransformerOptions

    options = VisionTransformerOptions(size=config.variant)
    network, weights = _loaded_or_random(
        config, base, lambda: FrameTransformer(options), lambda path: load_frame_transformer(path, options)
    )
    return network, network.width, config.size or 224, IMAGENET_MEAN, IMAGENET_SD, weights


def _loaded_or_random(
    config: EncoderConfig, base: Path, build: Callable[[], Any], load: Callable[[Path], Any]
) -> tuple[Any, str]:
    """A network and the hash of its weights; at random, always the same, where no file is named."""
    if config.weights is not None:
        path = base / config.weights.expanduser()
        return load(path), hash_of(path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build(), "random, seed 0"


class PooledTransformer(nn.Module):
    """A vision model of transformers: its pooled output, or the mean of its tokens where it has none."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        output = self.model(pixel_values=images)
        pooled = getattr(output, "pooler_output", None)
        tokens = output.last_hidden_state if pooled is None else pooled
        if pooled is not None:
            return tokens.flatten(1)
        return tokens.mean(dim=1) if tokens.ndim == 3 else tokens.mean(dim=(2, 3))


def _transformers(config: EncoderConfig, base: Path) -> tuple[Any, ...]:
    try:
        from transformers import AutoModel  # pyright: ignore[reportMissingImports]  # an extra
    except ImportError:
        raise ValueError("encoder transformers is not installed; pip install transformers") from None
    assert config.weights is not None, "checked by the config"
    folder = base / config.weights.expanduser()
    if not (folder / "config.json").is_file():
        raise DataFault(folder, "no config.json; give the folder of a vision model saved by transformers")
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if described.get("model_type") == "timm_wrapper" and find_spec("torchvision") is None:
        raise DataFault(folder, "a model of timm, which needs torchvision: it is not installed")
    try:
        model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise DataFault(folder, f"no vision model that transformers can load: {error}") from None
    model = getattr(model, "vision_model", model)
    shown = folder / "preprocessor_config.json"
    values = json.loads(shown.read_text(encoding="utf-8")) if shown.is_file() else {}
    size = config.size or int(getattr(model.config, "image_size", 224))
    network = PooledTransformer(model).eval()
    with torch.inference_mode():
        dim = network(torch.zeros(1, 3, size, size)).shape[1]
    mean, sd = values.get("image_mean", IMAGENET_MEAN), values.get("image_std", IMAGENET_SD)
    files = sorted(folder.glob("*.safetensors"))
    weights = hashlib.sha256("".join(hash_of(file) for file in files).encode()).hexdigest()
    return network, dim, size, tuple(mean), tuple(sd), weights


class ColourGrid(nn.Module):
    """Mean and deviation of the colours in a grid of cells: no weights, for trying things out."""

    def __init__(self, cells: int) -> None:
        super().__init__()
        self.cells = cells

    def forward(self, images: Tensor) -> Tensor:
        mean = nn.functional.adaptive_avg_pool2d(images, self.cells)
        square = nn.functional.adaptive_avg_pool2d(images.square(), self.cells)
        deviation = (square - mean.square()).clamp(min=0).sqrt()
        return torch.cat([mean.flatten(1), deviation.flatten(1)], dim=1)


def _colour_grid(config: EncoderConfig, base: Path) -> tuple[Any, ...]:
    cells = 4
    return ColourGrid(cells), 6 * cells**2, config.size or 64, (0.5,) * 3, (0.25,) * 3, "none"


def hash_of(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
