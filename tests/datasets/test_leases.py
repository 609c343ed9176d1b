"""Leases between real processes, one of which is killed."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

from medpipe.datasets.cache import try_cached_folder
from medpipe.datasets.leases import leased

FORK = multiprocessing.get_context("fork")


def test_a_lease_is_held_by_one_and_given_back(tmp_path: Path) -> None:
    path = tmp_path / ".lease"
    with leased(path) as ours:
        assert ours
        with leased(path) as again:
            assert not again
    with leased(path) as later:
        assert later
    assert list(tmp_path.iterdir()) == []


def test_a_lease_that_is_touched_outlives_its_time(tmp_path: Path) -> None:
    path = tmp_path / ".lease"
    with leased(path, 0.6) as ours:
        time.sleep(1.5)
        with leased(path, 0.6) as other:
            assert ours
            assert not other


def work(folder: Path, number: int, built: Any, die_at: int | None) -> None:
    """Go through all entries until they are there; note who built which."""
    left = list(range(12))
    while left:
        for entry in list(left):

            def build(temporary: Path, entry: int = entry) -> dict[str, Any]:
                if entry == die_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                built.put((number, entry))
                (temporary / "image.npy").write_bytes(bytes(1000 * (entry + 1)))
                time.sleep(0.05)
                return {"entry": entry}

            if try_cached_folder(folder / str(entry), build, lease_seconds=1.0) is not None:
                left.remove(entry)
        time.sleep(0.05)


def test_workers_share_the_entries_out_and_take_over_from_one_that_is_killed(tmp_path: Path) -> None:
    built = FORK.SimpleQueue()
    workers = [FORK.Process(target=work, args=(tmp_path, n, built, 5 if n == 0 else None)) for n in range(4)]
    workers[0].start()
    workers[0].join(20)  # it builds 0 to 4 and dies in the middle of 5, its lease left behind
    for worker in workers[1:]:
        worker.start()
    for worker in workers[1:]:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [-signal.SIGKILL, 0, 0, 0]
    entries: list[int] = []
    while not built.empty():
        entries.append(built.get()[1])
    assert sorted(entries) == list(range(12)), "every entry is built, and by one worker"
    for entry in range(12):
        record = json.loads((tmp_path / str(entry) / "record.json").read_text())
        assert (tmp_path / str(entry) / "image.npy").stat().st_size == 1000 * (entry + 1)
        assert record["entry"] == entry
    assert not list(tmp_path.glob(".*.lease"))
