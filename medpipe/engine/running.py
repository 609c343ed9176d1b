"""`medpipe run`: from the command line's words to a run in its directory, and to the exit code."""

import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from medpipe.config.errors import ConfigError, Problem
from medpipe.config.suggestions import suggestion
from medpipe.engine.checking import check_batches, check_data, check_manifests
from medpipe.engine.executor import Plan, Selection, plan_run, run_workflow
from medpipe.engine.following import follow
from medpipe.engine.output import RunOutput
from medpipe.engine.run_directory import RunDirectory, RunInUse
from medpipe.engine.signals import StopFlag
from medpipe.engine.workflow import LoadedWorkflow, load_workflow
from medpipe.geometry.faults import DataFault, DataFaults
from medpipe.stages.report import REPORT_FILE
from medpipe.stages.stage import StopRequested
from medpipe.tasks.processes import ALONE, Processes, ProcessLost, connect
from medpipe.tasks.world import world_of_environment

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
    """Run a workflow; the exit code of DESIGN section 7.

    Started by torchrun or srun, every process comes here: the first one leads, the others follow.
    """
    world = world_of_environment()
    selection = Selection(until, only, force, read_part(part), finish)
    try:
        workflow = load_workflow(reference, overlays, overrides, base=base)
        check_manifests(workflow)
        check_selection(workflow, selection)
        check_batches(workflow, dict.fromkeys(stages_of(workflow, selection), world.size))
    except ConfigError:
        if not world.is_first:
            time.sleep(2)  # the first process says why; a launcher ends all of them with the first that ends
            return 2
        raise
    name = name or "-".join(path.stem for path in workflow.overlays) or "default"
    directory = RunDirectory(runs / workflow.values.workflow / name)
    processes = connect(world)
    if not processes.is_first:
        try:
            return follow(workflow, directory, processes, selection.part)
        finally:
            processes.close()
    code = 1
    try:
        code = lead(workflow, directory, selection, processes, command, dry_run=dry_run)
    except (DataFault, DataFaults):
        code = 3
        raise
    finally:
        processes.dismiss(code)
    return code


def lead(
    workflow: LoadedWorkflow,
    directory: RunDirectory,
    selection: Selection,
    processes: Processes,
    command: Sequence[str],
    *,
    dry_run: bool,
) -> int:
    """What the first process does: look at the data, then run the stages."""
    console = Console(soft_wrap=not sys.stdout.isatty())
    console.print(f"medpipe [bold]{workflow.values.workflow}[/bold] in {directory.folder}", highlight=False)
    console.print(RESEARCH_USE, style="dim")
    if processes.size > 1:
        world = processes.world
        nodes = "one node" if world.num_nodes == 1 else f"{world.num_nodes} nodes"
        console.print(f"{world.size} processes on {nodes}, started by {world.launcher}", highlight=False)
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
    return execute(workflow, directory, selection, console, command, processes)


def execute(
    workflow: LoadedWorkflow,
    directory: RunDirectory,
    selection: Selection,
    console: Console,
    command: Sequence[str],
    processes: Processes = ALONE,
) -> int:
    """Run the stages and tell how it ended."""
    with StopFlag(workflow.values.job.deadline()) as stop:
        try:
            run_workflow(workflow, directory, selection, RunOutput(console), stop, command, processes)
        except StopRequested as stopped:
            console.print(
                f"stopped in {stopped} by {stop.reason()}; the same command goes on from there", style="yellow"
            )
            return 75
        except (DataFault, DataFaults):
            raise
        except RunInUse as error:
            print(error, file=sys.stderr)
            return 2
        except (KeyboardInterrupt, ProcessLost) as error:
            print(str(error) or "ended at once; the same command goes on from the last save", file=sys.stderr)
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


def stages_of(workflow: LoadedWorkflow, selection: Selection) -> list[str]:
    """The stages that a selection is about."""
    if selection.only is not None:
        return [selection.only]
    if selection.until is not None:
        return [*workflow.needed_by(selection.until), selection.until]
    return list(workflow.values.stages)


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
