import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from medpipe.datasets.cache import RECORD, cached_folder, read_record


class Builder:
    """Writes one file and counts how often."""

    def __init__(self, text: str = "content") -> None:
        self.text, self.count = text, 0

    def __call__(self, folder: Path) -> dict[str, Any]:
        self.count += 1
        (folder / "image.npy").write_text(self.text)
        return {"value": self.count}


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name[0] == "."]


def test_an_entry_is_built_once_and_then_reused(tmp_path: Path) -> None:
    build = Builder()
    assert cached_folder(tmp_path / "cache/key", build)[1] is False
    record, is_reused = cached_folder(tmp_path / "cache/key", build)
    assert is_reused
    assert record["value"] == 1
    assert build.count == 1
    assert leftovers(tmp_path / "cache") == []


@pytest.mark.parametrize("damage", ["truncated", "missing", "record", "half record"])
def test_a_damaged_entry_is_never_used_and_built_again(tmp_path: Path, damage: str) -> None:
    entry = tmp_path / "key"
    build = Builder()
    cached_folder(entry, build)
    if damage == "truncated":
        (entry / "image.npy").write_text("cont")
    elif damage == "missing":
        (entry / "image.npy").unlink()
    elif damage == "record":
        (entry / RECORD).unlink()
    else:
        (entry / RECORD).write_text((entry / RECORD).read_text()[:10])
    assert read_record(entry) is None
    assert cached_folder(entry, build)[1] is False
    assert (entry / "image.npy").read_text() == "content"
    assert leftovers(tmp_path) == []


def test_a_builder_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> dict[str, Any]:
        (folder / "half").write_text("x")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        cached_folder(tmp_path / "cache/key", fail)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_builder_that_finishes_second_takes_what_is_there(tmp_path: Path) -> None:
    inner = Builder("first")

    def build_late(folder: Path) -> dict[str, Any]:
        cached_folder(tmp_path / "key", inner)
        (folder / "image.npy").write_text("second")
        return {"value": 99}

    record, is_reused = cached_folder(tmp_path / "key", build_late)
    assert (record["value"], is_reused) == (1, False)
    assert (tmp_path / "key/image.npy").read_text() == "first"
    assert leftovers(tmp_path) == []


def build_at_once(folder: Path, barrier: Any) -> None:
    def build(temporary: Path) -> dict[str, Any]:
        barrier.wait(timeout=20)
        (temporary / "image.npy").write_bytes(b"x" * 1_000_000)
        return {}

    cached_folder(folder, build)


def test_processes_that_build_at_once_leave_one_whole_entry(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    processes = [context.Process(target=build_at_once, args=(tmp_path / "key", barrier)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=30)
    assert [process.exitcode for process in processes] == [0] * 4
    assert read_record(tmp_path / "key") is not None
    assert leftovers(tmp_path) == []
