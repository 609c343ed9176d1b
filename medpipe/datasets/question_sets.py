"""What is true of a set of questions whoever asks them: its form, files, splits, images, vocabulary."""

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from medpipe.config.base import Config
from medpipe.config.share import share_folder
from medpipe.datasets.vocabularies import load_shared
from medpipe.metrics.question_forms import BoxForm, BoxOrder, BoxScale

QuestionFormat = Literal["colon_x", "json_lines", "table", "slake", "real_colon_vqa", "easy_vqa"]


class QuestionFile(Config):
    """One file of questions, or several by a pattern."""

    path: str  # relative to the set's folder; may hold * and ?
    task: str | None = None  # of the vocabulary; without: the number in the file's name, or the row's own task
    split: str | None = None  # without: the split in the file's name or row, else "test"


class GeneratedQuestions(Config):
    """The questions and pictures that `data: {source: phantom}` generates in place of the set."""

    num_images: int = Field(default=24, ge=1)
    first_seed: int = Field(default=0, ge=0)


class BoxConvention(Config):
    """How the set, or a model, writes boxes."""

    order: BoxOrder = "xyxy"
    scale: BoxScale = "pixels"  # unit: 0 to 1; thousand: 0 to 1000

    @property
    def form(self) -> BoxForm:
        return BoxForm(self.order, self.scale)


class QuestionSet(Config):
    """A set of questions, as its file in data/question_sets describes it."""

    question_set: str  # the set's name
    description: str = ""
    format: QuestionFormat
    folder: str = ""  # relative to data.root; easy_vqa lies in its package
    vocabulary: str  # by name (data/vocabularies) or a path
    files: tuple[QuestionFile, ...] = ()
    task_pattern: str = r"(?:^|task_?)(\d+)(?=_|$)"  # its group, in a file's stem, is the number of the task
    split_pattern: str = r"(train|val|test)"  # the same for the split; the last match counts
    images: str = ""  # folder of the images below the set's folder
    image_suffix: str = ""  # added to names of images that have none
    # What answers depend on together, for intervals: the image, or a column of the file (video_id, patient_id).
    cluster: str = "image"
    # A regular expression on the cluster; its group replaces it (the patient's part of a file name).
    cluster_pattern: str | None = None
    box: BoxConvention = BoxConvention()
    phantom: GeneratedQuestions | None = None
    licence: str = ""
    citation: str = ""

    @field_validator("task_pattern", "split_pattern", "cluster_pattern")
    @classmethod
    def _has_one_group(cls, pattern: str | None) -> str | None:
        if pattern is not None and re.compile(pattern).groups != 1:
            raise ValueError(f"pattern {pattern!r} must hold exactly one group")
        return pattern

    @model_validator(mode="after")
    def _has_files(self) -> "QuestionSet":
        if self.format != "easy_vqa" and not self.files:
            raise ValueError(f"a set of format {self.format} needs `files`")
        return self


def load_question_set(ref: str, base: Path | None = None) -> QuestionSet:
    """The set of that name in data/question_sets, or at that path (relative to `base`)."""
    return load_shared(QuestionSet, "question_sets", ref, base)


def question_set_names() -> list[str]:
    """The sets that come with medpipe."""
    return sorted(path.stem for path in (share_folder("data") / "question_sets").glob("*.yaml"))
