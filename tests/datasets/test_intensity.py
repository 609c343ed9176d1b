from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medpipe.datasets.intensity import Intensity, intensity_of, measure_intensity
from medpipe.datasets.layouts import list_layout
from medpipe.datasets.manifest import Manifest
from medpipe.datasets.preprocessing import AIR_HU, Preprocessing
from medpipe.geometry.nifti import read_label_map, read_volume

Make = Callable[..., Manifest]
Write = Callable[..., Path]


def test_the_statistics_are_those_of_the_structures_voxels(tmp_path: Path, manifest: Make, write_nnunet: Write) -> None:
    folder = write_nnunet(tmp_path)
    cases = list_layout(manifest(), folder)
    values = np.concatenate([
        read_volume(case.image).array[read_label_map(folder / f"labelsTr/{case.case_id}.nii.gz").array == 2]
        for case in cases
    ])  # fmt: skip
    low, high = np.percentile(values, (0.5, 99.5))
    expected = np.clip(values, low, high)
    measured = measure_intensity(cases, ["rectum"], jobs=2)
    assert measured.clip_hu == (pytest.approx(low, abs=0.01), pytest.approx(high, abs=0.01))
    assert measured.mean_hu == pytest.approx(expected.mean(), abs=0.01)
    assert measured.sd_hu == pytest.approx(expected.std(), abs=0.01)
    assert measure_intensity(cases[::-1], ["rectum"]) == measured


def test_an_unlabelled_set_is_measured_in_the_body(tmp_path: Path, manifest: Make, write_nnunet: Write) -> None:
    cases = list_layout(manifest(), write_nnunet(tmp_path, labelled=False))
    measured = measure_intensity(cases)
    assert measured.mean_hu == pytest.approx(40, abs=1)  # the body of the toy CT, not the air around it
    assert measured.sd_hu == pytest.approx(20, abs=1)


def test_metal_does_not_own_the_scale() -> None:
    hu = np.random.default_rng(0).normal(40, 20, size=100_000).astype(np.float32)
    hu[:300] = 30_000  # 0.3 %
    assert intensity_of(hu).sd_hu == pytest.approx(20, rel=0.05)


def test_values_that_are_all_alike_are_refused() -> None:
    with pytest.raises(ValueError, match="all lie at 7 HU"):
        intensity_of(np.full(10, 7, dtype=np.float32))


def test_normalising_clips_centres_and_scales() -> None:
    preprocessing = Preprocessing(spacing_mm=(1, 1, 1), intensity=Intensity(clip_hu=(-100, 200), mean_hu=50, sd_hu=25))
    hu = np.array([-3000, -100, 50, 200, 3000], dtype=np.int16)
    np.testing.assert_array_equal(preprocessing.normalise(hu), np.array([-6, -6, 0, 6, 6], dtype=np.float32))
    assert preprocessing.air_value == preprocessing.normalise(np.array([AIR_HU]))[0] == -6
    assert Preprocessing.model_validate_json(preprocessing.model_dump_json()) == preprocessing


def test_a_window_takes_the_percentiles_place_and_holds_mean_and_sd() -> None:
    hu = np.array([-1000, 0, 100, 2000], dtype=np.float32)
    found = intensity_of(hu, (-200.0, 300.0))
    clipped = np.array([-200, 0, 100, 300])
    assert found == Intensity(clip_hu=(-200.0, 300.0), mean_hu=50.0, sd_hu=round(float(clipped.std()), 3))


@pytest.mark.parametrize(
    "values", [{"clip_hu": (1, 1), "mean_hu": 0, "sd_hu": 1}, {"clip_hu": (0, 1), "mean_hu": 0, "sd_hu": 0}]
)
def test_an_impossible_intensity_is_refused(values: dict) -> None:
    with pytest.raises(ValueError):
        Intensity(**values)
