import json
from collections.abc import Callable
from pathlib import Path

import pytest

from medpipe.datasets.cases import CasesConfig, DataConfig, list_cases
from medpipe.datasets.layouts import list_layout
from medpipe.datasets.manifest import Manifest
from medpipe.geometry.faults import DataFault, DataFaults

Make = Callable[..., Manifest]
Write = Callable[..., Path]


def test_nnunet_pairs_images_with_labels_by_id(tmp_path: Path, manifest: Make, write_nnunet: Write) -> None:
    cases = list_layout(manifest(), write_nnunet(tmp_path))
    assert [case.case_id for case in cases] == ["p1_a", "p1_b", "p2_a"]
    assert cases[0].image.name == "p1_a_0000.nii.gz"
    assert cases[0].labels == tmp_path / "labelsTr/p1_a.nii.gz"
    assert cases[0].label_values == {"bladder": (1,), "rectum": (2,)}


VERSION_2 = {"background": 0, "Urinary_Bladder": 7, "rectum": [3, 4]}
VERSION_1 = {"0": "background", "7": "urinary bladder", "3": "rectum"}


@pytest.mark.parametrize("labels", [VERSION_2, VERSION_1])
def test_nnunet_takes_label_values_from_dataset_json_by_name(
    tmp_path: Path, manifest: Make, write_nnunet: Write, labels: dict
) -> None:
    write_nnunet(tmp_path)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}), encoding="utf-8-sig")
    structures = {"bladder": {"aliases": ("urinary_bladder",)}, "rectum": {}}
    values = list_layout(manifest(structures=structures), tmp_path)[0].label_values
    assert values == {"bladder": (7,), "rectum": (3, 4) if "rectum" in labels else (3,)}


def test_a_manifest_and_a_dataset_json_that_disagree_are_refused(
    tmp_path: Path, manifest: Make, write_nnunet: Write
) -> None:
    write_nnunet(tmp_path)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "bladder": 104, "rectum": 2}}))
    with pytest.raises(DataFaults, match=r"dataset.json: bladder has label 104 here, 1 in the manifest"):
        list_layout(manifest(), tmp_path)


def test_a_structure_without_a_label_value_is_refused(tmp_path: Path, manifest: Make, write_nnunet: Write) -> None:
    with pytest.raises(DataFaults, match="no label value for uterus"):
        list_layout(manifest(structures={"uterus": {}}), write_nnunet(tmp_path))


def test_all_faults_of_a_listing_come_at_once(tmp_path: Path, manifest: Make, write_nnunet: Write) -> None:
    write_nnunet(tmp_path)
    (tmp_path / "labelsTr/p1_a.nii.gz").rename(tmp_path / "labelsTr/p9.nii.gz")
    (tmp_path / "imagesTr/p1_b_0001.nii.gz").touch()
    with pytest.raises(DataFaults) as caught:
        list_layout(manifest(), tmp_path)
    listed = {fault.path.name: fault.reason for fault in caught.value.faults}
    assert set(listed) == {"p9.nii.gz", "p1_b_0001.nii.gz", "p1_a_0000.nii.gz"}
    assert "labels without an image" in listed["p9.nii.gz"]
    assert "one channel" in listed["p1_b_0001.nii.gz"]
    assert "image without labels" in listed["p1_a_0000.nii.gz"]


def test_an_unlabelled_case_is_no_fault_where_the_manifest_says_so(
    tmp_path: Path, manifest: Make, write_nnunet: Write
) -> None:
    write_nnunet(tmp_path)
    (tmp_path / "labelsTr/p1_a.nii.gz").unlink()
    assert list_layout(manifest(if_absent="not_annotated"), tmp_path)[0].labels is None


def test_a_data_set_of_images_alone_is_listed_unlabelled(tmp_path: Path, manifest: Make, write_nnunet: Write) -> None:
    cases = list_layout(manifest(), write_nnunet(tmp_path, labelled=False))
    assert [case.labels for case in cases] == [None, None, None]


def test_totalsegmentator_finds_masks_and_the_split_of_its_table(
    tmp_path: Path, manifest: Make, write_masks: Write
) -> None:
    for case_id in ("s0001", "s0002"):
        write_masks(tmp_path, case_id)
    (tmp_path / "meta.csv").write_text(
        "\ufeffimage_id;age;split\r\ns0001;50;train\r\ns0002;;test\r\n", encoding="utf-8"
    )
    toy = manifest(layout="totalsegmentator", test={"split_column": "split"}, folder=".")
    assert [(case.case_id, case.listed_part) for case in list_layout(toy, tmp_path)] == [
        ("s0001", "train"),
        ("s0002", "test"),
    ]
    assert all(case.labels == case.image.parent / "segmentations" for case in list_layout(toy, tmp_path))


def test_a_case_folder_without_its_ct_is_named(tmp_path: Path, manifest: Make, write_masks: Write) -> None:
    write_masks(tmp_path)
    (tmp_path / "s0007").mkdir()
    with pytest.raises(DataFaults, match=r"s0007: no ct.nii.gz"):
        list_layout(manifest(layout="totalsegmentator"), tmp_path)


def test_a_table_as_windows_writes_it_is_read(tmp_path: Path, manifest: Make, write_nnunet: Write) -> None:
    write_nnunet(tmp_path / "Bilder für Müller", ids=("p1_a",))
    folder = "Bilder für Müller"
    rows = [
        "case_id; patient_id ;image;labels",
        f"Fall 1; Müller ;{folder}/imagesTr/p1_a_0000.nii.gz;{folder}/labelsTr/p1_a.nii.gz",
        f"Fall 2;Müller;{folder}/imagesTr/p1_a_0000.nii.gz;",
        ";;;",
    ]
    (tmp_path / "cases.csv").write_bytes("\r\n".join(rows).encode("utf-8-sig"))
    cases = list_layout(manifest(layout="table", if_absent="not_annotated"), tmp_path)
    assert [(case.case_id, case.patient_id, case.labels is None) for case in cases] == [
        ("Fall 1", "Müller", False),
        ("Fall 2", "Müller", True),
    ]


def test_files_that_a_table_names_in_vain_are_all_listed(tmp_path: Path, manifest: Make) -> None:
    (tmp_path / "cases.csv").write_text("case_id,image,labels\na,a.nii.gz,b.nii.gz\n")
    with pytest.raises(DataFaults) as caught:
        list_layout(manifest(layout="table"), tmp_path)
    assert [fault.path.name for fault in caught.value.faults] == ["a.nii.gz", "b.nii.gz"]


def test_a_table_without_a_column_is_named(tmp_path: Path, manifest: Make) -> None:
    (tmp_path / "cases.csv").write_text("case,image\na,a.nii.gz\n")
    with pytest.raises(DataFault, match="no column case_id; it has case, image"):
        list_layout(manifest(layout="table"), tmp_path)


def test_one_id_twice_is_refused(tmp_path: Path, manifest: Make) -> None:
    (tmp_path / "x.nii").touch()
    (tmp_path / "cases.csv").write_text("case_id,image\na,x.nii\na,x.nii\n")
    with pytest.raises(DataFaults, match="case id a stands for 2 cases"):
        list_layout(manifest(layout="table"), tmp_path)


def test_a_folder_of_nifti_files_is_a_data_set(tmp_path: Path, manifest: Make, write_nnunet: Write) -> None:
    write_nnunet(tmp_path)
    cases = list_layout(manifest(layout="folder", structures={}), tmp_path / "imagesTr")
    assert [case.case_id for case in cases] == ["p1_a_0000", "p1_b_0000", "p2_a_0000"]


def test_patients_come_from_the_case_ids_pattern(tmp_path: Path, manifest: Make, write_nnunet: Write) -> None:
    cases = list_layout(manifest(patients={"pattern": "^(p[0-9]+)_"}), write_nnunet(tmp_path))
    assert [case.patient_id for case in cases] == ["p1", "p1", "p2"]


def test_a_case_id_that_does_not_match_the_pattern_is_named(
    tmp_path: Path, manifest: Make, write_nnunet: Write
) -> None:
    with pytest.raises(DataFaults, match="case p2_a: the id does not match"):
        list_layout(manifest(patients={"pattern": "^(p1)_"}), write_nnunet(tmp_path))


def test_patients_come_from_a_table(tmp_path: Path, manifest: Make, write_nnunet: Write) -> None:
    write_nnunet(tmp_path)
    (tmp_path / "patients.csv").write_text("case_id,patient_id\np1_a,x\np1_b,x\n")
    with pytest.raises(DataFaults, match=r"patients.csv: no patient for case p2_a"):
        list_layout(manifest(patients={"table": "patients.csv"}), tmp_path)


def test_a_folder_that_is_not_there_and_an_empty_one_say_what_is_expected(tmp_path: Path, manifest: Make) -> None:
    with pytest.raises(DataFaults, match="nowhere: no such folder; manifest toy expects"):
        list_layout(manifest(), tmp_path / "nowhere")
    with pytest.raises(DataFaults, match=r"no case of layout nnunet \(imagesTr"):
        list_layout(manifest(), tmp_path)


def test_cases_are_listed_from_the_data_root(tmp_path: Path, write_nnunet: Write) -> None:
    write_nnunet(tmp_path / "data/toy set")
    (tmp_path / "toy.yaml").write_text(
        "manifest: toy\nlayout: nnunet\nfolder: toy set\nstructures: {bladder: {label: 1}, rectum: {label: 2}}\n"
        "patients: {pattern: '^(p[0-9])'}\ntest: {patients: [p2]}\n"
    )
    data = DataConfig(root=tmp_path / "data")
    for part, ids in (("train", ["p1_a", "p1_b"]), ("test", ["p2_a"]), ("all", ["p1_a", "p1_b", "p2_a"])):
        cases = list_cases(CasesConfig(manifest="toy.yaml", part=part), data, tmp_path)
        assert [case.case_id for case in cases] == ids
    assert len(list_cases(CasesConfig(manifest="toy.yaml", max_cases=2), data, tmp_path)) == 2


def test_without_a_data_root_the_way_out_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data.root is not set; give data.root=.* or data.source=phantom"):
        list_cases(CasesConfig(manifest="ct_unlabelled"), DataConfig())
