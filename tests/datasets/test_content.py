import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from medpipe.datasets.cases import Case
from medpipe.datasets.content import content_key, hash_path
from medpipe.datasets.layouts import list_layout
from medpipe.datasets.manifest import Manifest

Make = Callable[..., Manifest]
Write = Callable[..., Path]


@pytest.fixture
def case(tmp_path: Path, manifest: Make, write_masks: Write) -> Case:
    toy = manifest(layout="totalsegmentator", structures={"bladder": {}, "rectum": {}})
    return list_layout(toy, write_masks(tmp_path / "set"))[0]


def make_old(folder: Path) -> None:
    for path in folder.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))


def test_the_key_does_not_depend_on_where_the_files_lie(tmp_path: Path, case: Case) -> None:
    shutil.copytree(tmp_path / "set", tmp_path / "moved")
    moved = replace(case, image=tmp_path / "moved/s0001/ct.nii.gz", labels=tmp_path / "moved/s0001/segmentations")
    assert content_key(moved) == content_key(case)


def test_the_key_changes_with_a_byte_of_image_or_labels(case: Case) -> None:
    assert case.labels is not None
    keys = {content_key(case)}
    for path in (case.image, case.labels / "rectum.nii.gz"):
        path.write_bytes(path.read_bytes() + b"x")
        keys.add(content_key(case))
    (case.labels / "rectum.nii.gz").rename(case.labels / "uterus.nii.gz")
    keys.add(content_key(case))
    assert len(keys) == 4


def test_the_key_changes_with_what_the_manifest_reads_in_the_labels(case: Case, manifest: Make) -> None:
    base = {"layout": "totalsegmentator", "structures": {"bladder": {}, "rectum": {}}}
    same = replace(case, manifest=manifest(**base, description="other", licence="x"))
    assert content_key(same) == content_key(case)
    for change in (
        {"overlapping": True},
        {"if_absent": "not_annotated"},
        {"structures": {"rectum": {}, "bladder": {}}},
    ):
        assert content_key(replace(case, manifest=manifest(**{**base, **change}))) != content_key(case)


def test_a_remembered_hash_is_used_until_the_file_changes(tmp_path: Path, case: Case) -> None:
    cache = tmp_path / "cache"
    make_old(tmp_path / "set")
    first = hash_path(case.image, cache)
    (memo,) = (cache / "content").iterdir()
    memo.write_text(json.dumps({**json.loads(memo.read_text()), "sha256": "remembered"}))
    assert hash_path(case.image, cache) == "remembered"
    case.image.write_bytes(case.image.read_bytes() + b"x")
    assert hash_path(case.image, cache) not in ("remembered", first)


def test_a_hash_of_a_file_that_may_still_be_changing_is_not_remembered(tmp_path: Path, case: Case) -> None:
    hash_path(case.image, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_damaged_memo_is_no_obstacle(tmp_path: Path, case: Case) -> None:
    make_old(tmp_path / "set")
    first = hash_path(case.image, tmp_path / "cache")
    (memo,) = (tmp_path / "cache/content").iterdir()
    memo.write_text("{")
    assert hash_path(case.image, tmp_path / "cache") == first
