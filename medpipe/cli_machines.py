"""The verbs about machines: submit, status, cancel, doctor, bench. What is heavy is imported inside the verbs."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

WorkflowArgument = Annotated[str, typer.Argument(help="A workflow's file, or the name of one that comes with medpipe.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Values to set, such as organs.training.num_steps=500."),
]
Overlays = Annotated[
    list[str] | None, typer.Option("--overlay", "-o", help="Overlay file or name (demo, gpu, ...); may be repeated.")
]
RunsFolder = Annotated[Path, typer.Option("--runs", help="Folder of all runs.")]
RunName = Annotated[
    str | None, typer.Option("--name", "-n", help="Name of the run; default: the overlays' names, or 'default'.")
]


def submit(
    workflow: WorkflowArgument,
    overrides: Overrides = None,
    overlay: Overlays = None,
    name: RunName = None,
    runs: RunsFolder = Path("runs"),
    until: Annotated[str | None, typer.Option(help="Up to this stage and what it needs.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the scripts, submit nothing.")] = False,
) -> None:
    """Send the stages that are not finished to a cluster, one job a stage; an overlay such as slurm says where."""
    from medpipe.engine.cluster.slurm import SlurmFault
    from medpipe.engine.cluster.submitting import submit_command

    try:
        code = submit_command(
            workflow, overlay or [], overrides or [], runs=runs, name=name, until=until, dry_run=dry_run
        )
    except SlurmFault as error:
        print(error, file=sys.stderr)
        code = 1
    raise typer.Exit(code)


def doctor(
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Slurm too; inside an allocation all its nodes, and what joins them.")
    ] = False,
    runs: RunsFolder = Path("runs"),
    cache: Annotated[Path, typer.Option(help="Folder of the cache, as data.cache.")] = Path(".cache/medpipe"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of lines.")] = False,
) -> None:
    """Look whether this machine or cluster is fit for training; each line ok, warning or fault, with the way out."""
    from medpipe.engine.doctor.examining import doctor_command

    raise typer.Exit(doctor_command(cluster=cluster, runs=runs, cache=cache, as_json=as_json))


RunFolder = Annotated[
    Path, typer.Argument(exists=True, file_okay=False, help="A run's folder: runs/<workflow>/<name>.")
]


def status(
    run: RunFolder,
    lines: Annotated[int, typer.Option(min=0, help="Last lines of each log of a stage that is under way.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of the table.")] = False,
) -> None:
    """Show a run's stages: jobs, states, progress, last log lines, and what to do."""
    from medpipe.engine.cluster.showing import status_command

    raise typer.Exit(status_command(run, lines=lines, as_json=as_json))


def cancel(run: RunFolder) -> None:
    """End a run's jobs on the cluster, waiting and running; what is saved stays."""
    from medpipe.engine.cluster.cancelling import cancel_command

    raise typer.Exit(cancel_command(run))


class Benched(StrEnum):
    attention = "attention"


def bench(
    what: Annotated[Benched, typer.Argument(help="Whose kernels.")],
    tune: Annotated[bool, typer.Option("--tune", help="Write the fastest of each case into the table.")] = False,
    table: Annotated[Path | None, typer.Option(help="Table to write, for another place than the package.")] = None,
    width: Annotated[list[int] | None, typer.Option(help="Of heads; may be repeated. Default: 16, 64, 128.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="That compile side by side.")] = 12,
    result: Annotated[Path | None, typer.Option(help="JSON file for all times.")] = None,
) -> None:
    """Time the configurations of the GPU kernels on this machine's GPU, each checked first."""
    from medpipe.engine.benching import bench_command

    raise typer.Exit(
        bench_command(what.value, tune=tune, table=table, widths=width, processes=processes, result=result)
    )
