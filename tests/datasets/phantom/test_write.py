"""Phantoms on disk: read back voxel for voxel, the same bytes again, whole after an interruption."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medpipe.datasets.phantom import write
from medpipe.datasets.phantom.pelvis import PELVIC_STRUCTURES, PelvisConfig, generate_pelvis
from medpipe.datasets.phantom.roi_names import NAMES, roi_names
from medpipe.datasets.phantom.write import LABEL_MAP_STRUCTURES, MARKER, write_phantoms

TINY = PelvisConfig(spacing_mm=(12.0, 8.0, 8.0))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_masks_are_read_back_in_the_totalsegmentator_layout(tmp_path: Path) -> None:
    from medpipe.geometry.nifti import read_mask, read_volume

    case_ids = write_phantoms(tmp_path / "set", TINY, 2, first_seed=40)
    assert case_ids == ("phantom_0040", "phantom_0041")
    for seed, case_id in zip((40, 41), case_ids, strict=True):
        phantom = generate_pelvis(seed, TINY)
        volume = read_volume(tmp_path / "set" / case_id / "ct.nii.gz")
        assert np.array_equal(volume.array, phantom.volume.array)
        assert np.allclose(volume.affine, phantom.volume.affine, atol=1e-3)
        for name in PELVIC_STRUCTURES:
            mask = read_mask(tmp_path / "set" / case_id / "segmentations" / f"{name}.nii.gz")
            assert np.array_equal(mask.array > 0, phantom.masks.mask(name)), name


def test_without_structures_there_are_only_images(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "set", TINY, 1, structures=())
    assert [path.name for path in (tmp_path / "set" / "phantom_0000").iterdir()] == ["ct.nii.gz"]


def test_label_maps_are_read_back_in_the_nnunet_layout(tmp_path: Path) -> None:
    from medpipe.geometry.nifti import read_label_map

    write_phantoms(tmp_path / "set", TINY, 1, first_seed=5, form="nifti_label_map")
    labels = json.loads((tmp_path / "set" / "dataset.json").read_text())["labels"]
    label_map = read_label_map(tmp_path / "set" / "labelsTr" / "phantom_0005.nii.gz")
    phantom = generate_pelvis(5, TINY)
    assert set(labels) == {"background", *LABEL_MAP_STRUCTURES}
    for name in LABEL_MAP_STRUCTURES:
        assert np.array_equal(label_map.array == labels[name], phantom.masks.mask(name)), name
    assert (tmp_path / "set" / "imagesTr" / "phantom_0005_0000.nii.gz").is_file()


def test_a_label_map_of_overlapping_structures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ctv_high_risk and uterus overlap.*nifti_masks or dicom"):
        write_phantoms(tmp_path / "set", TINY, 1, form="nifti_label_map", structures=("ctv_high_risk", "uterus"))
    assert not (tmp_path / "set").exists()


def test_unknown_structures_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="spleen"):
        write_phantoms(tmp_path / "set", TINY, 1, structures=("spleen",))


def test_dicom_is_read_back_with_clinical_names(tmp_path: Path) -> None:
    from medpipe.dicom.linking import roi_masks
    from medpipe.dicom.rtstruct import read_rtstruct
    from medpipe.dicom.series import read_series

    names = ("ctv_high_risk", "bladder", "sigmoid_colon", "uterus")
    config = TINY.model_copy(update={"missing_sigmoid_share": 1.0, "spacing_mm": (15.0, 8.0, 8.0)})
    write_phantoms(tmp_path / "set", config, 1, first_seed=2, form="dicom", structures=names)
    phantom = generate_pelvis(2, config)
    series = read_series(tmp_path / "set" / "phantom_0002" / "ct")
    structure_set = read_rtstruct(tmp_path / "set" / "phantom_0002" / "rtstruct.dcm")
    assert series.patient_id == "phantom_0002"
    assert np.array_equal(series.volume.array, phantom.volume.array)
    present = ("ctv_high_risk", "bladder", "uterus")
    clinical = roi_names(2, present)
    assert structure_set.names == tuple(clinical.values())
    masks = roi_masks(structure_set, series, clinical)
    for name in present:
        assert np.array_equal(masks.mask(name), phantom.masks.mask(name)), name


def test_clinics_name_their_regions_differently() -> None:
    assert len({roi_names(seed, ("ctv_high_risk",))["ctv_high_risk"] for seed in range(30)}) == 5
    for habit in zip(*NAMES.values(), strict=True):
        assert len(set(habit)) == len(NAMES)


def test_the_same_values_give_the_same_bytes_in_one_or_two_processes(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "one", TINY, 2)
    write_phantoms(tmp_path / "two", TINY, 2, jobs=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_complete_folder_is_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_phantoms(tmp_path / "set", TINY, 1)
    monkeypatch.setattr(write, "generate_pelvis", _refuse)
    written = []
    assert write_phantoms(tmp_path / "set", TINY, 1, on_case=lambda *case: written.append(case)) == ("phantom_0000",)
    assert written == []


@pytest.mark.parametrize("form", ["nifti_masks", "nifti_label_map"])
def test_an_interrupted_folder_is_completed(form: write.Form, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_phantoms(tmp_path / "whole", TINY, 3, form=form)
    with monkeypatch.context() as patched:
        patched.setattr(write, "generate_pelvis", _failing_at(1))
        with pytest.raises(KeyboardInterrupt):
            write_phantoms(tmp_path / "set", TINY, 3, form=form)
    assert json.loads((tmp_path / "set" / MARKER).read_text())["complete"] is False
    written = []
    write_phantoms(tmp_path / "set", TINY, 3, form=form, on_case=lambda index, case_id: written.append(case_id))
    assert written == ["phantom_0001", "phantom_0002"]
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")
    assert sorted(os.listdir(tmp_path)) == ["set", "whole"]


def test_a_case_that_another_process_wrote_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate = write.generate_pelvis

    def while_another_writes(seed: int, config: PelvisConfig, *, fraction: int) -> object:
        monkeypatch.setattr(write, "generate_pelvis", generate)
        write_phantoms(tmp_path / "set", config, 1)
        return generate(seed, config, fraction=fraction)

    monkeypatch.setattr(write, "generate_pelvis", while_another_writes)
    write_phantoms(tmp_path / "set", TINY, 1)
    write_phantoms(tmp_path / "alone", TINY, 1)
    assert contents(tmp_path / "set") == contents(tmp_path / "alone")
    assert sorted(os.listdir(tmp_path)) == ["alone", "set"]


def test_a_folder_of_other_values_or_files_is_refused(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "set", TINY, 1)
    with pytest.raises(ValueError, match="holds phantoms of other values"):
        write_phantoms(tmp_path / "set", TINY, 1, first_seed=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="give an empty folder"):
        write_phantoms(tmp_path / "mine", TINY, 1)


def test_fractions_of_a_patient_are_cases_of_their_own(tmp_path: Path) -> None:
    config = TINY.model_copy(update={"fractions": 2})
    assert write_phantoms(tmp_path / "set", config, 3, first_seed=8, structures=()) == (
        "phantom_0008_fx1",
        "phantom_0008_fx2",
        "phantom_0009_fx1",
    )


def _refuse(*_: object, **__: object) -> object:
    raise AssertionError("a complete folder was generated again")


def _failing_at(bad_seed: int) -> Callable[..., object]:
    def generate(seed: int, config: PelvisConfig, *, fraction: int) -> object:
        if seed == bad_seed:
            raise KeyboardInterrupt
        return generate_pelvis(seed, config, fraction=fraction)

    return generate
