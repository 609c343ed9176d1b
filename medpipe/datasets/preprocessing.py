"""The numbers that turn a CT into what a network sees. They travel with the weights through every transfer."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from medpipe.config.base import Config
from medpipe.datasets.intensity import Intensity

AIR_HU = -1024  # what lies outside a scan
# Cached volumes are clipped to twelve bits: metal at +30 000 HU would ring through the spline, padding at -3024 HU too.
STORED_HU = (AIR_HU, 3071)


class Preprocessing(Config):
    """Grid and intensity, resolved to numbers."""

    spacing_mm: tuple[float, float, float]  # (D, H, W)
    interpolation: Literal["cubic", "linear"] = "cubic"
    intensity: Intensity

    @model_validator(mode="after")
    def _spacing_is_positive(self) -> "Preprocessing":
        if min(self.spacing_mm) <= 0:
            raise ValueError(f"spacing_mm must be over 0, got {self.spacing_mm}")
        return self

    @property
    def air_value(self) -> float:
        """The normalised value of air, with which patches are padded."""
        return float(self.normalise(np.array([AIR_HU], dtype=np.int16))[0])

    def normalise(self, hu: NDArray[Any]) -> NDArray[np.float32]:
        """HU of any numeric type to clipped, centred and scaled float32."""
        low, high = self.intensity.clip_hu
        clipped = np.clip(hu.astype(np.float32), np.float32(low), np.float32(high))
        return (clipped - np.float32(self.intensity.mean_hu)) / np.float32(self.intensity.sd_hu)
