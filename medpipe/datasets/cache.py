"""Folders of derived files under a key of their content: built whole or not at all, checked before use.

Any number of processes on any number of hosts may read and build at once. Each builds in a folder of its own, forces it
to disk and renames it; the first to finish gives its name, the others take what is there. A lease keeps two from doing
the same work (leases.py). An entry whose files are not as long as its record says is built again.
"""

import json
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medpipe.datasets.leases import LEASE_SECONDS, leased

RECORD = "record.json"


def cached_folder(folder: Path, build: Callable[[Path], dict[str, Any]]) -> tuple[dict[str, Any], bool]:
    """The entry's record, and whether it was there; else `build(temporary)` writes the files and returns the record."""
    record = read_record(folder)
    if record is not None:
        return record, True
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:12]}.partial")
    temporary.mkdir()
    try:
        record = build(temporary)
        _seal(temporary, record)
        _install(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    found = read_record(folder)
    if found is None:
        raise OSError(f"{folder}: the entry could not be read back after it was written; is the disk full?")
    return found, False


def try_cached_folder(
    folder: Path, build: Callable[[Path], dict[str, Any]], *, lease_seconds: float = LEASE_SECONDS
) -> tuple[dict[str, Any], bool] | None:
    """`cached_folder`, but None where another process, here or on another host, is building the entry."""
    record = read_record(folder)
    if record is not None:
        return record, True
    folder.parent.mkdir(parents=True, exist_ok=True)
    with leased(folder.with_name(f".{folder.name}.lease"), lease_seconds) as is_ours:
        return cached_folder(folder, build) if is_ours else None


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of a whole entry; None where there is none, or where a file is missing or of another length."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        whole = all((folder / name).stat().st_size == size for name, size in record["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return record if whole else None


def _seal(folder: Path, record: dict[str, Any]) -> None:
    """Put every file on disk, then the record that lists them: a power cut leaves no record without its files."""
    names = sorted(path.name for path in folder.iterdir())
    for name in names:
        _sync(folder / name)
    record["files"] = {name: (folder / name).stat().st_size for name in names}
    (folder / RECORD).write_text(json.dumps(record), encoding="utf-8")
    _sync(folder / RECORD)
    _sync(folder)


def _install(temporary: Path, folder: Path) -> None:
    for _ in range(10):
        try:
            os.rename(temporary, folder)  # fails where a folder with content is there already
            _sync(folder.parent)
            return
        except OSError:
            if read_record(folder) is not None:
                return
            # A damaged entry: out of the way under a name of its own, so that no other builder's is hit.
            discarded = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:12]}.damaged")
            try:
                os.rename(folder, discarded)
            except FileNotFoundError:
                continue
            shutil.rmtree(discarded, ignore_errors=True)
    raise OSError(f"{folder}: cannot be written")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
