"""Examinations written by our own writers and spoilt, and four real ones."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread

from medpipe.datasets.checks import check_cases
from medpipe.datasets.layouts import list_layout
from medpipe.datasets.manifest import Manifest
from medpipe.datasets.reading import read_case
from medpipe.dicom.write_rtstruct import write_rtstruct
from medpipe.dicom.write_series import write_series
from medpipe.geometry.faults import DataFault, DataFaults
from medpipe.geometry.nifti import read_label_map
from medpipe.geometry.orientation import to_canonical
from medpipe.geometry.volume import LabelMap, MaskStack, Volume

Make = Callable[..., Manifest]
SHAPE = (10, 16, 18)


def examination(folder: Path, names: dict[str, str], *, patient: str = "A1", seed: str = "x") -> Path:
    """A CT series in `CT` and an RTSTRUCT in `RS` with two boxes under those names."""
    affine = np.array([[0, 0, -2.0, 20], [0, -2.0, 0, 30], [3.0, 0, 0, -9], [0, 0, 0, 1]])
    hu = np.full(SHAPE, -1000, dtype=np.int16)
    hu[:, 3:13, 3:15] = 40
    hu[0, 0, :3] = len(seed) + sum(seed.encode())
    series = write_series(folder / "CT", Volume(hu, affine), patient_id=patient, uid_seed=f"{patient}{seed}")
    masks = np.zeros((2, *series.volume.shape), dtype=bool)
    masks[0, 2:6, 4:9, 5:10] = True
    masks[1, 4:8, 4:9, 8:13] = True
    stack = MaskStack(masks, series.volume.affine, ("bladder", "rectum"))
    (folder / "RS").mkdir()
    write_rtstruct(folder / "RS/rs.dcm", stack, series, roi_names=names)
    return folder


@pytest.fixture
def make(manifest: Make) -> Make:
    def make_dicom(**changes: object) -> Manifest:
        structures = {"bladder": {"aliases": ("Blase",)}, "rectum": {}}
        return manifest(**{"layout": "dicom_rtstruct", "structures": structures, "overlapping": True, **changes})

    return make_dicom


def rename_roi(path: Path, index: int, name: str) -> None:
    dataset = dcmread(path)
    dataset.StructureSetROISequence[index].ROIName = name
    dataset.save_as(path)


def test_an_examination_is_a_case_with_its_masks_and_the_headers_patient(tmp_path: Path, make: Make) -> None:
    examination(tmp_path / "exam 1", {"bladder": "BLASE", "rectum": "Rectum_Fx2"})
    (case,) = list_layout(make(), tmp_path)
    assert (case.case_id, case.patient_id) == ("exam 1", "A1")
    notes: list[str] = []
    volume, labels, annotated = read_case(case, notes)
    assert annotated == (True, True)
    assert isinstance(labels, MaskStack)
    assert [int(mask.sum()) for mask in labels.array] == [100, 100]
    assert (labels.array[0] & labels.array[1]).sum() == 20
    assert labels.grid.shape == volume.shape
    joined = "\n".join(notes)
    assert "BLASE" in joined
    assert "-> bladder" in joined
    assert "Rectum_Fx2 -> rectum (fraction number taken off)" in joined
    assert "rectum overlaps bladder in 20 voxels; both are kept" in joined


def test_one_label_map_is_made_where_structures_exclude_each_other(tmp_path: Path, make: Make) -> None:
    examination(tmp_path / "e", {"bladder": "bladder", "rectum": "rectum"})
    labels = read_case(list_layout(make(overlapping=False), tmp_path)[0]).labels
    assert isinstance(labels, LabelMap)
    assert np.bincount(labels.array.ravel())[1:].tolist() == [80, 100]


def test_an_ambiguous_name_is_refused_with_the_structure_sets_file(tmp_path: Path, make: Make) -> None:
    examination(tmp_path / "e", {"bladder": "Blase", "rectum": "BLADDER"})
    cases = list_layout(make(), tmp_path)
    (fault,) = check_cases(cases).faults
    assert fault.path == tmp_path / "e/RS/rs.dcm" or fault.path == tmp_path / "e"
    assert "case e: bladder could be any of 'Blase', 'BLADDER'" in fault.reason
    chosen = list_layout(make(choose={"e": {"bladder": "Blase"}}, if_absent="not_annotated"), tmp_path)
    assert check_cases(chosen).faults == ()
    assert read_case(chosen[0]).annotated == (True, False)


@pytest.mark.parametrize(("if_absent", "annotated"), [("absent", True), ("not_annotated", False)])
def test_a_region_that_is_not_there_is_absent_or_not_annotated(
    tmp_path: Path, make: Make, if_absent: str, annotated: bool
) -> None:
    examination(tmp_path / "e", {"bladder": "Blase", "rectum": "Rectum_PRV"})
    assert read_case(list_layout(make(if_absent=if_absent), tmp_path)[0]).annotated == (True, annotated)


def test_a_structure_set_of_another_ct_is_refused(tmp_path: Path, make: Make) -> None:
    names = {"bladder": "bladder", "rectum": "rectum"}
    examination(tmp_path / "set/e", names)
    examination(tmp_path / "other", names, seed="y")
    shutil.copy(tmp_path / "other/RS/rs.dcm", tmp_path / "set/e/RS/rs.dcm")
    (fault,) = check_cases(list_layout(make(), tmp_path / "set")).faults
    assert "case e: its frame of reference" in fault.reason
    assert fault.path == tmp_path / "set/e/RS/rs.dcm"


def test_of_two_series_the_one_that_the_structure_set_names_is_taken(tmp_path: Path, make: Make) -> None:
    names = {"bladder": "bladder", "rectum": "rectum"}
    examination(tmp_path / "set/e", names)
    examination(tmp_path / "other", names, seed="other series")
    shutil.copytree(tmp_path / "other/CT", tmp_path / "set/e/CT2")
    (case,) = list_layout(make(), tmp_path / "set")
    assert check_cases([case]).faults == ()
    shutil.rmtree(tmp_path / "set/e/RS")
    with pytest.raises(DataFaults, match=r"holds 2 CT series .* choose by `series:`"):
        list_layout(make(), tmp_path / "set")


def test_two_structure_sets_are_refused_unless_the_manifest_chooses(tmp_path: Path, make: Make) -> None:
    folder = examination(tmp_path / "e", {"bladder": "bladder", "rectum": "rectum"})
    shutil.copy(folder / "RS/rs.dcm", folder / "RS/rs_old.dcm")
    with pytest.raises(DataFaults, match=r"2 structure sets: RS/rs.dcm, RS/rs_old.dcm; choose by `structure_set:`"):
        list_layout(make(), tmp_path)
    (case,) = list_layout(make(structure_set="rs.dcm$"), tmp_path)
    assert case.labels == folder / "RS/rs.dcm"


def test_row_18_fractions_under_two_folders_are_one_patient(tmp_path: Path, make: Make) -> None:
    names = {"bladder": "bladder", "rectum": "rectum"}
    for fraction in ("fx1", "fx2"):
        examination(tmp_path / fraction, names, seed=fraction)
    by_header = list_layout(make(), tmp_path)
    assert [case.patient_id for case in by_header] == ["A1", "A1"]
    assert check_cases(by_header).faults == ()
    by_folder = list_layout(make(patients={"dicom": "folder"}), tmp_path)
    assert [case.patient_id for case in by_folder] == ["fx1", "fx2"]
    (fault,) = check_cases(by_folder).faults
    assert "case fx2 of patient fx2 has the same DICOM PatientID as case fx1" in fault.reason


def test_row_19_a_missing_slice_is_refused_with_the_case(tmp_path: Path, make: Make) -> None:
    folder = examination(tmp_path / "e", {"bladder": "bladder", "rectum": "rectum"})
    sorted((folder / "CT").glob("*.dcm"))[4].unlink()
    (fault,) = check_cases(list_layout(make(), tmp_path)).faults
    assert fault.reason.startswith("case e: ")


def test_all_faulty_examinations_are_listed(tmp_path: Path, make: Make) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    examination(tmp_path / "c", {"bladder": "bladder", "rectum": "rectum"})
    with pytest.raises(DataFaults) as caught:
        list_layout(make(), tmp_path)
    assert [fault.path.name for fault in caught.value.faults] == ["a", "b"]


def test_series_without_structure_sets_are_an_unlabelled_set(tmp_path: Path, make: Make) -> None:
    for name in ("a", "b"):
        shutil.rmtree(examination(tmp_path / name, {"bladder": "x"}, patient=name, seed=name) / "RS")
    cases = list_layout(make(layout="folder", structures={}, overlapping=False), tmp_path)
    assert [(case.case_id, case.patient_id, case.labels) for case in cases] == [("a", "a", None), ("b", "b", None)]
    assert check_cases(cases).faults == ()


def test_the_real_sarcoma_masks_are_met_voxel_for_voxel(real_data: Path, manifest: Make) -> None:
    toy = manifest(layout="dicom_rtstruct", structures={"tumour": {"aliases": ("GTV_Mass_CT",)}})
    cases = list_layout(toy, real_data / "ct_sarcoma/dicom")
    assert [case.case_id for case in cases] == ["STS_002", "STS_003", "STS_008", "STS_025"]
    for case in cases[:2]:  # all four are read by the DICOM readers' own tests
        labels = read_case(case).labels
        assert isinstance(labels, LabelMap)
        published = read_label_map(real_data / f"ct_sarcoma/nifti/{case.case_id}/CT_mask.nii.gz")
        assert np.array_equal(canonical(labels) == 1, canonical(published) > 0)


def canonical(labels: LabelMap) -> NDArray:
    return to_canonical(labels).array


def test_the_real_label_map_and_mask_files_are_read(real_data: Path, tmp_path: Path, manifest: Make) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    (folder / "ct.nii.gz").symlink_to(real_data / "ct_organs/example_ct_sm.nii.gz")
    (folder / "segmentations").symlink_to(real_data / "ct_organs/example_seg_fast")
    structures = {"liver": {}, "urinary_bladder": {}, "vertebrae_l1": {"file": "vertebrae_L1"}}
    line = check_cases(list_layout(manifest(layout="totalsegmentator", structures=structures), tmp_path)).lines[0]
    assert line.faults == ()
    assert line.shape == (30, 101, 122)
    assert line.structures["liver"][1] > 100


def test_a_brachytherapy_export_without_its_ct_is_refused_by_folder(real_data: Path, make: Make) -> None:
    with pytest.raises(DataFaults) as caught:
        list_layout(make(), real_data / "brachytherapy")
    assert {fault.path.name for fault in caught.value.faults} == {"HDR", "PDR"}
    assert all(isinstance(fault, DataFault) and "0 CT series" in fault.reason for fault in caught.value.faults)
