"""`medpipe status`: a table of a run's stages, the last lines of what is under way, and what to do."""

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from medpipe.engine.cluster.jobs import CHECK
from medpipe.engine.cluster.looking import StageView, last_lines, look
from medpipe.engine.output import duration

ADVICE = {
    "TIMEOUT": "it ended at its time limit without saving in time: lengthen cluster.requeue.grace_seconds or `hours`, "
    "then submit again",
    "OUT_OF_MEMORY": "it was killed for memory: raise memory_gib of the stage (or lower training.num_workers), then "
    "submit again",
    "NODE_FAIL": "its node died; Slurm starts it again by itself, from the last save",
    "CANCELLED": "it was cancelled; submit again to go on from the last save",
    "FAILED": "look at its log above, mend the cause, then submit again: finished stages are not repeated",
    "DEADLINE": "the cluster's deadline passed; submit again",
    "BOOT_FAIL": "its node did not start; submit again",
    "PREEMPTED": "a job of higher priority took its place; submit again if it does not come back by itself",
}
REASONS = {
    "DependencyNeverSatisfied": "what it waits for failed: mend that, then medpipe cancel and submit again",
    "Dependency": "",
    "Resources": "waits for free nodes",
    "Priority": "waits for its turn",
    "PartitionTimeLimit": "asks for more hours than its partition allows: lower `hours`, then cancel and submit again",
    "PartitionNodeLimit": "asks for more nodes than its partition has: cancel, change `nodes`, submit again",
    "BeginTime": "waits a moment after a requeue",
    "AssocGrpGRES": "the account's share of GPUs is in use",
    "QOSMaxJobsPerUserLimit": "the user's number of jobs is reached",
    "JobHeldUser": "held: scontrol release it",
    "JobHeldAdmin": "held by an administrator",
}


def status_command(run_folder: Path, *, lines: int, as_json: bool) -> int:
    """Print the state of a run; exit code 0 whatever the state is."""
    views, notes = look(run_folder)
    if as_json:
        entries = [
            asdict(view)
            | {"state": view.state, "advice": advice(view, run_folder), "logs": [str(p) for p in view.logs]}
            for view in views
        ]
        print(json.dumps({"run": str(run_folder), "notes": notes, "stages": entries}, indent=2, default=str))
        return 0
    console = Console(soft_wrap=True)
    console.print(f"[bold]{run_folder}[/bold]", highlight=False)
    console.print(table(views))
    for view in views:
        print_details(view, run_folder, lines, console)
    for note in notes:
        console.print(note, style="dim", highlight=False)
    if views and all(view.ledger in ("done", "") for view in views):
        console.print("all stages are finished", highlight=False)
    return 0


def table(views: list[StageView]) -> Table:
    """One row a stage."""
    shown = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("stage", "job", "state", "restarts", "progress"):
        shown.add_column(heading, overflow="fold")
    for view in views:
        if view.ledger == "done" and view.seconds is not None:
            progress = f"took {duration(view.seconds)}"
        else:
            parts = f"{view.parts[0]} of {view.parts[1]} parts; " if view.parts else ""
            progress = parts + view.progress
        reason = f" ({view.reason})" if view.reason and view.state != "done" else ""
        shown.add_row(view.name, view.job, view.state + reason, str(view.restarts or ""), progress)
    return shown


def print_details(view: StageView, run_folder: Path, lines: int, console: Console) -> None:
    """Interruptions, the last lines and the advice for a stage that is not simply done or waiting."""
    told = view.interruptions if view.ledger != "done" else []
    for event in told[-3:]:
        console.print(f"  {view.name} {event['time']}: {event['text']}", style="dim", highlight=False, markup=False)
    under_way = view.ledger != "done" and view.logs and view.last_event != "done"
    if under_way:
        for line in last_lines(view.logs[-1], lines):
            console.print(f"  | {line.rstrip()}", style="dim", highlight=False, markup=False)
        console.print(f"  {view.logs[-1]}", style="dim", highlight=False, markup=False)
    text = advice(view, run_folder)
    if text:
        console.print(f"  {view.name}: {text}", highlight=False, markup=False)


def advice(view: StageView, run_folder: Path) -> str:
    """What a person can do about the stage's state; empty where nothing is to be done."""
    if view.ledger == "done" or (view.name == CHECK and view.last_event == "done"):
        return ""
    if view.last_event == "gave_up":
        return f"{view.event_text}; look at the log, then submit again: it goes on from the last save"
    for state, text in ADVICE.items():
        if state in view.states:
            never_started = state == "CANCELLED" and not view.last_event and view.waits_for
            return f"ended because {', '.join(view.waits_for)} did not end well" if never_started else text
    if view.reason in REASONS:
        return REASONS[view.reason]
    if not view.was_asked:
        return ""
    if view.job and not view.states and view.last_event == "start":
        return "it started, told no end, and the scheduler does not know it: its node may have died; submit again"
    if view.job and not view.states and view.last_event in ("failed", "cancelled"):
        return f"{view.event_text}; then submit again"
    return ""
