"""A worker's word that it makes a file: others do something else meanwhile. It saves work, nothing depends on it.

A lease is a file that its holder touches every few seconds. One that was not touched for LEASE_SECONDS is nobody's: its
holder was killed, or its host is gone, and the next one takes over. Where two hold a lease at once after all, both make
the same file, and the first to rename it into place wins (cache.py). Times are compared by the file system's own clock,
since the clocks of hosts differ.
"""

import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LEASE_SECONDS = 60.0
TOUCHES = 6  # within that time: a slow file system may miss some


@contextmanager
def leased(path: Path, seconds: float = LEASE_SECONDS) -> Iterator[bool]:
    """Whether the lease `path` was to be had; if so, it is held within the context. Never waits."""
    word = f"{os.getpid()} on {socket.gethostname()} {uuid.uuid4().hex[:12]}"
    if not _take(path, word, seconds):
        yield False
        return
    done = threading.Event()
    keeper = threading.Thread(target=_keep, args=(path, seconds / TOUCHES, done), daemon=True)
    keeper.start()
    try:
        yield True
    finally:
        done.set()
        keeper.join()
        _give_back(path, word)


def _take(path: Path, word: str, seconds: float) -> bool:
    for _ in range(2):
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            if not _is_abandoned(path, seconds):
                return False
            # Of several that find it abandoned, one renames it; the others try the new one.
            moved = path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}.abandoned")
            try:
                os.rename(path, moved)
                moved.unlink(missing_ok=True)
            except FileNotFoundError:
                pass
            continue
        with os.fdopen(descriptor, "w") as file:
            file.write(word)
        return True
    return False


def _is_abandoned(path: Path, seconds: float) -> bool:
    """Whether the lease was last touched long ago, by the clock of the file system that it lies on."""
    probe = path.with_name(f".{uuid.uuid4().hex[:12]}.now")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime > seconds
    except FileNotFoundError:
        return True  # given back meanwhile
    finally:
        probe.unlink(missing_ok=True)


def _keep(path: Path, every: float, done: threading.Event) -> None:
    while not done.wait(every):
        try:
            os.utime(path)
        except OSError:
            continue  # a file system that is away for a moment; if the lease is lost, no harm is done


def _give_back(path: Path, word: str) -> None:
    try:
        if path.read_text() == word:
            path.unlink()
    except OSError:
        return
