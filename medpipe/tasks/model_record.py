"""What a folder of weights says about itself: model.json. Light: read without torch."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from medpipe.backbones.registry import VolumeBackboneConfig
from medpipe.config.base import Config
from medpipe.geometry.faults import DataFault
from medpipe.tasks.options import MaskingConfig

WEIGHTS_FILE = "weights.safetensors"
RECORD_FILE = "model.json"


class ModelRecord(Config):
    """Everything needed to build the network again and to feed it as it was fed in training."""

    kind: Literal["segmentation", "masked_pretraining"]
    medpipe_version: str
    backbone: VolumeBackboneConfig
    in_channels: int = 1
    structures: tuple[str, ...] = ()  # in the order of the outputs, background not among them
    output: Literal["softmax", "sigmoid"] | None = None
    deep_supervision: bool = True
    masking: MaskingConfig | None = None
    preprocessing: dict[str, Any]  # of medpipe.datasets.preprocessing, as it resolved
    patch_size: tuple[int, int, int]  # (D, H, W) voxels of the prepared grid
    step: int
    training: dict[str, Any] = Field(
        default={}, description="facts for the reader: cases, best score, what it started from"
    )


def read_record(folder: Path) -> ModelRecord:
    """The record of a folder of weights. Raises ValueError: no such file, or not one of medpipe."""
    path = folder / RECORD_FILE
    if not path.is_file():
        raise ValueError(f"{path}: no such file; a folder of weights holds {RECORD_FILE} and {WEIGHTS_FILE}")
    try:
        return ModelRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, ValidationError) as error:
        raise DataFault(path, f"damaged, or not of medpipe: {error}") from error
