"""One directory a run: who works in it, what it was asked for, what it took."""

import errno
import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medpipe.engine.ledger import StageLedger, read_json
from medpipe.engine.record import host, job_facts, now, peak_memory_mib, revision, versions
from medpipe.geometry.atomic import written_beside
from medpipe.stages.stage import write_json

log = logging.getLogger("medpipe.engine")


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
        """Hold the whole directory for this process; RunInUse where any other works in it."""
        with held(self.folder / ".lock"):
            yield

    @contextmanager
    def locked_for(self, stage: str | None, part: tuple[int, int] | None, finish: int | None) -> Iterator[None]:
        """Hold what this process works on: the whole directory, one stage, or one part of a stage.

        Jobs of different stages, and of different parts of one, work side by side. The one that brings parts together
        waits for another that does.
        """
        if stage is None:
            with self.locked():
                yield
            return
        of_stage = self.folder / f".lock-{stage}"
        shares = bool(part or finish)
        with held(self.folder / ".lock", shared=True), held(of_stage, shared=shares):
            if part:
                with held(self.folder / f".lock-{stage}-part-{part[0] + 1}-of-{part[1]}"):
                    yield
            elif finish:
                with held(self.folder / f".lock-{stage}-finish", wait=True):
                    yield
            else:
                yield

    @contextmanager
    def briefly_locked(self, stage: str) -> Iterator[None]:
        """For the moment in which a stage's folder is made ready: the others wait."""
        with held(self.folder / f".lock-{stage}-begin", wait=True):
            yield

    def write_workflow(self, text: str) -> None:
        """Keep the resolved workflow with the origin of each value."""
        with written_beside(self.folder / "workflow.yaml") as partial:
            partial.write_text(text, encoding="utf-8")

    def record(self) -> dict[str, Any]:
        """The record so far; empty for a new run."""
        record = read_json(self.folder / "record.json") or {}
        files = sorted((self.folder / "sessions").glob("*.json"))
        if not files:
            return record
        sessions = {session.get("id", index): session for index, session in enumerate(record.get("sessions", []))}
        for path in files:
            session = read_json(path) or {}
            sessions[session["id"]] = session
        return {**record, "sessions": sorted(sessions.values(), key=lambda session: session["started"])}

    def open_session(
        self, *, workflow: str, seed: int, command: list[str], processes: int = 1, nodes: int = 1
    ) -> dict[str, Any]:
        """Add a session (one start of `medpipe run`) to the record, as its last one, and write it.

        Each session is a file of its own, which no other process writes; `record.json` shows all of them.
        """
        record = self.record() or {"workflow": workflow, "sessions": []}
        record |= {"seed": seed, "name": self.folder.name}
        session = {
            "id": f"{socket.gethostname()}-{os.getpid()}-{time.time_ns()}",
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
            **job_facts(),
        }
        record["sessions"].append(session)
        self._write(record)
        return record

    def close_session(self, record: dict[str, Any], outcome: str) -> None:
        """Write how the session ended, and what it took."""
        record["sessions"][-1] |= {"ended": now(), "outcome": outcome, "peak_memory_mib": peak_memory_mib()}
        self._write(record)

    def _write(self, record: dict[str, Any]) -> None:
        """The session's own file, then the record with what other jobs have written since."""
        session = record["sessions"][-1]
        write_json(self.folder / "sessions" / f"{session['id']}.json", session)
        write_json(self.folder / "record.json", {**record, "sessions": self.record()["sessions"]})


@contextmanager
def held(path: Path, *, shared: bool = False, wait: bool = False) -> Iterator[None]:
    """Hold a lock file. The lock goes with the process, however it ends; RunInUse where another holds it.

    A record lock and not flock: forked loader workers would inherit that one, and outlive a killed run with it. A
    file system may know no locks (Lustre without `flock`): a scheduler starts a job once, so that is only told.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as lock:
        try:
            fcntl.lockf(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                log.warning(
                    "%s: this file system has no locks (%s); take care that nothing else works here", path, error
                )
            else:
                lock.seek(0)
                holder = lock.read().strip() or "unknown"
                raise RunInUse(
                    f"{path.parent}: another medpipe works here ({holder}); wait, stop it, or choose another --name"
                ) from error
        if not shared:
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {os.uname().nodename}")
            lock.flush()
        yield
