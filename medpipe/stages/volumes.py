"""What the stages on CT volumes share: the values of preprocessing, and how a stage comes to its resolved form."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from medpipe.config.base import Config, StageRef
from medpipe.datasets.intensity import Intensity
from medpipe.datasets.preprocessing import Preprocessing

INTENSITY_FILE = "intensity.json"


class PreprocessingConfig(Config):
    """The grid and the intensities that a network sees.

    Intensities are measured once, at the first labelled stage's cases, and stay frozen from there on: named by
    `intensity: {from: <intensity_statistics stage>}`, written out as `fixed_intensity`, or, where neither is given,
    carried with the weights that the stage starts from.
    """

    spacing_mm: tuple[float, float, float] = (1.5, 1.5, 1.5)  # (D, H, W)
    interpolation: Literal["cubic", "linear"] = "cubic"
    intensity: StageRef | None = None
    fixed_intensity: Intensity | None = None

    @model_validator(mode="after")
    def one_source(self) -> "PreprocessingConfig":
        if self.intensity is not None and self.fixed_intensity is not None:
            raise ValueError("'intensity' and 'fixed_intensity' are both given; keep one")
        return self

    def resolved(self, intensity_folder: Path | None, carried: Preprocessing | None) -> Preprocessing:
        """The numbers to use; `carried` are those of the weights that the stage starts from."""
        if intensity_folder is not None:
            intensity = Intensity.model_validate_json((intensity_folder / INTENSITY_FILE).read_text(encoding="utf-8"))
        elif self.fixed_intensity is not None:
            intensity = self.fixed_intensity
        elif carried is not None:
            intensity = carried.intensity
        else:
            raise ValueError(
                "preprocessing: no intensities: name a stage of kind intensity_statistics (intensity: {from: ...}), "
                "write fixed_intensity, or start from a stage that has them"
            )
        if carried is not None and carried.intensity != intensity:
            raise ValueError(
                f"preprocessing: the weights to start from saw intensities {carried.intensity}, this stage would use "
                f"{intensity}; leave 'intensity' out to carry them over"
            )
        return Preprocessing(spacing_mm=self.spacing_mm, interpolation=self.interpolation, intensity=intensity)


class FoldsConfig(Config):
    """Cross-validation by patient; `run` names the folds to train. count 1 trains on all, without validation."""

    count: int = Field(default=5, ge=1)
    run: tuple[int, ...] = (0,)

    @model_validator(mode="after")
    def folds_exist(self) -> "FoldsConfig":
        wrong = [fold for fold in self.run if not 0 <= fold < self.count]
        if wrong or not self.run or len(set(self.run)) != len(self.run):
            raise ValueError(f"'run' must name different folds of 0 to {self.count - 1}, got {list(self.run)}")
        return self


def check_patch_fits(size: Sequence[int], divisor: Sequence[int], backbone: str) -> None:
    """ValueError where a side of the patch does not divide by what the backbone needs, with the next size that does."""
    if any(side % step for side, step in zip(size, divisor, strict=True)):
        fitting = [-(-side // step) * step for side, step in zip(size, divisor, strict=True)]
        raise ValueError(
            f"patches.size {list(size)} must divide by {list(divisor)} for this {backbone}; "
            f"the next that does is {fitting}"
        )
