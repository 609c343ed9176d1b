"""Prepared cases on a disk of the node itself: read at every step, they need not go over the network each time."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medpipe.datasets.cache import RECORD, cached_folder, read_record
from medpipe.datasets.prepared import PreparedCase

logger = logging.getLogger(__name__)

SPARE = 0.05  # of the disk: a full one stops everything else on the node


def copy_to_scratch(cases: Sequence[PreparedCase], scratch: Path) -> None:
    """Copy the cases' arrays below `scratch`, as far as there is room; it is said where there is none.

    Several processes of a node may do so at once. What is there already is kept: it is named by its content.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    for place, case in enumerate(cases):
        target = local_folder(case, scratch)
        if read_record(target) is not None:
            continue
        size = sum(path.stat().st_size for path in case.folder.iterdir())
        disk = shutil.disk_usage(scratch)
        if size > disk.free - SPARE * disk.total:
            logger.warning(
                "%s has no room for %d of %d prepared cases (%.1f GB free); these are read from %s",
                scratch, len(cases) - place, len(cases), disk.free / 1e9, case.folder.parent,
            )  # fmt: skip
            return
        cached_folder(target, lambda temporary, source=case.folder: _copy(source, temporary))


def from_scratch(cases: Sequence[PreparedCase], scratch: Path) -> list[PreparedCase]:
    """The cases, each read from `scratch` where it lies there whole."""
    there = [local_folder(case, scratch) for case in cases]
    return [
        case if read_record(folder) is None else replace(case, folder=folder)
        for case, folder in zip(cases, there, strict=True)
    ]


def local_folder(case: PreparedCase, scratch: Path) -> Path:
    """Where a case's copy lies."""
    return scratch / "medpipe" / "prepared" / case.folder.name


def _copy(source: Path, target: Path) -> dict[str, Any]:
    record = read_record(source)
    assert record is not None, f"{source} was whole a moment ago"
    for name in record["files"]:
        shutil.copyfile(source / name, target / name)
    assert not (target / RECORD).exists()
    return record
