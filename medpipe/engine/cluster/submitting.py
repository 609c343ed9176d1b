"""`medpipe submit`: one script a stage that is not finished, kept in the run's directory and given to the scheduler."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from medpipe.config.errors import ConfigError, Problem
from medpipe.datasets.cases import list_cases
from medpipe.engine.checking import check_manifests
from medpipe.engine.cluster import kubernetes, sbatch, slurm, torchrun
from medpipe.engine.cluster.job_list import JobList, SubmittedJob
from medpipe.engine.cluster.jobs import Job, Place, plan_jobs
from medpipe.engine.cluster.resources import check_cluster
from medpipe.engine.executor import Selection, plan_run
from medpipe.engine.record import now
from medpipe.engine.run_directory import RunDirectory
from medpipe.engine.running import check_selection
from medpipe.engine.workflow import LoadedWorkflow, load_workflow
from medpipe.geometry.atomic import written_beside

RENDER = {"slurm": sbatch.script, "torchrun": torchrun.script, "kubernetes": kubernetes.manifest}
SUFFIX = {"slurm": ".sh", "torchrun": ".sh", "kubernetes": ".yaml"}


def submit_command(
    reference: str,
    overlays: Sequence[str],
    overrides: Sequence[str],
    *,
    runs: Path,
    name: str | None,
    until: str | None,
    dry_run: bool,
) -> int:
    """Render the jobs; print them (`dry_run`), or keep and submit them. The exit code of DESIGN section 7."""
    workflow = load_workflow(reference, overlays, overrides)
    check_manifests(workflow)
    place = place_of(workflow, runs, name)
    check_cluster(workflow, place.cluster)
    console = Console(soft_wrap=True, stderr=dry_run)
    directory = RunDirectory(place.run_folder)
    done = finished_stages(workflow, directory)
    for stage in done:
        console.print(f"{stage} is finished, not submitted", highlight=False)
    jobs = plan_jobs(place, [*done, *not_asked_for(workflow, until)])
    if dry_run:
        for file, text in files_of(place, jobs):
            print(f"# {'=' * 8} {file}\n{text}", end="" if text.endswith("\n") else "\n")
        return 0
    if not jobs:
        console.print(f"nothing to submit: all {len(done)} stages are finished")
        return 0
    refuse_missing_data(workflow, jobs)
    return send(place, jobs, console)


def place_of(workflow: LoadedWorkflow, runs: Path, name: str | None) -> Place:
    """Where the run lies; refuses a workflow without `cluster:` and a name that breaks lines."""
    cluster = workflow.values.cluster
    if cluster is None:
        text = (
            "no `cluster:` section says where to submit; add --overlay slurm, slurm_apptainer, torchrun or kubernetes"
        )
        raise ConfigError([Problem(str(workflow.path), None, None, text)])
    name = name or "-".join(path.stem for path in workflow.overlays) or "default"
    place = Place(workflow, cluster, runs, name, Path.cwd())
    for text in (name, str(runs), str(place.cwd)):
        if not text.isprintable():
            raise ConfigError([Problem("command line", None, None, f"{text!r} holds characters that do not print")])
    return place


def finished_stages(workflow: LoadedWorkflow, directory: RunDirectory) -> list[str]:
    """The stages whose result is there with these values. A run that is new needs no look at any data."""
    if not any(directory.ledger(name).folder.is_dir() for name in workflow.values.stages):
        return []
    return [plan.name for plan in plan_run(workflow, directory, Selection()) if plan.state == "done"]


def not_asked_for(workflow: LoadedWorkflow, until: str | None) -> list[str]:
    """With --until: the stages that this one does not need."""
    check_selection(workflow, Selection(until=until))
    wanted = None if until is None else workflow.needed_by(until) | {until}
    return [name for name in workflow.values.stages if wanted is not None and name not in wanted]


def refuse_missing_data(workflow: LoadedWorkflow, jobs: Sequence[Job]) -> None:
    """List the cases of what is submitted: a wrong data.root is told now, not by a job of tomorrow."""
    if workflow.values.data.source == "phantom":
        return
    stages = [workflow.values.stages[job.name] for job in jobs if job.name in workflow.values.stages]
    for cases in dict.fromkeys(cases for stage in stages for cases in stage.cases_read()):
        list_cases(cases, workflow.values.data, workflow.base)


def files_of(place: Place, jobs: Sequence[Job]) -> list[tuple[str, str]]:
    """Name and text of everything that is rendered: what the scripts share, then each job's, in order."""
    scheduler = place.cluster.scheduler
    shared = {
        "slurm": lambda: [(sbatch.WRAPPER_FILE, sbatch.wrapper(place))],
        "kubernetes": lambda: [("00-workflow.yaml", kubernetes.config_map(place))],
        "torchrun": lambda: [],
    }
    return [*shared[scheduler](), *((script_name(place, job), RENDER[scheduler](place, job)) for job in jobs)]


def script_name(place: Place, job: Job) -> str:
    return job.key + SUFFIX[place.cluster.scheduler]


def send(place: Place, jobs: Sequence[Job], console: Console) -> int:
    """Keep the scripts and hand them to the scheduler, in order."""
    if place.cluster.scheduler == "kubernetes":
        text = "medpipe renders jobs for Kubernetes and sends none: medpipe submit ... --dry-run | kubectl apply -f -"
        print(text, file=sys.stderr)
        return 2
    listed = JobList.read(place.run_folder)
    if place.cluster.scheduler == "slurm":
        slurm.refuse_running(listed, place.run_folder)
    scripts = keep(place, jobs)
    console.print(f"scripts and logs: {place.folder}", highlight=False)
    if place.cluster.scheduler == "torchrun":
        return torchrun.run_in_order(place, jobs, scripts, console)
    ids: dict[str, str] = {}
    for job in jobs:
        needs = [ids[needed] for needed in job.needs if needed in ids]
        try:
            ids[job.name] = slurm.sbatch(scripts[job.name], needs)
        except slurm.SlurmFault as fault:
            print(f"{job.key}: {fault}", file=sys.stderr)
            print(
                f"jobs that were submitted before stand; medpipe cancel {place.run_folder} ends them", file=sys.stderr
            )
            return 1
        listed.add(SubmittedJob(job.name, job.number, ids[job.name], job.parts, job.needs, now()))
        after = f", after {', '.join(job.needs)}" if needs else ""
        array = f", {job.parts} parts" if job.is_array else ""
        console.print(f"  {ids[job.name]}  {job.name}{array}{after}", highlight=False)
    console.print(f"medpipe status {place.run_folder}", highlight=False, style="dim")
    return 0


def keep(place: Place, jobs: Sequence[Job]) -> dict[str, Path]:
    """Write the workflow as it is submitted, and each script; stage -> script."""
    for folder in ("logs", "events"):
        (place.folder / folder).mkdir(parents=True, exist_ok=True)
    with written_beside(place.kept_workflow) as partial:
        partial.write_text(place.workflow.text(), encoding="utf-8")
    for file, text in files_of(place, jobs):
        with written_beside(place.folder / file) as partial:
            partial.write_text(text, encoding="utf-8")
            os.chmod(partial, 0o755)
    return {job.name: place.folder / script_name(place, job) for job in jobs}
