import itertools
from pathlib import Path

import pytest

from medpipe.config.errors import ConfigError
from medpipe.config.share import share_folder
from medpipe.datasets.manifest import Manifest, load_manifest

HEAD = "manifest: toy\nlayout: nnunet\nfolder: toy\n"


def load(tmp_path: Path, text: str) -> Manifest:
    (tmp_path / "toy.yaml").write_text(HEAD + text)
    return load_manifest("toy.yaml", tmp_path)


@pytest.mark.parametrize(
    "path", sorted((share_folder("data") / "manifests").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_manifest_loads_and_bears_its_files_name(path: Path) -> None:
    manifest = load_manifest(path.stem)
    assert manifest.manifest == path.stem
    assert manifest.licence
    assert manifest.citation


def test_data_sets_do_not_share_phantoms() -> None:
    paths = (share_folder("data") / "manifests").glob("*.yaml")
    stand_ins = [stand_in for path in paths if (stand_in := load_manifest(path.stem).phantom)]
    seeds = sorted(stand_in.first_seed for stand_in in stand_ins)
    assert len(seeds) >= 3
    assert all(later - earlier >= 10_000 for earlier, later in itertools.pairwise(seeds))


def test_totalsegmentator_names_its_117_structures_in_the_order_of_the_class_map(real_data: Path) -> None:
    import json

    class_map = json.loads((real_data / "ct_organs/class_map_total_v2.json").read_text())
    structures = load_manifest("totalsegmentator_v2").structures
    assert [structure.files(name) for name, structure in structures.items()] == [(name,) for name in class_map.values()]
    assert [structure.labels for structure in structures.values()] == [(int(value),) for value in class_map]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("structures:\n  bladder: {lable: 1}\n", r"toy.yaml:5:13: .*lable.*label"),
        ("structures:\n  Bladder: {label: 1}\n", r"toy.yaml:5:3: .*'Bladder' must be in snake case"),
        ("structures:\n  bladder: {label: 0}\n", "label 0 is background"),
        ("structures:\n  bladder: {label: 1}\n  rectum: {label: 1}\n", "label 1 is already bladder"),
        ("structures:\n  bladder: {label: 1}\nignore_label: 1\n", "label 1 is already ignore_label"),
        ("structures:\n  a: {aliases: [X y]}\n  b: {tg263: x_Y}\n", "'x_Y' of b is also an alias of a"),
        ("overlapping: true\nignore_label: 255\n", "ignore_label needs a label map"),
        ("test: {share: 0.2, patients: [a]}\n", "give one of patients, file, split_column or share"),
        ("patients: {pattern: 'p[0-9]+'}\n", "exactly one group"),
    ],
)
def test_a_faulty_manifest_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, text)


def test_an_unknown_manifest_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'gynaecologic' is neither a path nor one of .*gynecologic_brachytherapy"):
        load_manifest("gynaecologic")


def test_a_manifest_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"no file {tmp_path}/mine.yaml"):
        load_manifest("mine.yaml", tmp_path)


def test_labels_and_files_may_be_merged(tmp_path: Path) -> None:
    structure = load(tmp_path, "structures:\n  bone: {label: [2, 3], file: [hip_left, hip_right]}\n").structures["bone"]
    assert structure.labels == (2, 3)
    assert structure.files("bone") == ("hip_left", "hip_right")
