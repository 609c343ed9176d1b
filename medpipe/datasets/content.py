"""A key for what a case holds: the content of its files and what its manifest reads in them, wherever they lie."""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from medpipe.datasets.cases import Case
from medpipe.geometry.atomic import written_beside

# A file changed within the clock's grain of its own hashing could keep its time: such hashes are not remembered.
SETTLED_SECONDS = 2.0


def content_key(case: Case, cache: Path | None = None) -> str:
    """sha256 over the content of the case's image and labels and over the manifest's reading of the labels.

    cache   where hashes are remembered by path, size and time of change; None hashes every time
    """
    manifest = case.manifest
    meaning = {
        # A list: the order gives label values and bits, and sorting the keys must not hide it.
        "structures": [[name, config.model_dump(mode="json")] for name, config in manifest.structures.items()],
        "label_values": case.label_values,
        "choose": manifest.choose.get(case.case_id, {}),
        "resample_labels": case.resample_labels,
        "series_uid": case.series_uid,
        **manifest.model_dump(
            mode="json",
            include={
                "overlapping",
                "ignore_label",
                "other_labels",
                "if_absent",
                "hounsfield",
                "contours_outside",
                "skipped_slices",
            },
        ),
    }
    parts = [hash_path(path, cache) for path in (case.image, case.labels) if path is not None]
    text = json.dumps([parts, meaning if case.labels is not None else None], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def hash_path(path: Path, cache: Path | None) -> str:
    """sha256 of a file's content, or of the content of all files below a folder and their names."""
    files = list(_files(path))
    stats = [(str(file.relative_to(path)) if file != path else "", file.stat()) for file in files]
    signature = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]
    memo = None if cache is None else cache / "content" / f"{_sha256([str(path.absolute()).encode()])}.json"
    if memo is not None and (known := _remembered(memo, signature)) is not None:
        return known
    digest = _sha256(
        json.dumps([name, _hash_file(file)]).encode() for (name, _), file in zip(stats, files, strict=True)
    )
    newest = max((stat.st_mtime for _, stat in stats), default=0.0)
    if memo is not None and time.time() - newest > SETTLED_SECONDS:
        with written_beside(memo) as partial:
            partial.write_text(json.dumps({"signature": signature, "sha256": digest}))
    return digest


def _files(path: Path) -> Iterable[Path]:
    if not path.is_dir():
        return [path]
    found = []
    for folder, folders, names in os.walk(path, followlinks=True):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        found += [Path(folder) / name for name in sorted(names) if name[0] != "."]
    return found


def _remembered(memo: Path, signature: Sequence[Sequence[object]]) -> str | None:
    try:
        stored = json.loads(memo.read_text())
        return stored["sha256"] if stored["signature"] == signature else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # nothing remembered, or a memo that cannot be read: hash again


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
