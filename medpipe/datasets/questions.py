"""Questions of a set: what is asked of which images, and what answers it. From files of any form to one class."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, final

from pydantic import Field

from medpipe.config.base import Config
from medpipe.datasets.cases import DataConfig
from medpipe.datasets.question_sets import QuestionSet, load_question_set
from medpipe.datasets.vocabularies import Vocabulary, load_vocabulary
from medpipe.metrics.question_forms import AnswerForm, BoxForm, Option, QuestionKind, frozen_names

BOX_IN_PIXELS = BoxForm()


class QuestionsConfig(Config):
    """Some questions of one set."""

    question_set: str  # by name (data/question_sets) or a path
    split: str | None = None  # without: every split
    tasks: tuple[str, ...] = ()  # without: every task
    language: str | None = None  # en, zh, ...: of sets that hold several
    # That many, chosen by a hash of their ids so that every task and file keeps its share; the file's order stays.
    max_questions: int | None = Field(default=None, ge=1)
    images: Literal["needed", "ignored"] = "needed"  # ignored: neither checked nor read, for answers without looking


@final
@dataclass(frozen=True)
class Question:
    """One question. `images` are relative to the set's folder of images; `cluster` names what depends on each other.

    reference   the answer as the set writes it: an option, yes or no, a name, a text, a box
    source      file and entry, for messages
    """

    question_id: str
    task: str
    kind: QuestionKind
    text: str
    reference: str
    images: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()
    group: str = ""
    cluster: str = ""
    split: str = "test"
    language: str = "en"
    source: str = ""
    image_size: tuple[int, int] | None = None  # width, height, where the file tells it

    def to_json(self) -> str:
        """The question on one line."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> "Question":
        """Back from `to_json`."""
        facts = json.loads(line)
        facts["images"] = tuple(facts["images"])
        facts["options"] = tuple(Option(**option) for option in facts["options"])
        size = facts["image_size"]
        return cls(**{**facts, "image_size": None if size is None else (size[0], size[1])})


@final
@dataclass(frozen=True)
class LoadedQuestions:
    """The chosen questions with all that they are read by."""

    questions: tuple[Question, ...]
    question_set: QuestionSet
    vocabulary: Vocabulary
    image_folder: Path
    notes: tuple[str, ...] = ()

    def image_path(self, image: str) -> Path:
        """Where an image lies."""
        return self.image_folder / image


def load_questions(config: QuestionsConfig, data: DataConfig, base: Path | None = None) -> LoadedQuestions:
    """The chosen questions, in the order of their files.

    Raises DataFaults with every fault of the files, ValueError where the selection names an unknown task or split, or
    nothing is left.
    """
    from medpipe.datasets.question_reading import read_question_set

    question_set = load_question_set(config.question_set, base)
    vocabulary = load_vocabulary(question_set.vocabulary, base)
    folder = question_folder(question_set, data)
    questions, notes = read_question_set(question_set, vocabulary, folder)
    chosen = select(questions, config, vocabulary)
    return LoadedQuestions(tuple(chosen), question_set, vocabulary, folder / question_set.images, tuple(notes))


def question_folder(question_set: QuestionSet, data: DataConfig) -> Path:
    """The folder of the set's files: below data.root, generated, or inside its package."""
    if question_set.format == "easy_vqa":
        from medpipe.datasets.question_formats import easy_vqa_folder

        return easy_vqa_folder()
    if data.source == "phantom":
        from medpipe.datasets.generated_questions import generated_folder

        return generated_folder(question_set, data)
    if data.root is None:
        raise ValueError(
            f"question set {question_set.question_set}: data.root is not set; give data.root=/path/to/data "
            "or data.source=phantom for generated questions"
        )
    return data.root.expanduser() / question_set.folder


def select(questions: list[Question], config: QuestionsConfig, vocabulary: Vocabulary) -> list[Question]:
    """The questions of the asked split, tasks and language, and of these `max_questions`."""
    splits = sorted({question.split for question in questions})
    if config.split is not None and config.split not in splits:
        raise ValueError(f"{config.question_set}: no split {config.split!r}; it has {', '.join(splits)}")
    unknown = [task for task in config.tasks if task not in vocabulary.tasks]
    if unknown:
        raise ValueError(
            f"{config.question_set}: no task {', '.join(unknown)}; there are {', '.join(vocabulary.tasks)}"
        )
    chosen = [
        question
        for question in questions
        if config.split in (None, question.split)
        and (not config.tasks or question.task in config.tasks)
        and config.language in (None, question.language)
    ]
    if not chosen:
        raise ValueError(
            f"{config.question_set}: no question of split {config.split or 'any'}, tasks "
            f"{', '.join(config.tasks) or 'any'}, language {config.language or 'any'} among {len(questions)}"
        )
    if config.max_questions is None or config.max_questions >= len(chosen):
        return chosen
    kept = {question.question_id for question in sorted(chosen, key=_draw)[: config.max_questions]}
    return [question for question in chosen if question.question_id in kept]


def _draw(question: Question) -> str:
    return hashlib.sha256(question.question_id.encode()).hexdigest()


def made_id(images: tuple[str, ...], text: str) -> str:
    """An id for files that have none: the image's name, and a hash of images and question."""
    digest = hashlib.sha256("\n".join([*images, text]).encode()).hexdigest()[:10]
    return f"{PurePosixPath(images[0]).stem if images else 'no_image'}#{digest}"


@final
class AnswerForms:
    """How answers to a set's questions are read: what the vocabulary says of each task, put together once."""

    def __init__(self, vocabulary: Vocabulary, box: BoxForm = BOX_IN_PIXELS) -> None:
        self.names = {task: vocabulary.frozen_names_of(task) for task in vocabulary.tasks}
        self.other_names = frozen_names(vocabulary.names)
        self.box = box

    def __call__(self, question: Question) -> AnswerForm:
        return AnswerForm(
            kind=question.kind,
            question=question.text,
            options=question.options,
            names=self.names.get(question.task, self.other_names),
            box=self.box,
            image_size=question.image_size,
        )


def write_questions(path: Path, loaded: LoadedQuestions) -> None:
    """The questions as JSON Lines, whole or not at all."""
    from medpipe.geometry.atomic import written_beside

    with written_beside(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.writelines(question.to_json() + "\n" for question in loaded.questions)


def read_questions(path: Path) -> Iterator[Question]:
    """Back from `write_questions`, one at a time."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield Question.from_json(line)


def with_group(question: Question, vocabulary: Vocabulary) -> Question:
    """The question in the group that its task belongs to."""
    task = vocabulary.tasks.get(question.task)
    return question if task is None else replace(question, group=task.group)


def facts_of(value: Any) -> str:
    """A short form of an unexpected value for a message."""
    text = repr(value)
    return f"{type(value).__name__} {text[:60]}{'...' if len(text) > 60 else ''}"
