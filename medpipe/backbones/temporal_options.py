"""The options of every temporal backbone: what a workflow writes under `backbone:` of a phase training."""

from typing import Literal

from pydantic import Field, model_validator

from medpipe.config.base import Config

Dropout = float


class TemporalOptions(Config):
    """Abstract. Options of one temporal backbone; `name` chooses it."""

    name: str

    @property
    def is_causal(self) -> bool:
        """Whether a frame's logits depend on earlier frames alone (and `lag` later ones)."""
        return False

    @property
    def lag_steps(self) -> int:
        """How many later frames a causal network waits for."""
        return 0


class ColonTcnOptions(TemporalOptions):
    """ColonTCN (Biffi et al., 2025, arXiv:2502.03430): residual blocks of two weight-normed dilated convolutions.

    blocks  receptive field at 5 Hz  parameters, 2048 inputs, 64 wide
    12      163.8 min                822,921 (the published 4-fold models)
    13      327.6 min                880,521 (the published 5-fold models)
    """

    name: Literal["colon_tcn"] = "colon_tcn"
    blocks: int = Field(default=12, ge=1, le=16)
    width: int = Field(default=64, ge=1)
    kernel_size: int = Field(default=7, ge=3)
    dropout: Dropout = Field(default=0.5, ge=0, lt=1)
    causal: bool = False
    # Later frames that the causal form waits for: its answer for a frame comes so many steps after it.
    lag: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def values_fit(self) -> "ColonTcnOptions":
        if self.kernel_size % 2 == 0:
            raise ValueError(f"'kernel_size' must be odd, got {self.kernel_size}: an even kernel shifts the time")
        if self.lag and not self.causal:
            raise ValueError("'lag' is of the causal form: set causal: true")
        return self

    @property
    def is_causal(self) -> bool:
        return self.causal

    @property
    def lag_steps(self) -> int:
        return self.lag

    @property
    def receptive_field(self) -> int:
        """In steps."""
        return 1 + 2 * (self.kernel_size - 1) * (2**self.blocks - 1)


class MsTcnOptions(TemporalOptions):
    """MS-TCN++ (Li et al., 2020, arXiv:2006.09220): a stage of dual dilated layers, then stages that refine it."""

    name: Literal["ms_tcn"] = "ms_tcn"
    layers: int = Field(default=11, ge=1, le=16)
    refinement_stages: int = Field(default=3, ge=0, le=8)
    refinement_layers: int = Field(default=10, ge=1, le=16)
    width: int = Field(default=64, ge=1)
    dropout: Dropout = Field(default=0.5, ge=0, lt=1)


class TecnoOptions(TemporalOptions):
    """TeCNO (Czempiel et al., 2020, arXiv:2003.10751): causal stages of dilated layers."""

    name: Literal["tecno"] = "tecno"
    stages: int = Field(default=2, ge=1, le=8)
    layers: int = Field(default=8, ge=1, le=16)
    width: int = Field(default=32, ge=1)
    dropout: Dropout = Field(default=0.5, ge=0, lt=1)

    @property
    def is_causal(self) -> bool:
        return True


class AsFormerOptions(TemporalOptions):
    """ASFormer (Yi et al., 2021, arXiv:2110.08568): attention in windows that double, an encoder and decoders."""

    name: Literal["asformer"] = "asformer"
    layers: int = Field(default=10, ge=1, le=14)
    decoders: int = Field(default=3, ge=0, le=8)
    width: int = Field(default=64, ge=2, multiple_of=2)
    channel_dropout: Dropout = Field(default=0.3, ge=0, lt=1)
    dropout: Dropout = Field(default=0.5, ge=0, lt=1)


class TemporalTransformerOptions(TemporalOptions):
    """A transformer on sigmoid attention: a window of frames that lie 1, 2, 4, ... apart, layer by layer.

    The causal form looks back alone: `window` frames of each layer's steps before a frame, and at the frame itself.
    """

    name: Literal["temporal_transformer"] = "temporal_transformer"
    layers: int = Field(default=10, ge=1, le=16)
    width: int = Field(default=64, ge=2)
    heads: int = Field(default=4, ge=1)
    # Frames to either side (causal: before it) that a frame looks at, counted in the layer's own steps.
    window: int = Field(default=16, ge=1)
    causal: bool = False
    channel_dropout: Dropout = Field(default=0.3, ge=0, lt=1)
    dropout: Dropout = Field(default=0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def values_fit(self) -> "TemporalTransformerOptions":
        if self.width % self.heads or self.width // self.heads % 2:
            raise ValueError(f"'width' {self.width} does not divide into {self.heads} heads of an even width")
        return self

    @property
    def is_causal(self) -> bool:
        return self.causal

    @property
    def receptive_field(self) -> int:
        """In steps."""
        return 1 + (1 if self.causal else 2) * self.window * (2**self.layers - 1)


class FramewiseOptions(TemporalOptions):
    """Each frame by itself: one hidden layer. What context is worth is measured against it."""

    name: Literal["framewise"] = "framewise"
    width: int = Field(default=64, ge=1)
    dropout: Dropout = Field(default=0.5, ge=0, lt=1)

    @property
    def is_causal(self) -> bool:
        return True
