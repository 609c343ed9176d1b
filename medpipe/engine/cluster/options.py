"""The `cluster:` section of a workflow or overlay: where and with what each stage's job runs.

Nothing here can change a result, and the section stands beside the stages, so none of it enters a fingerprint.
"""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from medpipe.config.base import Config, execution

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def one_line(text: str) -> str:
    """Refuse line breaks and control characters: what follows one would be a command or a directive of its own."""
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise ValueError(f"must be one line without control characters, got {text!r}")
    return text


class ShellEnvironment(Config):
    """Python from the machine: a virtual environment, modules, or simply the Python that submits."""

    kind: Literal["shell"]
    venv: str | None = execution(None, description="virtual environment to activate; default: the Python that submits")
    setup: tuple[str, ...] = execution((), description="shell lines before anything else, such as module load cuda")


class ApptainerEnvironment(Config):
    """Python inside one read-only image that runs as the user. The wrapper that requeues stays outside."""

    kind: Literal["apptainer"]
    image: str = execution(description="path of the .sif file")
    binds: tuple[str, ...] = execution((), description="host paths to see inside, source[:target[:ro]]")
    gpu: bool = execution(True, description="hand the GPUs in (--nv) where the job has some")
    setup: tuple[str, ...] = execution((), description="shell lines before, outside the image")


class ImageEnvironment(Config):
    """A container image and the volumes that are mounted, for Kubernetes."""

    kind: Literal["image"]
    image: str = execution()
    claims: dict[str, str] = execution(
        default_factory=dict, description="mount path -> persistent volume claim; runs, data and cache lie there"
    )
    shm_gib: float = execution(16.0, gt=0, description="/dev/shm: loader workers hand batches over there")


Environment = Annotated[ShellEnvironment | ApptainerEnvironment | ImageEnvironment, Field(discriminator="kind")]


class Resources(Config):
    """What one job of a stage asks for; what is not said here comes from its kind of stage."""

    nodes: int | None = execution(None, ge=1)
    gpus_per_node: int | None = execution(None, ge=0)
    gpu_type: str | None = execution(None, pattern=r"^[A-Za-z0-9_.-]+$")
    processes_per_node: int | None = execution(None, ge=1, description="default: one a GPU, or one")
    cpus_per_process: int | None = execution(None, ge=1)
    memory_gib: float | None = execution(None, gt=0, description="of a node")
    hours: float | None = execution(None, gt=0, description="time limit; a stage that needs longer is requeued")
    partition: str | None = execution(None)
    account: str | None = execution(None)
    qos: str | None = execution(None)
    constraint: str | None = execution(None)
    sbatch: tuple[str, ...] = execution((), description="further options of sbatch, such as --reservation=x")
    array: int | None = execution(None, ge=1, le=1000, description="jobs that share the cases of a prediction")
    array_at_once: int | None = execution(None, ge=1, description="of an array's jobs, how many run side by side")

    @field_validator("partition", "account", "qos", "constraint")
    @classmethod
    def is_one_line(cls, text: str | None) -> str | None:
        return None if text is None else one_line(text)

    @field_validator("sbatch")
    @classmethod
    def are_options(cls, options: tuple[str, ...]) -> tuple[str, ...]:
        for option in options:
            if not one_line(option).startswith("-"):
                raise ValueError(f"an option of sbatch begins with '-', got {option!r}")
        return options


class Requeue(Config):
    """When and how often a job is started again."""

    grace_seconds: int = execution(180, ge=10, description="ahead of the time limit: stop, save, be requeued")
    at_most: int = execution(50, ge=0, description="restarts after a stop on request (exit code 75)")
    at_most_after_death: int = execution(3, ge=0, description="restarts after a process was killed by a signal")
    wait_seconds: int = execution(0, ge=0, description="before a restart after death, doubled each time, up to 10 min")


class ClusterConfig(Config):
    """The whole section. Layers of resources: kind of stage in medpipe < `all` < `kinds` < `stages`."""

    scheduler: Literal["slurm", "kubernetes", "torchrun"]
    environment: Environment
    variables: dict[str, str] = execution(default_factory=dict, description="environment variables of every job")
    gpu_partition: str | None = execution(None, description="of stages that use GPUs")
    cpu_partition: str | None = execution(None, description="of the others")
    check_data: bool = execution(True, description="a first job reads all data; nothing starts where they are wrong")
    requeue: Requeue = Requeue()
    all: Resources = Resources()
    kinds: dict[str, Resources] = execution(default_factory=dict, description="by kind of stage")
    stages: dict[str, Resources] = execution(default_factory=dict, description="by name of stage")

    @field_validator("variables")
    @classmethod
    def are_variables(cls, variables: dict[str, str]) -> dict[str, str]:
        for name, value in variables.items():
            if not VARIABLE.fullmatch(name):
                raise ValueError(f"{name!r} is no name of an environment variable")
            one_line(value)
        return variables

    @field_validator("gpu_partition", "cpu_partition")
    @classmethod
    def is_one_line(cls, text: str | None) -> str | None:
        return None if text is None else one_line(text)

    @model_validator(mode="after")
    def environment_fits(self) -> "ClusterConfig":
        is_image = isinstance(self.environment, ImageEnvironment)
        if is_image != (self.scheduler == "kubernetes"):
            wanted = "image" if self.scheduler == "kubernetes" else "shell or apptainer"
            raise ValueError(f"scheduler {self.scheduler} needs an environment of kind {wanted}")
        return self
