"""A stage in several processes of one job: the first one leads the run, the others follow it from stage to stage."""

import logging
import sys
from typing import Any

from rich.console import Console

from medpipe.engine.output import RunOutput
from medpipe.engine.run_directory import RunDirectory
from medpipe.engine.signals import StopFlag
from medpipe.engine.workflow import LoadedWorkflow
from medpipe.stages.stage import Stage, StageRun, StopRequested
from medpipe.tasks.processes import ALONE, LOST, OtherProcessFailed, Processes, ProcessLost

FAILED = 1


def stage_run(
    name: str,
    workflow: LoadedWorkflow,
    directory: RunDirectory,
    output: RunOutput,
    stop: StopFlag,
    processes: Processes,
    context: dict[str, Any],
    part: tuple[int, int] | None = None,
) -> StageRun:
    """What a stage is given; the processes only where it uses them."""
    stage = workflow.values.stages[name]
    return StageRun(
        name=name,
        folder=directory.ledger(name).folder,
        seed=workflow.values.seed,
        data=workflow.values.data,
        inputs={ref.from_: directory.ledger(ref.from_).folder for ref in stage.references()},
        output=output,
        should_stop=stop.is_set,
        base=workflow.base,
        context=context,
        part=part,
        processes=processes if stage.uses_processes else ALONE,
    )


def run_together(stage: Stage, run: StageRun) -> None:
    """Run a stage here and, where it uses them, in the others: the first process calls them.

    All end alike: raises StopRequested where one of them was stopped, and the error of the one that failed.
    """
    processes = run.processes
    if processes.is_first and processes.size > 1:
        processes.of_first({"stage": run.name})
    is_stopped = False
    try:
        try:
            stage.run(run)
        except StopRequested:
            is_stopped = True
        is_stopped = processes.any(is_stopped)
    except BaseException as error:
        processes.fail(error)
        explained = processes.explained(error)
        if explained is error:
            raise
        raise explained from error
    if is_stopped:
        raise StopRequested(run.name)


def follow(
    workflow: LoadedWorkflow, directory: RunDirectory, processes: Processes, part: tuple[int, int] | None = None
) -> int:
    """What all processes but the first do: the stages that it calls them to, until it sends them home with a code."""
    output = RunOutput(Console(quiet=True))
    logging.getLogger("medpipe").addHandler(logging.NullHandler())  # warnings are told once, by the first process
    with StopFlag(workflow.values.job.deadline()) as stop:
        try:
            while "code" not in (order := processes.of_first({})):
                try:
                    name = order["stage"]
                    run_together(
                        workflow.values.stages[name],
                        stage_run(name, workflow, directory, output, stop, processes, {}, part),
                    )
                except StopRequested:
                    continue  # the first process ends the run
            return order["code"]
        except BaseException as error:
            return code_of(processes.explained(error), processes)


def code_of(error: BaseException, processes: Processes) -> int:
    """The exit code of a process that ends by an error, which is told unless another process tells it."""
    if isinstance(error, OtherProcessFailed):
        return FAILED
    print(f"{processes.world.name()}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    return LOST if isinstance(error, ProcessLost | KeyboardInterrupt) else FAILED
