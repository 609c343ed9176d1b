"""One directory a run: who works in it, what it was asked for, what it took."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medpipe.engine.ledger import StageLedger, read_json
from medpipe.engine.record import host, now, peak_memory_mib, revision, versions
from medpipe.geometry.atomic import written_beside
from medpipe.stages.stage import write_json


class RunInUse(ValueError):
    """Another process works in the run's directory."""


class RunDirectory:
    """`<runs>/<workflow>/<name>/`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def ledger(self, stage: str) -> StageLedger:
        return StageLedger(self.folder, stage)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory for this process. The lock goes with the process, however it ends.

        A record lock and not flock: forked loader workers would inherit that one, and outlive a killed run with it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("a+") as lock:
            try:
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                lock.seek(0)
                holder = lock.read().strip() or "unknown"
                raise RunInUse(
                    f"{self.folder}: another medpipe works here ({holder}); wait, stop it, or choose another --name"
                ) from error
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {os.uname().nodename}")
            lock.flush()
            yield

    def write_workflow(self, text: str) -> None:
        """Keep the resolved workflow with the origin of each value."""
        with written_beside(self.folder / "workflow.yaml") as partial:
            partial.write_text(text, encoding="utf-8")

    def record(self) -> dict[str, Any]:
        """The record so far; empty for a new run."""
        return read_json(self.folder / "record.json") or {}

    def open_session(
        self, *, workflow: str, seed: int, command: list[str], processes: int = 1, nodes: int = 1
    ) -> dict[str, Any]:
        """Add a session (one start of `medpipe run`) to the record, and write it."""
        record = self.record() or {"workflow": workflow, "sessions": []}
        record |= {"seed": seed, "name": self.folder.name}
        session = {
            "started": now(),
            "command": command,
            "revision": revision(),
            "versions": versions(),
            "host": host(),
            "processes": processes,
            "nodes": nodes,
            "ended": None,
            "outcome": "killed",  # stands until the session says otherwise
            "stages": {},
        }
        record["sessions"].append(session)
        write_json(self.folder / "record.json", record)
        return record

    def close_session(self, record: dict[str, Any], outcome: str) -> None:
        """Write how the session ended, and what it took."""
        record["sessions"][-1] |= {"ended": now(), "outcome": outcome, "peak_memory_mib": peak_memory_mib()}
        write_json(self.folder / "record.json", record)
