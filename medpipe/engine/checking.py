"""What is refused at the door: a workflow that does not fit its manifests, and data that no stage should see."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from medpipe.config.errors import Problem, raise_if_any
from medpipe.config.suggestions import suggestion
from medpipe.config.tree import Node, node_at
from medpipe.datasets.cases import CasesConfig, DataConfig, list_cases
from medpipe.datasets.manifest import load_manifest
from medpipe.datasets.procedures import check_procedures
from medpipe.engine.identity import identity_of
from medpipe.engine.question_data import check_question_set
from medpipe.engine.workflow import LoadedWorkflow, load_workflow
from medpipe.geometry.faults import DataFault, DataFaults
from medpipe.stages.stage import cores, find_all, write_json
from medpipe.tasks.options import TrainingConfig
from medpipe.tasks.world import batch_problem, world_of_environment


def check_command(
    reference: str, overlays: Sequence[str], overrides: Sequence[str], *, data: bool, jobs: int | None,
    base: Path | None = None, again: bool = True,
) -> int:  # fmt: skip
    """`medpipe check`: validate the workflow, then read every file of its cases whole. Returns the exit code."""
    workflow = load_workflow(reference, overlays, overrides, base=base)
    check_manifests(workflow)
    stages = workflow.values.stages
    check_batches(workflow, dict.fromkeys(stages, world_of_environment().size))
    print(f"{workflow.path}: {len(stages)} stages, valid")
    if not data:
        return 0
    console = Console(soft_wrap=True)
    faults = check_data(workflow, stages, jobs=jobs, console=console, show_cases=again)
    if faults:
        print(f"{len(faults)} faults:", file=sys.stderr)
        for fault in faults:
            print(f"  {fault}", file=sys.stderr)
        return 3
    console.print("the data are as the workflow needs them")
    return 0


def check_manifests(workflow: LoadedWorkflow) -> None:
    """Refuse structures that a stage's manifest does not name, with the place in the workflow."""
    problems: list[Problem] = []
    for name, stage in workflow.values.stages.items():
        for cases in stage.cases_read():
            known = load_manifest(cases.manifest, workflow.base).structures
            for index, structure in enumerate(stage.structures_needed()):
                if structure not in known:
                    node = origin_of(workflow.tree, name, index)
                    hint = suggestion(structure, known, f"structures of {cases.manifest}")
                    problems.append(
                        Problem.at(node.origin, f"'{structure}' is not in the manifest {cases.manifest}{hint}")
                    )
    raise_if_any(problems)


def check_batches(workflow: LoadedWorkflow, processes: Mapping[str, int]) -> None:
    """Refuse a global batch that the processes of its stage cannot share, with the place in the workflow.

    processes: stage -> how many run it together (nodes x processes a node); stages that it does not name are not looked
    at, nor those that train nothing. Raises ConfigError.
    """
    problems: list[Problem] = []
    for name, count in processes.items():
        for training in find_all(workflow.values.stages[name], TrainingConfig):
            problem = batch_problem(training.batch_size, count)
            if problem is not None:
                places = (("stages", name, "training", "batch_size"), ("stages", name))
                node = next(found for place in places if (found := node_at(workflow.tree, place)) is not None)
                problems.append(Problem.at(node.origin, f"stage '{name}': {problem}"))
    raise_if_any(problems)


def origin_of(tree: Node, stage: str, index: int) -> Node:
    """The node of a stage's structure, or the nearest above it."""
    for path in (("stages", stage, "structures", index), ("stages", stage, "structures"), ("stages", stage)):
        node = node_at(tree, path)
        if node is not None:
            return node
    return tree


def check_data(
    workflow: LoadedWorkflow,
    stages: Iterable[str],
    *,
    jobs: int | None,
    console: Console,
    show_cases: bool = False,
) -> list[DataFault]:
    """Every fault in the cases of these stages. A data set that was read whole and found good is not read again."""
    values, faults = workflow.values, []
    selections = dict.fromkeys(cases for name in stages for cases in values.stages[name].cases_read())
    for manifest, resample in dict.fromkeys((cases.manifest, cases.resample_labels) for cases in selections):
        whole = CasesConfig(manifest=manifest, resample_labels=resample)
        faults += check_data_set(whole, values.data, workflow.base, jobs=jobs, console=console, show_cases=show_cases)
    for chosen in dict.fromkeys(chosen for name in stages for chosen in values.stages[name].procedures_read()):
        lines, found = check_procedures(chosen, values.data)
        faults += found
        if show_cases:
            for line in lines:
                console.print(f"  {line}", highlight=False, markup=False)
    for cases in selections:
        try:
            list_cases(cases, values.data, workflow.base)
        except (DataFault, DataFaults) as error:
            faults += [error] if isinstance(error, DataFault) else list(error.faults)
    for questions in dict.fromkeys(found for name in stages for found in values.stages[name].questions_read()):
        faults += check_question_set(questions, values.data, workflow.base, jobs=jobs, console=console, show=show_cases)
    return list({str(fault): fault for fault in faults}.values())


def check_data_set(
    cases: CasesConfig, data: DataConfig, base: Path, *, jobs: int | None, console: Console, show_cases: bool
) -> list[DataFault]:
    """Read every case of one data set whole; print a line a case where asked to."""
    from medpipe.datasets.checks import check_cases

    try:
        listed = list_cases(cases, data, base)
        seen = data.cache / "checked" / f"{identity_of(listed, data)}.json"
        if seen.is_file() and not show_cases:
            return []
        console.print(f"{cases.manifest}: reading {len(listed)} cases whole", highlight=False)
        report = check_cases(listed, jobs=cores(jobs))
    except DataFault as fault:
        return [fault]
    except DataFaults as several:
        return list(several.faults)
    if show_cases or report.faults:
        for line in report.lines:
            console.print(f"  {line.text()}", highlight=False, markup=False)
    if not report.faults:
        seen.parent.mkdir(parents=True, exist_ok=True)
        write_json(seen, [line.text() for line in report.lines])
    return list(report.faults)
