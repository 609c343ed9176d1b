"""A set of questions from its files: every fault by file and entry, duplicates told apart, references checked."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medpipe.datasets.question_files import read_entries
from medpipe.datasets.question_formats import READERS, Context
from medpipe.datasets.question_sets import QuestionFile, QuestionSet
from medpipe.datasets.questions import Question, with_group
from medpipe.datasets.vocabularies import Vocabulary
from medpipe.geometry.faults import DataFault, DataFaults
from medpipe.metrics.reference_checks import reference_fault


def read_question_set(
    question_set: QuestionSet, vocabulary: Vocabulary, folder: Path
) -> tuple[list[Question], list[str]]:
    """All questions in the order of the files, and notes on what was left out. Raises DataFaults."""
    faults: list[DataFault] = []
    questions: list[Question] = []
    for path, context in _files(question_set, vocabulary, folder, faults):
        reader = READERS[question_set.format]
        for place, entry in _entries(path, question_set, faults):
            try:
                question = with_group(reader(entry, context), vocabulary)
                fault = reference_fault(question.kind, question.reference, question.options,
                                        vocabulary.frozen_names_of(question.task))  # fmt: skip
            except (ValueError, KeyError, TypeError) as error:
                faults.append(DataFault(path, f"{place}: {error}"))
                continue
            if fault:
                faults.append(DataFault(path, f"{place} ({question.question_id}): {fault}"))
            else:
                questions.append(replace(question, source=f"{path.name}: {place}"))
    questions, notes = _without_duplicates(questions, folder, faults)
    if faults:
        raise DataFaults(faults)
    return questions, notes


def _files(
    question_set: QuestionSet, vocabulary: Vocabulary, folder: Path, faults: list[DataFault]
) -> Iterator[tuple[Path, Context]]:
    """Each file with what its name and the set say of it."""
    if question_set.format == "easy_vqa":
        for split in ("train", "test"):
            yield folder / split / "questions.json", Context(question_set, vocabulary, None, split)
        return
    for listed in question_set.files:
        paths = (
            sorted(folder.glob(listed.path), key=_in_counting_order)
            if re.search(r"[*?\[]", listed.path)
            else [folder / listed.path]
        )
        if not paths:
            faults.append(DataFault(folder / listed.path, "no file matches"))
        for path in paths:
            try:
                yield path, Context(
                    question_set, vocabulary, _task(listed, path, question_set, vocabulary),
                    listed.split or _split(path, question_set),
                )  # fmt: skip
            except ValueError as error:
                faults.append(DataFault(path, str(error)))


def _in_counting_order(path: Path) -> list[tuple[int, str]]:
    """Task_2 before Task_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(path))]


def _task(listed: QuestionFile, path: Path, question_set: QuestionSet, vocabulary: Vocabulary) -> str | None:
    """The task that the set names for the file, else by the number in the file's name; None: rows say it."""
    if listed.task is not None:
        return listed.task
    if question_set.format != "colon_x":
        return None
    found = re.search(question_set.task_pattern, path.stem, re.IGNORECASE)
    task = None if found is None else vocabulary.by_number(int(found.group(1)))
    if task is None:
        raise ValueError(
            f"no number of a task of {vocabulary.vocabulary} in the file's name by task_pattern "
            f"{question_set.task_pattern!r}; name the task in the question set: files: [{{path: ..., task: ...}}]"
        )
    return task


def _split(path: Path, question_set: QuestionSet) -> str | None:
    found = re.findall(question_set.split_pattern, path.stem, re.IGNORECASE)
    return found[-1].lower() if found else None


def _entries(path: Path, question_set: QuestionSet, faults: list[DataFault]) -> Iterator[tuple[str, dict[str, Any]]]:
    if question_set.format != "easy_vqa":
        yield from read_entries(path, faults)
        return
    per_image: Counter[int] = Counter()
    for number, (question, answer, image) in enumerate(json.loads(path.read_text()), start=1):
        per_image[image] += 1
        facts = {"question": question, "answer": answer, "image": image, "number": per_image[image]}
        yield f"entry {number}", facts


def _without_duplicates(
    questions: Sequence[Question], folder: Path, faults: list[DataFault]
) -> tuple[list[Question], list[str]]:
    """Each id once. The same question with the same reference is left out and counted; with another one it is a
    fault."""
    kept: dict[str, Question] = {}
    left_out = 0
    for question in questions:
        first = kept.setdefault(question.question_id, question)
        if first is question:
            continue
        same = (first.text, first.images, first.task) == (question.text, question.images, question.task)
        if same and first.reference == question.reference and first.split == question.split:
            left_out += 1
        elif same:
            faults.append(
                DataFault(
                    folder,
                    f"{question.question_id}: {question.source} and {first.source} ask the same of the same "
                    f"image, with "
                    f"references {first.reference!r} ({first.split}) and {question.reference!r} ({question.split})",
                )
            )
        else:
            faults.append(
                DataFault(folder, f"{question.source} and {first.source} have the same id {question.question_id}")
            )
    notes = [f"{left_out} questions stand there twice with the same reference; each is asked once"] if left_out else []
    return list(kept.values()), notes + _contradictions(kept.values())


def _contradictions(questions: Iterable[Question]) -> list[str]:
    """A note where questions under ids of their own ask the same of the same images and have different references."""
    asked: dict[tuple[str, str, tuple[str, ...]], Question] = {}
    pairs = []
    for question in questions:
        first = asked.setdefault((question.task, question.text, question.images), question)
        if first.reference != question.reference:
            pairs.append(f"{first.question_id} and {question.question_id}")
    if not pairs:
        return []
    listed = "; ".join(pairs[:3]) + ("; ..." if len(pairs) > 3 else "")
    return [f"{len(pairs)} questions ask the same of the same images as another one, with another reference: {listed}"]
