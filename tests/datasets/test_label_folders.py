"""Names of label values, from what lies beside the files and from a manifest."""

import json
from pathlib import Path

import pytest

from medpipe.datasets.label_folders import find_label_sources, label_names
from medpipe.datasets.manifest import Manifest
from medpipe.geometry.faults import DataFault


def dataset_json(folder: Path, labels: object) -> Path:
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    return folder


def manifest(**structures: dict) -> Manifest:
    return Manifest.model_validate({"manifest": "m", "layout": "nnunet", "folder": ".", "structures": structures})


def test_both_forms_of_nnunet_name_the_values(tmp_path: Path) -> None:
    names = {1: "bladder", 2: "rectum"}
    assert label_names(dataset_json(tmp_path, {"background": 0, "bladder": 1, "rectum": 2}), None) == names
    assert label_names(dataset_json(tmp_path, {"0": "background", "1": "bladder", "2": "rectum"}), None) == names


def test_a_manifest_names_what_it_gives_a_value_and_dataset_json_the_rest(tmp_path: Path) -> None:
    dataset_json(tmp_path, {"background": 0, "Blase": 1, "Rectum": 2, "spleen": 3, "uterus": 4})
    known = manifest(bladder={"aliases": ("Blase",)}, rectum={}, uterus={"label": 9})
    assert label_names(tmp_path, known) == {1: "bladder", 2: "rectum", 9: "uterus"}


def test_two_names_for_one_structure_of_a_manifest_are_refused(tmp_path: Path) -> None:
    dataset_json(tmp_path, {"background": 0, "Blase": 1, "bladder": 2})
    with pytest.raises(DataFault, match="bladder could be any of 'Blase', 'bladder'"):
        label_names(tmp_path, manifest(bladder={"aliases": ("Blase",)}))


@pytest.mark.parametrize("content", ["[1, 2]", "{}", '{"labels": ["bladder"]}', '{"labels": null}'])
def test_a_dataset_json_without_labels_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(DataFault, match=r"dataset\.json: names no label values"):
        label_names(tmp_path, None)


def test_a_value_with_two_names_is_refused_not_overwritten(tmp_path: Path) -> None:
    with pytest.raises(DataFault, match="label 1 has two names, bladder and rectum"):
        label_names(dataset_json(tmp_path, {"background": 0, "bladder": 1, "rectum": 1}), None)


@pytest.mark.parametrize("content", ["[]", '{"scores": 1}'])
def test_a_predictions_json_of_another_tool_names_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "predictions.json").write_text(content)
    assert label_names(tmp_path, None) == {}


@pytest.mark.parametrize("name", ["c1.dcm", "c1/rtstruct.dcm"])
@pytest.mark.parametrize("content", [b"", b"not DICOM"])
def test_a_broken_structure_set_is_not_passed_over(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataFault, match=f"{name}: not a whole DICOM file"):
        find_label_sources(tmp_path)
