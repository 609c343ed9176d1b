"""Kinds of question of a benchmark and the names its answers may use: data/vocabularies/<name>.yaml."""

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, field_validator, model_validator

from medpipe.config.base import Config
from medpipe.config.share import share_folder
from medpipe.metrics.question_forms import CLOSED_KINDS, Names, QuestionKind, frozen_names

T = TypeVar("T", bound=Config)
Metric = Literal["accuracy", "mean_iou", "token_f1"]


class QuestionTask(Config):
    """One kind of question of a benchmark."""

    title: str = ""
    number: int | None = None  # in the benchmark's own count; file names hold it
    group: str = ""
    kind: QuestionKind
    metric: Metric | None = None  # default: accuracy, mean_iou of boxes, token_f1 of free text
    # name -> other names; of a grade in order. Without: the vocabulary's own names.
    names: dict[str, tuple[str, ...]] | None = None
    # The rule of the benchmark's own scorer, for metrics.colon_x_rules.
    official: Literal["yes_no", "landmark", "choice", "size", "open", "box"] | None = None

    @property
    def scored_by(self) -> Metric:
        """The metric of the task's score."""
        defaults: dict[str, Metric] = {"box": "mean_iou", "text": "token_f1"}
        return self.metric or defaults.get(self.kind, "accuracy")

    @model_validator(mode="after")
    def _metric_fits(self) -> "QuestionTask":
        fits = {"mean_iou": ("box",), "token_f1": ("text", "name"), "accuracy": (*CLOSED_KINDS, "text")}
        if self.metric is not None and self.kind not in fits[self.metric]:
            raise ValueError(f"metric {self.metric} needs a kind among {', '.join(fits[self.metric])}, got {self.kind}")
        return self


class Vocabulary(Config):
    """A benchmark's tasks, its groups in the order of tables, and its names with their aliases."""

    vocabulary: str
    description: str = ""
    groups: dict[str, str] = Field(default_factory=dict)  # name -> title
    tasks: dict[str, QuestionTask]
    names: dict[str, tuple[str, ...]] = Field(default_factory=dict)

    @field_validator("tasks")
    @classmethod
    def _numbers_are_distinct(cls, tasks: dict[str, QuestionTask]) -> dict[str, QuestionTask]:
        numbers = [task.number for task in tasks.values() if task.number is not None]
        if len(numbers) != len(set(numbers)):
            raise ValueError(f"task numbers must differ, got {numbers}")
        return tasks

    @model_validator(mode="after")
    def _groups_are_known(self) -> "Vocabulary":
        for name, task in self.tasks.items():
            if task.group and task.group not in self.groups:
                raise ValueError(f"task {name}: group {task.group!r} is none of {', '.join(self.groups) or '(none)'}")
            if task.kind in ("name", "grade", "yes_no_which") and not self.names_of(name):
                raise ValueError(f"task {name} of kind {task.kind} needs `names`")
        return self

    def names_of(self, task: str) -> dict[str, tuple[str, ...]]:
        """The names that answers of the task may use."""
        own = self.tasks[task].names
        return self.names if own is None else own

    def frozen_names_of(self, task: str) -> Names:
        """The same as they stand in the form of an answer; of an unknown task the vocabulary's own."""
        return frozen_names(self.names_of(task) if task in self.tasks else self.names)

    def by_number(self, number: int) -> str | None:
        """The task with that number."""
        return next((name for name, task in self.tasks.items() if task.number == number), None)


def load_vocabulary(ref: str, base: Path | None = None) -> Vocabulary:
    """The vocabulary of that name in data/vocabularies, or at that path (relative to `base`)."""
    return load_shared(Vocabulary, "vocabularies", ref, base)


def load_shared(model: type[T], folder: str, ref: str, base: Path | None) -> T:
    """A file below data/<folder> by name, or any file by path, through the strict reader."""
    from medpipe.config.reader import read_tree
    from medpipe.config.validation import validate

    if ref.endswith((".yaml", ".yml")) or "/" in ref:
        path = (base or Path()) / Path(ref).expanduser()
        if not path.is_file():
            raise ValueError(f"{folder}: no file {path}")
    else:
        path = share_folder("data") / folder / f"{ref}.yaml"
        if not path.is_file():
            known = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml")))
            raise ValueError(f"{ref!r} is neither a path nor one of the {folder}: {known}")
    return validate(model, read_tree(path))
