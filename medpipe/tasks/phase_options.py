"""The values of phase training and decoding. Light: a workflow is checked without loading torch."""

from typing import Literal

from pydantic import Field, model_validator

from medpipe.config.base import Config


class PhaseLossConfig(Config):
    """Weighted cross-entropy and truncated smoothness (Farha and Gall, 2019, arXiv:1903.01945), over every stage."""

    class_weights: Literal["sqrt_inverse", "inverse", "none"] = "sqrt_inverse"
    largest_weight: float = Field(default=10.0, ge=1, description="cap; a random frame has weight 1 on average")
    smoothness: float = Field(default=0.15, ge=0, description="weight of the smoothness loss (TMSE)")
    smoothness_clamp: float = Field(default=16.0, gt=0, description="largest squared step of log-probabilities")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)


class DecodingConfig(Config):
    """From probabilities to phases.

    none      the most probable phase of each frame
    mode      the most frequent one within `mode_s` seconds around it
    viterbi   the most probable course, with transitions learned from the training labels
    """

    method: Literal["none", "mode", "viterbi"] = "viterbi"
    mode_s: float = Field(default=62.0, gt=0)
    # A frame's probabilities are not independent of its neighbours': their weight against the transitions.
    evidence: float = Field(default=0.5, gt=0, description="exponent of the probabilities in viterbi")
    prior_correction: float = Field(
        default=0.0, ge=0, le=1, description="exponent of the training shares that probabilities are divided by"
    )
    pseudo_count: float = Field(
        default=0.5, gt=0, description="changes from each phase that are added to those counted, spread over the others"
    )
    online: bool = Field(default=False, description="only frames up to now, and `lag_s` more, decide")
    lag_s: float = Field(default=0.0, ge=0, description="of the online form: how long an answer may wait")

    @model_validator(mode="after")
    def values_fit(self) -> "DecodingConfig":
        if self.lag_s and not self.online:
            raise ValueError("'lag_s' is of the online form: set online: true")
        if self.online and self.method == "mode":
            raise ValueError("method: mode looks ahead; online needs none or viterbi")
        return self
