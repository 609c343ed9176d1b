"""Does a file that one node renames into place show on the others, whole, and how soon? Everything rests on that."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from medpipe.engine.doctor.finding import Finding

LONGEST_WAIT_S = 60.0
WAIT_FOR_FOLDER_S = 10.0  # a folder of its own on every node shows by then
SLOW_S = 5.0  # attribute caches of NFS hold 3 to 60 s by default
SIZE = 2**16


def rename_findings(folder: Path, rank: int, of_first: Callable[[Any], Any]) -> Iterator[Finding]:
    """Write, sync and rename a file here; look for it from every other process. All processes call this together.

    of_first   gives every process the value of the first one, once all have called it
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "rename-test"
    content = os.urandom(SIZE) if rank == 0 else b""
    if rank == 0:
        began = time.monotonic()
        write_and_rename(path, b"old" * (SIZE // 3))
        spent = time.monotonic() - began
        yield Finding(
            "shared folder: rename",
            "ok" if spent < SLOW_S else "warning",
            f"{1000 * spent:.1f} ms to write, sync and rename",
            "" if spent < SLOW_S else "ask for a faster file system for runs",
        )
    of_first(None)
    if rank != 0:
        path.read_bytes() if path.exists() else None  # the old file enters this node's cache
    of_first(None)
    if rank == 0:
        write_and_rename(path, content)
    content = of_first(content)
    if rank != 0:
        yield seen(path, content)
    of_first(None)
    if rank == 0:
        path.unlink(missing_ok=True)


def write_and_rename(path: Path, content: bytes) -> None:
    """As medpipe writes everything: beside its name, through to the disk, renamed."""
    partial = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def seen(path: Path, content: bytes) -> Finding:
    """How long until the new file is what this node reads."""
    name = "shared folder: visible"
    began = time.monotonic()
    while time.monotonic() - began < (LONGEST_WAIT_S if path.exists() else WAIT_FOR_FOLDER_S):
        there = path.read_bytes() if path.exists() else b""
        if there == content:
            spent = time.monotonic() - began
            text = f"a renamed file of another node is read {1000 * spent:.1f} ms after it was told of"
            remedy = "mount with a shorter attribute cache (NFS: actimeo=3)" if spent > SLOW_S else ""
            return Finding(name, "warning" if remedy else "ok", text, remedy)
        time.sleep(0.02)
    if not path.exists():
        text = f"{path.parent}: a file that another node wrote is not there; this is not the same folder on all nodes"
        return Finding(name, "fault", text, "put runs and cache on the file system that all nodes share (--runs)")
    text = f"{path.parent}: still the old content after {LONGEST_WAIT_S:.0f} s"
    return Finding(name, "fault", text, "mount with a shorter attribute cache (NFS: actimeo=3)")
