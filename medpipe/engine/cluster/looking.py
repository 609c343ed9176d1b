"""What can be known of a run from outside: ledgers, the scheduler's states, events and logs of its jobs."""

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from typing import Any

from medpipe.config.tree import MappingNode
from medpipe.engine.cluster import slurm
from medpipe.engine.cluster.job_list import JobList, SubmittedJob
from medpipe.engine.cluster.jobs import CHECK, FOLDER
from medpipe.engine.ledger import StageLedger, read_json

TAIL_BYTES = 16_384  # of a log: enough for its last lines, little for a night's
PROGRESS = re.compile(r"^\s*([^:]+): (\d+)/(\d+)(?:, (.+?) left)?")


@dataclass
class StageView:
    """One stage (or the job that reads the data) as `medpipe status` shows it."""

    name: str
    ledger: str  # done, begun, not begun; empty for the check of data
    parts: tuple[int, int] | None = None  # finished, of
    job: str = ""
    states: dict[str, int] = field(default_factory=dict)  # state of the scheduler -> how many tasks
    reason: str = ""
    waits_for: tuple[str, ...] = ()
    restarts: int = 0
    last_event: str = ""
    event_text: str = ""
    interruptions: list[dict[str, Any]] = field(default_factory=list)
    progress: str = ""
    logs: list[Path] = field(default_factory=list)
    seconds: float | None = None
    was_asked: bool = True  # whether the scheduler gave an answer

    @property
    def state(self) -> str:
        """One word or two: what the scheduler says, the ledger where it says nothing."""
        if self.ledger == "done":
            return "done"
        if not self.states:
            unknown = "unknown to the scheduler" if self.was_asked else "submitted"
            return self.ledger if not self.job else (self.last_event or unknown)
        return ", ".join(
            f"{state.lower()}{f' x{count}' if count > 1 else ''}" for state, count in sorted(self.states.items())
        )


def look(run_folder: Path) -> tuple[list[StageView], list[str]]:
    """The stages of a run in their order, and notes on what could not be learnt."""
    listed = JobList.read(run_folder).latest()
    notes: list[str] = []
    known: dict[str, slurm.JobState] = {}
    if listed:
        try:
            known = slurm.states(job.job for job in listed.values())
        except slurm.SlurmFault as fault:
            notes.append(f"the scheduler was not asked ({fault}): states are from the jobs' own notes")
    views = [view_of(run_folder, name, listed.get(name), known) for name in names_in(run_folder, listed)]
    for view in views:
        view.was_asked = not notes
    return views, notes


def names_in(run_folder: Path, listed: dict[str, SubmittedJob]) -> list[str]:
    """The check of data, then the stages in the order of the workflow."""
    from medpipe.config.reader import read_tree

    found = [CHECK] if CHECK in listed else []
    for path in (run_folder / FOLDER / "workflow.yaml", run_folder / "workflow.yaml"):
        if path.is_file():
            stages = read_tree(path).get("stages")
            return found + (list(stages.entries) if isinstance(stages, MappingNode) else [])
    return found + [path.parent.name for path in sorted(run_folder.glob("*/begun.json"))]


def view_of(run_folder: Path, name: str, job: SubmittedJob | None, known: dict[str, slurm.JobState]) -> StageView:
    """All that is known of one stage."""
    ledger = StageLedger(run_folder, name)
    view = StageView(name, "" if name == CHECK else state_of(ledger))
    view.seconds = ledger.done().get("seconds")
    if job is None:
        return view
    tasks = [state for state in known.values() if state.job.split("_")[0] == job.job]
    view.job, view.waits_for = job.job, job.needs
    view.states = dict(Counter(task.state for task in tasks))
    view.reason = next((task.reason for task in tasks if task.reason), "")
    if job.parts > 1:
        view.parts = (job.parts if view.ledger == "done" else ledger.parts_done(), job.parts)
    folder = run_folder / FOLDER
    view.logs = sorted(
        (folder / "logs").glob(f"{escape(job.key)}-{job.job}*.log"), key=lambda path: path.stat().st_mtime
    )
    events = [event for path in sorted((folder / "events").glob(f"{job.job}*.jsonl")) for event in read_events(path)]
    events.sort(key=lambda event: event["time"])
    view.restarts = max((event["restart"] for event in events), default=0)
    view.interruptions = [
        event for event in events if event["event"] in ("requeue", "ended", "death", "gave_up", "failed")
    ]
    if events:
        view.last_event, view.event_text = events[-1]["event"], events[-1]["text"]
    if view.logs:
        view.progress = progress_in(last_lines(view.logs[-1], 40))
    return view


def state_of(ledger: StageLedger) -> str:
    """What the folder says; whether the values are still those is for `medpipe submit` to say."""
    if (ledger.folder / "done.json").is_file():
        return "done"
    return "begun" if read_json(ledger.folder / "begun.json") else "not begun"


def read_events(path: Path) -> list[dict[str, Any]]:
    """The lines that a job's wrapper wrote; a line cut off by a dying node is left out."""
    events = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return events


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a file that may be large."""
    if count == 0:
        return []
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        text = file.read().decode("utf-8", errors="replace")
    return [line for line in text.splitlines() if line.strip()][-count:]


def progress_in(lines: list[str]) -> str:
    """The last line of progress among these: `training 120/280, 3 min left`."""
    for line in reversed(lines):
        match = PROGRESS.match(line)
        if match:
            left = f", {match[4]} left" if match[4] else ""
            return f"{match[1].strip()} {match[2]}/{match[3]}{left}"
    return ""
