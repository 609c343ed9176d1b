from pathlib import Path

import pytest

from medpipe.config.base import StageRef
from medpipe.datasets.intensity import Intensity
from medpipe.datasets.preprocessing import Preprocessing
from medpipe.stages.volumes import FoldsConfig, PreprocessingConfig

MEASURED = Intensity(clip_hu=(-200.0, 300.0), mean_hu=40.0, sd_hu=80.0)
OTHER = Intensity(clip_hu=(-1000.0, 1000.0), mean_hu=0.0, sd_hu=300.0)


def carried(intensity: Intensity) -> Preprocessing:
    return Preprocessing(spacing_mm=(1.5, 1.5, 1.5), intensity=intensity)


def test_measured_intensities_are_read_from_the_stage_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "intensity.json").write_text(MEASURED.model_dump_json())
    config = PreprocessingConfig(spacing_mm=(3.0, 2.0, 2.0), intensity=StageRef(from_="intensity"))
    resolved = config.resolved(tmp_path, None)
    assert (resolved.intensity, resolved.spacing_mm) == (MEASURED, (3.0, 2.0, 2.0))


def test_transferred_weights_carry_their_intensities() -> None:
    assert PreprocessingConfig().resolved(None, carried(MEASURED)).intensity == MEASURED


def test_other_intensities_than_the_weights_saw_are_refused() -> None:
    with pytest.raises(ValueError, match="leave 'intensity' out to carry them over"):
        PreprocessingConfig(fixed_intensity=OTHER).resolved(None, carried(MEASURED))


def test_no_intensities_at_all_is_refused_with_the_ways_out() -> None:
    with pytest.raises(ValueError, match=r"intensity: \{from: ...\}.*fixed_intensity"):
        PreprocessingConfig().resolved(None, None)


def test_two_sources_of_intensities_are_refused() -> None:
    with pytest.raises(ValueError, match="both given"):
        PreprocessingConfig(intensity=StageRef(from_="x"), fixed_intensity=OTHER)


@pytest.mark.parametrize("run", [(), (5,), (-1,), (0, 0)])
def test_folds_that_do_not_exist_are_refused(run: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="different folds of 0 to 4"):
        FoldsConfig(count=5, run=run)
