"""`medpipe run`: from the command line's words to a run in its directory, and to the exit code."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from medpipe.config.errors import ConfigError, Problem
from medpipe.config.suggestions import suggestion
from medpipe.engine.checking import check_data, check_manifests
from medpipe.engine.executor import Plan, Selection, plan_run, run_workflow
from medpipe.engine.output import RunOutput
from medpipe.engine.run_directory import RunDirectory, RunInUse
from medpipe.engine.signals import StopFlag
from medpipe.engine.workflow import LoadedWorkflow, load_workflow
from medpipe.geometry.faults import DataFault, DataFaults
from medpipe.stages.report import REPORT_FILE
from medpipe.stages.stage import StopRequested

RESEARCH_USE = "for research use only, not a medical device"


def run_command(
    reference: str,
    overlays: Sequence[str],
    overrides: Sequence[str],
    *,
    runs: Path,
    name: str | None,
    until: str | None,
    only: str | None,
    force: tuple[str, ...],
    dry_run: bool,
    command: Sequence[str],
    part: str | None = None,
    finish: int | None = None,
    base: Path | None = None,
) -> int:
    """Run a workflow; the exit code of DESIGN section 7."""
    workflow = load_workflow(reference, overlays, overrides, base=base)
    check_manifests(workflow)
    selection = Selection(until, only, force, read_part(part), finish)
    check_selection(workflow, selection)
    name = name or "-".join(path.stem for path in workflow.overlays) or "default"
    directory = RunDirectory(runs / workflow.values.workflow / name)
    console = Console(soft_wrap=not sys.stdout.isatty())
    console.print(f"medpipe [bold]{workflow.values.workflow}[/bold] in {directory.folder}", highlight=False)
    console.print(RESEARCH_USE, style="dim")
    data = workflow.values.data
    if data.source == "phantom":
        console.print(f"data: generated phantoms, kept in {data.cache}", highlight=False)
    plans = plan_run(workflow, directory, selection)
    if dry_run:
        print_plan(plans, workflow, console)
        return 0
    todo = [plan.name for plan in plans if plan.selected and plan.state != "done"]
    faults = check_data(workflow, todo, jobs=None, console=console) if todo else []
    if faults:
        raise DataFaults(faults)
    return execute(workflow, directory, selection, console, command)


def execute(
    workflow: LoadedWorkflow, directory: RunDirectory, selection: Selection, console: Console, command: Sequence[str]
) -> int:
    """Run the stages and tell how it ended."""
    with StopFlag() as stop:
        try:
            run_workflow(workflow, directory, selection, RunOutput(console), stop, command)
        except StopRequested as stopped:
            reason = stop.received.name if stop.received else "request"
            console.print(f"stopped in {stopped} by {reason}; the same command goes on from there", style="yellow")
            return 75
        except (DataFault, DataFaults):
            raise
        except RunInUse as error:
            print(error, file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("ended at once; the same command goes on from the last save", file=sys.stderr)
            return 75
        except Exception as error:
            print(f"failed: {type(error).__name__}: {error}", file=sys.stderr)
            print(
                f"the whole traceback is in error.txt and log.jsonl of the stage, below {directory.folder}",
                file=sys.stderr,
            )
            return 1
    report = directory.folder / REPORT_FILE
    if report.is_file():
        console.print(f"report: {report}", highlight=False, soft_wrap=True)
    return 0


def check_selection(workflow: LoadedWorkflow, selection: Selection) -> None:
    """Refuse a stage name on the command line that the workflow does not have."""
    known = list(workflow.values.stages)
    named = [
        ("--until", selection.until),
        ("--only", selection.only),
        *(("--force", stage) for stage in selection.force),
    ]
    problems = [
        Problem(f"command line: {option} {stage}", None, None, f"no such stage{suggestion(stage, known, 'stages')}")
        for option, stage in named
        if stage is not None and stage not in known
    ]
    if selection.until and selection.only:
        problems.append(Problem("command line", None, None, "--until and --only exclude each other"))
    if (selection.part or selection.finish) and not selection.only:
        problems.append(Problem("command line", None, None, "--part and --finish need --only STAGE"))
    elif selection.only in known and (selection.part or selection.finish):
        count = selection.part[1] if selection.part else selection.finish
        allowed = workflow.values.stages[str(selection.only)].parts(workflow.base)
        if allowed is not None and count != allowed:
            text = f"stage {selection.only} is made of {allowed} parts, got {count}"
            problems.append(Problem("command line", None, None, text))
    if problems:
        raise ConfigError(problems)


def read_part(text: str | None) -> tuple[int, int] | None:
    """`2/3` as (1, 3)."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigError([Problem(f"command line: --part {text}", None, None, "write NUMBER/COUNT, such as 2/3")])
    return int(match[1]) - 1, int(match[2])


def print_plan(plans: Sequence[Plan], workflow: LoadedWorkflow, console: Console) -> None:
    """What a run would do, a line a stage."""
    words = {
        "done": "finished, would be skipped",
        "begun": "begun, would go on",
        "new": "would run",
        "changed": "its values or inputs changed, would run again",
        "damaged": "an output is missing, would run again",
        "forced": "would be repeated",
    }
    for plan in plans:
        kind = workflow.values.stages[plan.name].stage
        console.print(
            f"  {plan.name} ({kind}): {words[plan.state] if plan.selected else 'not asked for'}", highlight=False
        )
