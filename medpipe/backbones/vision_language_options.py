"""The options of the small vision-language network. Light: a workflow is checked without loading torch."""

from typing import Literal

from pydantic import Field, model_validator

from medpipe.config.base import Config


class VisionLanguageOptions(Config):
    """A vision transformer on a convolutional stem, and a text decoder that looks at its tokens; sigmoid attention."""

    name: Literal["vision_language"] = "vision_language"
    image_size: int = Field(default=64, ge=16, description="pixels a side; images are brought to it, proportions lost")
    stride: Literal[4, 8, 16] = Field(default=8, description="pixels an image token")
    width: int = Field(default=64, ge=8)
    heads: int = Field(default=4, ge=1)
    image_depth: int = Field(default=2, ge=1, description="blocks of the vision transformer")
    text_depth: int = Field(default=2, ge=1, description="blocks of the decoder")
    max_tokens: int = Field(default=32, ge=4, description="of question and answer together")

    @model_validator(mode="after")
    def _sizes_fit(self) -> "VisionLanguageOptions":
        if self.width % self.heads or self.width % 8:
            raise ValueError(f"'width' must divide by heads ({self.heads}) and by 8, got {self.width}")
        if self.image_size % self.stride:
            raise ValueError(f"'image_size' must divide by stride ({self.stride}), got {self.image_size}")
        return self
