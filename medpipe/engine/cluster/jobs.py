"""The jobs of a run: one a stage that is not finished, in order, with what each waits for and the words it starts."""

import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from medpipe.engine.cluster.options import ApptainerEnvironment, ClusterConfig, ShellEnvironment
from medpipe.engine.cluster.resources import JobResources, resources_of, resources_of_stage
from medpipe.engine.workflow import LoadedWorkflow
from medpipe.stages.stage import Stage

CHECK = "check-data"  # no stage can be called so: their names are in snake case
FOLDER = "cluster"  # below the run's: scripts, logs, events, the workflow as it was submitted


@dataclass(frozen=True)
class Place:
    """Where a run lies, as the jobs' command names it."""

    workflow: LoadedWorkflow
    cluster: ClusterConfig
    runs: Path
    name: str
    cwd: Path

    @property
    def run_folder(self) -> Path:
        return self.runs / self.workflow.values.workflow / self.name

    @property
    def folder(self) -> Path:
        return self.run_folder / FOLDER

    @property
    def kept_workflow(self) -> Path:
        return self.folder / "workflow.yaml"


@dataclass(frozen=True)
class Job:
    """One job, or one array of jobs: what a scheduler is given."""

    number: int
    name: str  # of its stage, or CHECK
    kind: str
    resources: JobResources
    arguments: tuple[str, ...]  # of medpipe
    needs: tuple[str, ...] = ()  # names of jobs that must end well before
    parts: int = 1
    notes: tuple[str, ...] = field(default=())

    @property
    def key(self) -> str:
        return f"{self.number:02d}-{self.name}"

    @property
    def is_array(self) -> bool:
        return self.parts > 1


def plan_jobs(place: Place, done: Collection[str] = ()) -> list[Job]:
    """The jobs for the stages that are not `done`, numbered by the order of the whole workflow."""
    workflow, cluster = place.workflow, place.cluster
    order = workflow.order()
    todo = [name for name in order if name not in done]
    jobs = []
    if (
        cluster.check_data
        and cluster.scheduler != "kubernetes"
        and any(reads_data(workflow.values.stages[name]) for name in todo)
    ):
        jobs.append(check_job(place))
    checked = tuple(job.name for job in jobs)
    for number, name in enumerate(order, start=1):
        if name not in todo:
            continue
        stage = workflow.values.stages[name]
        resources = resources_of_stage(cluster, name, stage)
        needs = tuple(dict.fromkeys(needed for needed in workflow.needs[name] if needed in todo)) or checked
        arguments = (*run_words(place), f"--only={name}")
        parts = 1 if cluster.scheduler == "torchrun" else stage.parts(workflow.base) or resources.array
        if cluster.scheduler == "kubernetes" and resources.nodes > 1:
            parts = 1  # an indexed Job counts either nodes or parts
        jobs.append(Job(number, name, stage.stage, resources, arguments, needs, parts))
    return jobs


def reads_data(stage: Stage) -> bool:
    """Whether a stage reads cases, procedures or questions of the user's."""
    return bool(stage.cases_read() or stage.procedures_read() or stage.questions_read())


def check_job(place: Place) -> Job:
    """The job that reads all data whole before any other starts."""
    resources = resources_of(place.cluster, CHECK, CHECK, "cpu")
    words = ("check", str(place.kept_workflow), f"--base={place.workflow.base}", "--skip-checked")
    return Job(0, CHECK, "all data of the workflow", resources, words)


def run_words(place: Place) -> tuple[str, ...]:
    """`medpipe run` of the workflow as it was submitted, in the run's directory."""
    return (
        "run",
        str(place.kept_workflow),
        f"--base={place.workflow.base}",
        f"--runs={place.runs}",
        f"--name={place.name}",
    )


def program(cluster: ClusterConfig, job: Job) -> tuple[str, ...]:
    """The words before medpipe's arguments."""
    environment = cluster.environment
    if isinstance(environment, ApptainerEnvironment):
        binds = tuple(f"--bind={bind}" for bind in environment.binds)
        gpu = ("--nv",) if environment.gpu and job.resources.gpus_per_node else ()
        return ("apptainer", "exec", *gpu, *binds, environment.image, "medpipe")
    if isinstance(environment, ShellEnvironment) and environment.venv is None and not environment.setup:
        return (sys.executable, "-m", "medpipe")
    return ("medpipe",)
