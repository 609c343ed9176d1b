"""Measure the intensities that every later stage normalises with: clip values, mean and standard deviation in HU.

takes   the training cases of the first labelled data set
leaves  intensity.json
"""

from typing import ClassVar, Literal, final

from pydantic import Field

from medpipe.config.base import execution
from medpipe.datasets.cases import CasesConfig
from medpipe.stages.stage import Stage, StageRun, cores
from medpipe.stages.volumes import INTENSITY_FILE


@final
class IntensityStatistics(Stage):
    """nnU-Net's rule: 0.5 and 99.5 percentile, mean and SD of the labelled voxels of the training cases."""

    version: ClassVar[int] = 1

    stage: Literal["intensity_statistics"]
    cases: CasesConfig
    structures: tuple[str, ...] = Field((), description="whose voxels count; default: all that are labelled")
    clip_hu: tuple[float, float] | None = Field(
        None, description="a window instead of the percentiles, for instance that of soft tissue"
    )
    jobs: int | None = execution(None, ge=1, description="worker processes; default: the cores, as far as memory lasts")

    def structures_needed(self) -> tuple[str, ...]:
        return self.structures

    def run(self, run: StageRun) -> None:
        from medpipe.datasets.cases import list_cases
        from medpipe.datasets.intensity import measure_intensity

        cases = list_cases(self.cases, run.data, run.base)
        run.output.say(f"reading the labelled voxels of {len(cases)} cases")
        intensity = measure_intensity(
            cases, self.structures, clip_hu=self.clip_hu, jobs=cores(self.jobs), should_stop=run.should_stop
        )
        run.write_json(INTENSITY_FILE, intensity.model_dump())
        low, high = intensity.clip_hu
        run.output.say(f"clip {low:.0f} to {high:.0f} HU, mean {intensity.mean_hu:.1f}, SD {intensity.sd_hu:.1f}")
