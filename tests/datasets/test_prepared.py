from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medpipe.datasets.cases import DataConfig
from medpipe.datasets.intensity import Intensity
from medpipe.datasets.layouts import list_layout
from medpipe.datasets.manifest import Manifest
from medpipe.datasets.prepared import BODY, IMAGE, prepare_cases
from medpipe.datasets.preprocessing import Preprocessing
from medpipe.datasets.workers import StopRequested
from medpipe.geometry.faults import DataFault
from medpipe.geometry.nifti import read_label_map, read_volume, write_label_map, write_volume
from medpipe.geometry.orientation import to_canonical
from medpipe.geometry.resampling import resample_label_map, resample_volume, resampled_grid
from medpipe.geometry.volume import LabelMap, Volume

Make = Callable[..., Manifest]
Write = Callable[..., Path]

PREPROCESSING = Preprocessing(
    spacing_mm=(4.0, 3.0, 3.0), intensity=Intensity(clip_hu=(-200, 300), mean_hu=40, sd_hu=50)
)


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    return DataConfig(cache=tmp_path / "cache")


def test_a_case_is_oriented_resampled_and_mapped_from_disk(
    tmp_path: Path, manifest: Make, write_nnunet: Write, data: DataConfig
) -> None:
    folder = write_nnunet(tmp_path / "set", ids=("p1",))
    # The image as a scanner stores it: rows run to the back and to the left.
    volume = read_volume(folder / "imagesTr/p1_0000.nii.gz")
    labels = read_label_map(folder / "labelsTr/p1.nii.gz")
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, 1] * 23 + affine[:3, 2] * 27
    affine[:3, 1:3] *= -1
    write_volume(folder / "imagesTr/p1_0000.nii.gz", Volume(volume.array[:, ::-1, ::-1].copy(), affine))
    write_label_map(folder / "labelsTr/p1.nii.gz", LabelMap(labels.array[:, ::-1, ::-1].copy(), affine))

    (prepared,) = prepare_cases(list_layout(manifest(), folder), PREPROCESSING, data)
    grid = resampled_grid(to_canonical(volume).grid, PREPROCESSING.spacing_mm)
    np.testing.assert_allclose(prepared.grid.affine, grid.affine, atol=1e-4)
    image = prepared.image()
    assert isinstance(image, np.memmap)
    assert image.dtype == np.int16
    expected = resample_volume(volume, grid).array.clip(-1024, 3071)
    assert np.abs(image - expected).max() <= 0.51  # rounding to whole HU
    np.testing.assert_array_equal(prepared.labels(), resample_label_map(labels, grid).array)
    np.testing.assert_allclose(prepared.original_grid.affine, affine, atol=1e-4)
    assert prepared.original_grid.shape == volume.shape


def test_the_sampled_voxels_lie_in_their_structure(
    tmp_path: Path, manifest: Make, write_nnunet: Write, data: DataConfig
) -> None:
    (case,) = prepare_cases(list_layout(manifest(), write_nnunet(tmp_path / "s", ids=("p1",))), PREPROCESSING, data)
    labels = case.labels()
    assert labels is not None
    for number, name in enumerate(case.structures, start=1):
        voxels = case.sampled_voxels(name)
        assert len(voxels) == case.num_voxels[name] == np.count_nonzero(labels == number) > 0
        assert (labels[tuple(voxels.T)] == number).all()
        assert len(np.unique(voxels, axis=0)) == len(voxels)
    body = case.sampled_voxels(BODY)
    assert (case.image()[tuple(body.T)] > -300).all()
    assert len(case.sampled_voxels("liver")) == 0


def test_a_second_pass_reuses_everything_and_says_so(
    tmp_path: Path, manifest: Make, write_nnunet: Write, data: DataConfig, caplog: pytest.LogCaptureFixture
) -> None:
    cases = list_layout(manifest(), write_nnunet(tmp_path / "set"))
    seen: list[str] = []
    with caplog.at_level("INFO"):
        first = prepare_cases(cases, PREPROCESSING, data, jobs=2, on_case=lambda case: seen.append(case.case_id))
        second = prepare_cases(cases, PREPROCESSING, data)
    assert sorted(seen) == ["p1_a", "p1_b", "p2_a"]
    assert [case.case_id for case in first] == ["p1_a", "p1_b", "p2_a"]
    assert [case.is_reused for case in (*first, *second)] == [False] * 3 + [True] * 3
    assert "3 made now, 0 reused" in caplog.text
    assert "0 made now, 3 reused" in caplog.text


def test_the_intensity_is_no_part_of_the_key_the_grid_and_the_files_are(
    tmp_path: Path, manifest: Make, write_nnunet: Write, data: DataConfig
) -> None:
    folder = write_nnunet(tmp_path / "set", ids=("p1",))

    def folder_of(preprocessing: Preprocessing, **changes: object) -> Path:
        return prepare_cases(list_layout(manifest(**changes), folder), preprocessing, data)[0].folder

    first = folder_of(PREPROCESSING)
    other = Intensity(clip_hu=(-500, 500), mean_hu=0, sd_hu=1)
    assert folder_of(PREPROCESSING.model_copy(update={"intensity": other})) == first
    assert folder_of(PREPROCESSING, folder="elsewhere", licence="x") == first
    assert folder_of(PREPROCESSING.model_copy(update={"spacing_mm": (4.0, 3.0, 2.9)})) != first
    assert folder_of(PREPROCESSING.model_copy(update={"interpolation": "linear"})) != first
    assert folder_of(PREPROCESSING, structures={"bladder": {"label": 2}, "rectum": {"label": 1}}) != first
    volume = read_volume(folder / "imagesTr/p1_0000.nii.gz")
    volume.array[0, 0, 0] += 1
    write_volume(folder / "imagesTr/p1_0000.nii.gz", volume)
    assert folder_of(PREPROCESSING) != first


def test_a_truncated_entry_is_made_again(tmp_path: Path, manifest: Make, write_nnunet: Write, data: DataConfig) -> None:
    cases = list_layout(manifest(), write_nnunet(tmp_path / "set", ids=("p1",)))
    (first,) = prepare_cases(cases, PREPROCESSING, data)
    whole = (first.folder / IMAGE).read_bytes()
    (first.folder / IMAGE).write_bytes(whole[:-1])
    (second,) = prepare_cases(cases, PREPROCESSING, data)
    assert not second.is_reused
    assert (second.folder / IMAGE).read_bytes() == whole


def test_metal_and_padding_are_clipped_before_they_can_ring(
    tmp_path: Path, manifest: Make, write_nnunet: Write, data: DataConfig
) -> None:
    folder = write_nnunet(tmp_path / "set", ids=("p1",))
    volume = read_volume(folder / "imagesTr/p1_0000.nii.gz")
    volume.array[10, 12, 14] = 30_000
    volume.array[:, 0] = -3024
    write_volume(folder / "imagesTr/p1_0000.nii.gz", volume)
    image = prepare_cases(list_layout(manifest(), folder), PREPROCESSING, data)[0].image()
    assert image.min() == -1024
    assert image.max() <= 3071
    # A spline rings by about a tenth of a step: of 3000 HU, not of 30 000.
    assert image[4:9, 4:12, 4:14].min() > -700


def test_overlapping_structures_are_kept_as_bits(
    tmp_path: Path, manifest: Make, write_masks: Write, data: DataConfig
) -> None:
    uterus = np.zeros((20, 24, 28), dtype=bool)
    uterus[4:16, 6:18, 6:18] = True
    ctv = np.zeros_like(uterus)
    ctv[8:12, 8:16, 8:16] = True
    write_masks(tmp_path / "set", masks={"uterus": uterus, "ctv_high_risk": ctv})
    toy = manifest(layout="totalsegmentator", structures={"uterus": {}, "ctv_high_risk": {}}, overlapping=True)
    same = PREPROCESSING.model_copy(update={"spacing_mm": (3.0, 2.0, 2.0)})
    (case,) = prepare_cases(list_layout(toy, tmp_path / "set"), same, data)
    stored = case.labels()
    assert stored is not None
    assert case.label_kind == "masks"
    assert stored.shape == (1, 20, 24, 28)
    np.testing.assert_array_equal(stored[0], uterus * 1 + ctv * 2)


def test_an_unlabelled_case_has_an_image_alone(
    tmp_path: Path, manifest: Make, write_nnunet: Write, data: DataConfig
) -> None:
    cases = list_layout(manifest(), write_nnunet(tmp_path / "set", ids=("p1",), labelled=False))
    (case,) = prepare_cases(cases, PREPROCESSING, data)
    assert case.labels() is None
    assert case.annotated == (False, False)
    assert len(case.sampled_voxels(BODY)) > 0


def test_a_request_to_stop_keeps_what_is_finished(
    tmp_path: Path, manifest: Make, write_nnunet: Write, data: DataConfig
) -> None:
    cases = list_layout(manifest(), write_nnunet(tmp_path / "set"))
    seen: list[str] = []
    with pytest.raises(StopRequested):
        prepare_cases(
            cases, PREPROCESSING, data, on_case=lambda case: seen.append(case.case_id), should_stop=lambda: bool(seen)
        )
    assert [case.is_reused for case in prepare_cases(cases, PREPROCESSING, data)] == [True, False, False]


def test_a_faulty_case_is_refused_with_its_name(
    tmp_path: Path, manifest: Make, write_nnunet: Write, data: DataConfig
) -> None:
    folder = write_nnunet(tmp_path / "set")
    (folder / "imagesTr/p1_b_0000.nii.gz").write_bytes(b"")
    with pytest.raises(DataFault, match=r"p1_b_0000.nii.gz: case p1_b: the file is empty"):
        prepare_cases(list_layout(manifest(), folder), PREPROCESSING, data, jobs=2)
