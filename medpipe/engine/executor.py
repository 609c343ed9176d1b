"""Run a workflow: the stages in the order of what they need, finished ones skipped, a stopped one gone on with."""

import logging
import shutil
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from medpipe.datasets.procedures import procedures_identity
from medpipe.engine.fingerprint import fingerprint
from medpipe.engine.following import run_together, stage_run
from medpipe.engine.identity import case_identities, question_identities
from medpipe.engine.ledger import StageLedger
from medpipe.engine.output import RunOutput, duration, logged_to
from medpipe.engine.record import job_facts, now, peak_memory_mib
from medpipe.engine.run_directory import RunDirectory
from medpipe.engine.signals import StopFlag
from medpipe.engine.workflow import LoadedWorkflow
from medpipe.geometry.atomic import written_beside
from medpipe.stages.report import REPORT_FILE
from medpipe.stages.stage import StopRequested
from medpipe.tasks.processes import ALONE, Processes, ProcessLost

log = logging.getLogger("medpipe.engine")


@dataclass(frozen=True)
class Selection:
    """Which stages to run: all, those that `until` needs, or `only` one whose inputs are there; `force` repeats.

    With `only`, `part` (index from 0, count) is one job's share of the stage, and `finish` brings that many parts
    together once all are there.
    """

    until: str | None = None
    only: str | None = None
    force: tuple[str, ...] = ()
    part: tuple[int, int] | None = None
    finish: int | None = None


@dataclass(frozen=True)
class Plan:
    """One stage as the run sees it before it starts."""

    name: str
    fingerprint: str
    state: str
    selected: bool


def plan_run(workflow: LoadedWorkflow, directory: RunDirectory, selection: Selection) -> list[Plan]:
    """Every stage with its fingerprint, its state in the directory, and whether it is to be run."""
    order = workflow.order()
    wanted = set(order) if selection.until is None else workflow.needed_by(selection.until) | {selection.until}
    if selection.only is not None:
        wanted = {selection.only}
    identities = case_identities(workflow)
    of_questions = question_identities(workflow)
    plans: dict[str, Plan] = {}
    for name in order:
        stage = workflow.values.stages[name]
        inputs = {ref.from_: plans[ref.from_].fingerprint for ref in stage.references()}
        print_of_stage = fingerprint(
            stage,
            seed=workflow.values.seed,
            case_identities=[
                *(identities[cases] for cases in stage.cases_read()),
                *(of_questions[questions] for questions in stage.questions_read()),
                *(procedures_identity(chosen, workflow.values.data) for chosen in stage.procedures_read()),
            ],
            inputs=inputs,
        )
        state = directory.ledger(name).state(print_of_stage)
        forced = name in selection.force or any(
            name_of_input in selection.force for name_of_input in workflow.needed_by(name)
        )
        plans[name] = Plan(name, print_of_stage, "forced" if forced and name in wanted else state, name in wanted)
    return list(plans.values())


def run_workflow(
    workflow: LoadedWorkflow,
    directory: RunDirectory,
    selection: Selection,
    output: RunOutput,
    stop: StopFlag,
    command: Sequence[str],
    processes: Processes = ALONE,
) -> bool:
    """Run what has to be run. True when all that was asked for is done; raises StopRequested when asked to stop.

    Of several processes the first one is here; the others are in `follow`, and take part in the stages that say so.
    """
    with directory.locked_for(selection.only, selection.part, selection.finish):
        plans = plan_run(workflow, directory, selection)
        check_inputs_are_there(plans, workflow, selection)
        todo = [plan for plan in plans if plan.selected and plan.state != "done"]
        if not todo:
            output.console.print(f"nothing to do: {len([p for p in plans if p.selected])} stages are finished")
            return True
        if selection.finish and not all_parts_are_there(directory, todo[0], selection.finish, output):
            return True
        record = directory.open_session(
            workflow=workflow.values.workflow,
            seed=workflow.values.seed,
            command=list(command),
            processes=processes.size,
            nodes=processes.world.num_nodes,
        )
        directory.write_workflow(workflow.text())
        outcome = "failed"
        for plan in todo:
            if plan.state == "forced":
                directory.ledger(plan.name).discard(plan.fingerprint)
        try:
            for plan in plans:
                if plan.selected:
                    run_stage(plan, workflow, directory, output, stop, record, processes, selection)
            outcome = "done"
        except StopRequested:
            outcome = f"stopped by {stop.reason()}"
            raise
        finally:
            directory.close_session(record, outcome)
    return True


def check_inputs_are_there(plans: Sequence[Plan], workflow: LoadedWorkflow, selection: Selection) -> None:
    """With --only: refuse where a stage that the chosen one takes from is not finished."""
    state = {plan.name: plan.state for plan in plans}
    if selection.only is None:
        return
    missing = [ref.from_ for ref in workflow.values.stages[selection.only].references() if state[ref.from_] != "done"]
    if missing:
        raise ValueError(
            f"--only {selection.only}: it takes from {', '.join(missing)}, not finished with these values; "
            f"run with --until {selection.only} instead"
        )


def run_stage(
    plan: Plan,
    workflow: LoadedWorkflow,
    directory: RunDirectory,
    output: RunOutput,
    stop: StopFlag,
    record: dict[str, Any],
    processes: Processes,
    selection: Selection,
) -> None:
    """Run one stage, one job's part of it, or what brings its parts together; or say that it is finished."""
    part = selection.part
    ledger, stage = directory.ledger(plan.name), workflow.values.stages[plan.name]
    if plan.state == "done":
        output.console.print(f"[bold]{plan.name}[/bold] is finished, skipped", highlight=False)
        return
    if part and ledger.part_is_done(plan.fingerprint, part):
        output.console.print(f"[bold]{plan.name}[/bold], {part_name(part)}, is finished, skipped", highlight=False)
        return
    if stop.is_set():
        raise StopRequested(plan.name)
    session = record["sessions"][-1]["id"]
    with directory.briefly_locked(plan.name):  # the jobs of an array begin the stage together
        facts = {"id": session, "started": now(), "outcome": "killed", **job_facts()}
        state = ledger.begin(plan.fingerprint, facts | ({"part": part_name(part)} if part else {}))
    how = {"begun": ", goes on where it stopped", "done": " is finished with these values from before, taken back"}
    share = f", {part_name(part)}" if part else ""
    output.console.print(f"[bold]{plan.name}[/bold] ({stage.stage}){share}{how.get(state, '')}", highlight=False)
    if state == "done":
        return
    context = report_context(workflow, directory, record)
    run = stage_run(plan.name, workflow, directory, output, stop, processes, context, part)
    began = time.monotonic()
    log_name = f"log-part-{part[0] + 1}-of-{part[1]}.jsonl" if part else "log.jsonl"
    with logged_to(ledger.folder / log_name, output.console), end_is_noted(directory, plan.name, session, stop):
        run_together(stage, run)
    if part:
        ledger.finish_part(plan.fingerprint, part, {"seconds": round(time.monotonic() - began, 1), "finished": now()})
        output.console.print(f"  {part_name(part)} done", highlight=False, style="dim")
        return
    seconds = time.monotonic() - began + (ledger.seconds_of_parts(selection.finish) if selection.finish else 0.0)
    finish(ledger, plan, stage.stage, seconds, record, output)


@contextmanager
def end_is_noted(directory: RunDirectory, name: str, session: str, stop: StopFlag) -> Iterator[None]:
    """Say in the ledger and the stage's log how this start of a stage ended; a killed one never comes to that."""
    outcome, ledger = "interrupted", directory.ledger(name)
    try:
        yield
        outcome = "done"
    except StopRequested as stopped:
        outcome = f"stopped by {stop.reason()}"
        log.info(outcome)
        raise StopRequested(name) from stopped
    except ProcessLost:
        outcome = "a process was lost"
        log.exception(outcome)
        raise
    except Exception:
        outcome = "failed"
        log.exception("the stage failed")
        (ledger.folder / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
        raise
    finally:
        with directory.briefly_locked(name):
            ledger.end_start(session, outcome)


def all_parts_are_there(directory: RunDirectory, plan: Plan, count: int, output: RunOutput) -> bool:
    """Whether every job of an array has finished its part of the stage; says which have not."""
    ledger = directory.ledger(plan.name)
    missing = [index + 1 for index in range(count) if not ledger.part_is_done(plan.fingerprint, (index, count))]
    if missing:
        numbers = ", ".join(map(str, missing))
        output.console.print(
            f"{plan.name}: part {numbers} of {count} not finished yet; the last one brings them together",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    return not missing


def part_name(part: tuple[int, int]) -> str:
    """As a person counts: part 1 of 3."""
    return f"part {part[0] + 1} of {part[1]}"


def report_context(workflow: LoadedWorkflow, directory: RunDirectory, record: dict[str, Any]) -> dict[str, Any]:
    """What a report tells of the run beside the files of its stages."""
    done = {name: directory.ledger(name).done() for name in workflow.order()}
    return {
        "title": workflow.values.title or workflow.values.workflow,
        "record": record,
        "workflow_text": workflow.text(),
        "directory": directory.folder,
        "stages": {
            name: {key: facts[key] for key in ("seconds", "peak_memory_mib", "finished")}
            | {"starts": len(facts["starts"])}
            for name, facts in done.items()
            if facts
        },
        "notes": ["The cases are generated phantoms: the scores say nothing about patients."]
        if workflow.values.data.source == "phantom"
        else [],
    }


def publish(ledger: StageLedger) -> None:
    """A report also lies where one looks for it: in the run's own folder."""
    report = ledger.folder / REPORT_FILE
    if report.is_file():
        with written_beside(ledger.run_folder / REPORT_FILE) as partial:
            shutil.copyfile(report, partial)


def finish(
    ledger: StageLedger, plan: Plan, kind: str, seconds: float, record: dict[str, Any], output: RunOutput
) -> None:
    """Write the stage's entry in the ledger and in the record."""
    (ledger.folder / "error.txt").unlink(missing_ok=True)
    facts = {"stage": kind, "seconds": round(seconds, 1), "finished": now(), "peak_memory_mib": peak_memory_mib()}
    ledger.finish(plan.fingerprint, facts)
    publish(ledger)
    record["sessions"][-1]["stages"][plan.name] = {"seconds": facts["seconds"]}
    output.console.print(f"  done in {duration(seconds)}", highlight=False, style="dim")
