"""The contract between the engine and a kind of stage: what a stage declares, and what it is given to run.

A kind of stage is one file: a config class derived from `Stage` whose `run` is the plain sequence of its work. It takes
files from the folders of the stages that it names by `{from: ...}` and leaves files in its own folder, nothing else.
"""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeVar

from pydantic import BaseModel

from medpipe.config.base import Config, StageRef
from medpipe.datasets.cases import CasesConfig, DataConfig
from medpipe.datasets.procedures import ProceduresConfig
from medpipe.datasets.questions import QuestionsConfig
from medpipe.datasets.workers import StopRequested
from medpipe.geometry.atomic import written_beside
from medpipe.tasks.processes import ALONE, Processes

T = TypeVar("T")

__all__ = ["Output", "Progress", "Stage", "StageRun", "StopRequested", "cores", "find_all", "write_json"]


class Progress(Protocol):
    """One line or bar of progress. `advance` counts finished items and may name the figure of the moment."""

    def advance(self, count: int = 1, note: str = "") -> None: ...


class Output(Protocol):
    """What a stage may say while it runs; the engine decides how it looks on a terminal, in a file, in a job's log."""

    console: Any  # a rich console, for tables

    def say(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...

    def progress(self, label: str, total: int, done: int = 0) -> Any: ...


@dataclass(frozen=True)
class StageRun:
    """What a stage is given: its folder, the folders of the stages it takes from, the data, and how to speak.

    processes   those of the job that run the stage together; the first one alone writes, but for files that are shared
                out (a prediction a case)
    """

    name: str
    folder: Path
    seed: int
    data: DataConfig
    inputs: dict[str, Path]
    output: Output
    should_stop: Callable[[], bool]
    base: Path
    context: dict[str, Any] = field(
        default_factory=dict
    )  # the engine's record, for the report: values, versions, hours
    part: tuple[int, int] | None = None  # (index from 0, count): this job's share of the stage; None: all of it
    processes: Processes = ALONE

    def folder_of(self, reference: StageRef) -> Path:
        """The folder of the stage that `reference` names."""
        return self.inputs[reference.from_]

    def folder_if_named(self, reference: StageRef | None) -> Path | None:
        """The same, or None where nothing is named."""
        return None if reference is None else self.folder_of(reference)

    def mine(self, items: Sequence[T]) -> Sequence[T]:
        """The items that this job works on: every `count`-th from `index` on, or all of them."""
        return items if self.part is None else items[self.part[0] :: self.part[1]]

    def path(self, name: str) -> Path:
        """A path in the stage's folder; its parent exists."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write_json(self, name: str, value: Any) -> Path:
        """Write `value` as JSON in the stage's folder, whole or not at all; of several processes the first one does."""
        return write_json(self.path(name), value) if self.processes.is_first else self.folder / name

    def stop_if_asked(self) -> None:
        """Raise StopRequested at a place where the work so far is on disk."""
        if self.should_stop():
            raise StopRequested(self.name)


def write_json(path: Path, value: Any) -> Path:
    """Write `value` as JSON beside `path` and rename it into place."""
    with written_beside(path) as partial:
        partial.write_text(json.dumps(value, indent=2, default=str) + "\n", encoding="utf-8")
    return path


class Stage(Config, ABC):
    """Abstract. One step of a workflow: its values, what it takes, what it leaves, `run`."""

    # Raised when the results of this kind of stage change for the same values: finished runs are then repeated.
    version: ClassVar[int] = 1
    # Whether the processes of a job run it together; else the first one runs it and the others wait.
    uses_processes: ClassVar[bool] = False
    # The kinds of stage that a field of type StageRef may name; checked before anything runs.
    takes: ClassVar[dict[str, tuple[str, ...]]] = {}

    # What its job needs on a cluster: GPUs over which one training is spread, a GPU to predict on, or none.
    work: ClassVar[Literal["training", "prediction", "cpu"]] = "cpu"

    stage: str

    def parts(self, base: Path) -> int | None:
        """How many jobs the stage can be shared by: one a network that it trains; None: any number, by its cases.

        A stage that says anything but 1 works on `run.mine(...)` alone, and finds finished work finished.
        """
        return 1

    def references(self) -> tuple[StageRef, ...]:
        """Every `{from: ...}` in the stage's values, in the order of its fields."""
        return tuple(dict.fromkeys(find_all(self, StageRef)))

    def cases_read(self) -> tuple[CasesConfig, ...]:
        """Every selection of cases in the stage's values."""
        return tuple(dict.fromkeys(find_all(self, CasesConfig)))

    def questions_read(self) -> tuple[QuestionsConfig, ...]:
        """Every selection of questions in the stage's values."""
        return tuple(dict.fromkeys(find_all(self, QuestionsConfig)))

    def procedures_read(self) -> tuple[ProceduresConfig, ...]:
        """Every selection of procedures in the stage's values."""
        return tuple(dict.fromkeys(find_all(self, ProceduresConfig)))

    def structures_needed(self) -> tuple[str, ...]:
        """Structures that the stage expects the manifests of its cases to name."""
        return ()

    @abstractmethod
    def run(self, run: StageRun) -> None:
        """Do the work; leave only whole files; raise StopRequested where `run.should_stop()` says so."""


def find_all(value: Any, kind: type[T]) -> Iterator[T]:
    """All instances of `kind` within a config, depth first."""
    if isinstance(value, kind):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from find_all(getattr(value, name), kind)
    elif isinstance(value, dict):
        for entry in value.values():
            yield from find_all(entry, kind)
    elif isinstance(value, tuple | list):
        for entry in value:
            yield from find_all(entry, kind)


def cores(jobs: int | None, processes: Processes = ALONE) -> int:
    """`jobs`, or the number of cores that this process may use; of those that several processes share, its part."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if processes.world.launcher == "srun" and "SLURM_CPUS_PER_TASK" in os.environ:
        there = min(there, int(os.environ["SLURM_CPUS_PER_TASK"]))
    elif processes.size > 1:
        there = max(1, there // processes.world.local_size)
    return jobs or there
