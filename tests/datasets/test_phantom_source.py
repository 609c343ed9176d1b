from pathlib import Path

import pytest

from medpipe.datasets.cases import CasesConfig, DataConfig, PhantomSource, list_cases
from medpipe.datasets.checks import check_cases, faults_between
from medpipe.datasets.manifest import load_manifest
from medpipe.datasets.phantom_source import phantom_config, phantom_manifest_and_folder
from medpipe.datasets.reading import read_case
from medpipe.geometry.volume import LabelMap, MaskStack

COARSE = {"spacing_mm": [10.0, 8.0, 8.0], "noise_hu": 5.0}


def data(tmp_path: Path, num_cases: int = 3) -> DataConfig:
    return DataConfig(source="phantom", cache=tmp_path, phantom=PhantomSource(num_cases=num_cases, options=COARSE))


@pytest.mark.parametrize(
    ("name", "kind", "num_structures"),
    [("ct_unlabelled", None, 0), ("multi_organ_ct", LabelMap, 9), ("gynecologic_brachytherapy", MaskStack, 5)],
)
def test_every_data_set_has_phantoms_in_its_place(
    tmp_path: Path, name: str, kind: type | None, num_structures: int
) -> None:
    cases = list_cases(CasesConfig(manifest=name), data(tmp_path))
    assert len(cases) == 3
    assert len({case.patient_id for case in cases}) == 3
    report = check_cases(cases)
    assert report.faults == ()
    labels = read_case(cases[0]).labels
    assert labels is None if kind is None else isinstance(labels, kind)
    assert all(len(line.structures) == num_structures for line in report.lines)
    for structure in ("bladder", "rectum") if num_structures else ():
        assert all(line.structures[structure][0] > 0 for line in report.lines)


def test_phantoms_are_written_once(tmp_path: Path) -> None:
    first = list_cases(CasesConfig(manifest="ct_unlabelled"), data(tmp_path, 2))
    times = [case.image.stat().st_mtime_ns for case in first]
    second = list_cases(CasesConfig(manifest="ct_unlabelled"), data(tmp_path, 2))
    assert second == first
    assert [case.image.stat().st_mtime_ns for case in second] == times


def test_training_and_test_part_are_disjoint_and_data_sets_share_no_phantom(tmp_path: Path) -> None:
    parts = {
        part: list_cases(CasesConfig(manifest="gynecologic_brachytherapy", part=part), data(tmp_path, 4))
        for part in ("train", "test")
    }
    assert [len(cases) for cases in parts.values()] == [3, 1]
    cases = [*parts["train"], *parts["test"], *list_cases(CasesConfig(manifest="ct_unlabelled"), data(tmp_path, 2))]
    assert faults_between(cases, check_cases(cases).lines) == []


def test_a_workflows_options_go_before_the_manifests(tmp_path: Path) -> None:
    stand_in = load_manifest("multi_organ_ct").phantom
    assert stand_in is not None
    config = phantom_config(stand_in, data(tmp_path))
    assert config.spacing_mm == (10.0, 8.0, 8.0)
    assert config.applicator is False
    assert phantom_config(stand_in, DataConfig(source="phantom")).spacing_mm != (10.0, 8.0, 8.0)


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ValueError, match="spacing"):
        PhantomSource(options={"spacing": [1, 1, 1]})


def test_a_data_set_without_a_stand_in_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="totalsegmentator_v2 has no `phantom:` stand-in"):
        phantom_manifest_and_folder(load_manifest("totalsegmentator_v2"), data(tmp_path))
