"""The values of frame embedding. Light: a workflow is checked without loading torch."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from medpipe.config.base import Config, execution


class EncoderConfig(Config):
    """A frozen encoder. `weights`: of resnet50 a file in torchvision's tensor names, of transformers a model's folder.

    resnet50 without weights is at random, and colour_grid has none: both only to try things out, and said so.
    """

    name: Literal["resnet50", "transformers", "colour_grid"] = "resnet50"
    weights: Path | None = None
    size: int | None = Field(default=None, ge=8, description="pixels of a side; default: the encoder's own")

    @model_validator(mode="after")
    def weights_are_named(self) -> "EncoderConfig":
        if self.name == "transformers" and self.weights is None:
            raise ValueError("encoder transformers needs 'weights', the folder of a model saved by transformers")
        return self


class EmbeddingConfig(Config):
    """From frames to embeddings: the time axis, the view, batches and chunks."""

    rate_hz: float = Field(default=5.0, gt=0)
    field_of_view: bool = Field(default=True, description="crop to the endoscope's view, black out what lies beside it")
    batch_size: int = Field(default=64, ge=1, description="part of the identity: batches round differently")
    chunk_batches: int = Field(default=8, ge=1, description="batches that a killed run may lose")
    strict: bool = Field(default=False, description="stop at the first broken frame")
    decoder: Literal["auto", "opencv", "pyav"] = execution("auto")
