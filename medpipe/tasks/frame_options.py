"""The values of frame embedding. Light: a workflow is checked without loading torch."""

from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, model_validator

from medpipe.config.base import Config, execution

EncoderName = Literal["resnet50", "transformers", "vision_transformer", "colour_grid"]
ENCODERS: tuple[str, ...] = get_args(EncoderName)


class EncoderConfig(Config):
    """A frozen encoder by name, and where its weights lie.

    resnet50            `weights`: a file in torchvision's tensor names
    transformers        `weights`: the folder of a vision model saved by transformers
    vision_transformer  medpipe's own, sigmoid attention; `weights`: a .safetensors file of its encoder
    colour_grid         no weights

    Without weights resnet50 and vision_transformer are at random: only to try things out, as colour_grid, and said so.
    """

    name: EncoderName = "resnet50"
    variant: Literal["tiny", "small", "base"] = Field(default="small", description="of vision_transformer")
    weights: Path | None = None
    size: int | None = Field(default=None, ge=8, description="pixels of a side; default: the encoder's own")

    @model_validator(mode="after")
    def weights_are_named(self) -> "EncoderConfig":
        if self.name == "transformers" and self.weights is None:
            raise ValueError("encoder transformers needs 'weights', the folder of a model saved by transformers")
        if self.name == "vision_transformer" and self.size is not None and self.size % 16:
            raise ValueError(f"'size' of a vision_transformer must divide by its patches of 16 pixels, got {self.size}")
        return self

    @property
    def title(self) -> str:
        """How embeddings name their encoder."""
        return f"{self.name} {self.variant}" if self.name == "vision_transformer" else self.name

    @classmethod
    def of_title(cls, title: str, *, weights: Path | None = None, size: int | None = None) -> "EncoderConfig":
        """The values behind a title. Raises ValueError: no encoder has it."""
        name, _, variant = title.partition(" ")
        return cls.model_validate({"name": name, "variant": variant or "small", "weights": weights, "size": size})


class EmbeddingConfig(Config):
    """From frames to embeddings: the time axis, the view, batches and chunks."""

    rate_hz: float = Field(default=5.0, gt=0)
    field_of_view: bool = Field(default=True, description="crop to the endoscope's view, black out what lies beside it")
    batch_size: int = Field(default=64, ge=1, description="part of the identity: batches round differently")
    chunk_batches: int = Field(default=8, ge=1, description="batches that a killed run may lose")
    strict: bool = Field(default=False, description="stop at the first broken frame")
    decoder: Literal["auto", "opencv", "pyav"] = execution("auto")
