"""One reader a form of file: an entry becomes a question, or a ValueError that says what is wrong with it."""

import importlib.util
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from medpipe.datasets.question_sets import QuestionSet
from medpipe.datasets.questions import Question, facts_of, made_id
from medpipe.datasets.vocabularies import Vocabulary
from medpipe.geometry.faults import DataFault
from medpipe.metrics.answer_yes_no import is_yes_or_no
from medpipe.metrics.question_forms import Option, parse_options

IMAGE_MARKER = re.compile(r"\s*<image>\s*", re.IGNORECASE)
OPTION_COLUMNS = re.compile(r"[A-Z]")


@dataclass(frozen=True)
class Context:
    """What a reader knows beside the entry: the set, its vocabulary, what the file's name or config says."""

    question_set: QuestionSet
    vocabulary: Vocabulary
    task: str | None
    split: str | None


Reader = Callable[[Mapping[str, Any], Context], Question]


def text_of(entry: Mapping[str, Any], key: str) -> str:
    """The text under a key; ValueError where it is missing, empty or no text (numbers count as text)."""
    value = entry.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = f"{value:g}" if isinstance(value, float) else str(value)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"no text under {key!r}" + ("" if value is None else f", got {facts_of(value)}"))
    return value.strip()


def images_of(value: Any, suffix: str = "") -> tuple[str, ...]:
    """One path or several, as relative POSIX paths; ValueError for absolute ones and those that leave the folder."""
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list | tuple) or not found or not all(isinstance(image, str) and image for image in found):
        raise ValueError(f"images must be a path or a list of paths, got {facts_of(value)}")
    for image in found:
        path = PurePosixPath(image.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", image):
            raise ValueError(f"image {image!r} leaves the folder of images; give paths below it")
    return tuple(image if not suffix or PurePosixPath(image).suffix else image + suffix for image in found)


def task_of(name: str | None, context: Context) -> str:
    """A known task; ValueError that lists them."""
    if name is None or name not in context.vocabulary.tasks:
        known = ", ".join(context.vocabulary.tasks)
        raise ValueError(f"task {name!r} is not in the vocabulary {context.vocabulary.vocabulary}; it has {known}")
    return name


def read_colon_x(entry: Mapping[str, Any], context: Context) -> Question:
    """Colon-X: `conversations` with one human turn and the reference as the gpt turn. Never anything else of it."""
    turns = entry.get("conversations")
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise ValueError(f"no list of turns under 'conversations', got {facts_of(turns)}")
    by_speaker = {speaker: [turn for turn in turns if turn.get("from") == speaker] for speaker in ("human", "gpt")}
    for speaker, found in by_speaker.items():
        if len(found) != 1:
            raise ValueError(f"{len(found)} turns from {speaker!r}, expected one")
    text = IMAGE_MARKER.sub("", text_of(by_speaker["human"][0], "value")).strip()
    images = images_of(entry.get("image"))
    task = task_of(context.task, context)
    kind = context.vocabulary.tasks[task].kind
    return Question(
        question_id=made_id(images, text),
        task=task,
        kind=kind,
        text=text,
        reference=answer_block(text_of(by_speaker["gpt"][0], "value")),
        images=images,
        options=parse_options(text) if kind == "options" else (),
        cluster=cluster_of(entry, images, context),
        split=context.split or "test",
    )


def answer_block(text: str) -> str:
    """ColonReason's references stand in <answer>; others are the whole text."""
    found = re.search(r"<answer>(.*?)</answer>", text, re.DOTALL | re.IGNORECASE)
    return found.group(1).strip() if found else text


def read_row(entry: Mapping[str, Any], context: Context) -> Question:
    """JSON Lines and tables: id, image or images, question, options or columns A, B, ..., answer, task, split."""
    text = IMAGE_MARKER.sub("", text_of(entry, "question")).strip()
    images = row_images(entry, context)
    task = task_of(entry.get("task") or context.task, context)
    options = row_options(entry) or parse_options(text)
    kind = context.vocabulary.tasks[task].kind
    reference = text_of(entry, "answer")
    if kind == "options" and options:
        listed = next((option for option in options if option.letter == reference), None)
        reference = reference if listed is None else str(listed)
    return Question(
        question_id=str(entry.get("id") or entry.get("index") or made_id(images, text)),
        task=task,
        kind=kind,
        text=text,
        reference=reference,
        images=images,
        options=options if kind == "options" else (),
        cluster=cluster_of(entry, images, context),
        split=str(entry.get("split") or context.split or "test"),
        language=str(entry.get("language") or "en"),
        image_size=row_size(entry),
    )


def row_images(entry: Mapping[str, Any], context: Context) -> tuple[str, ...]:
    value = entry.get("images") or entry.get("image") or entry.get("image_path")
    if isinstance(value, str) and ";" in value:
        value = [part.strip() for part in value.split(";")]
    return () if value in (None, "", []) else images_of(value, context.question_set.image_suffix)


def row_options(entry: Mapping[str, Any]) -> tuple[Option, ...]:
    """A list, a mapping of letters, a text with `|` between, or columns A, B, C in a row."""
    value = entry.get("options")
    if isinstance(value, str) and value:
        value = parse_options(value) or [part.strip() for part in value.split("|")]
    if value in (None, "", []):
        letters = [chr(ord("A") + index) for index in range(26)]
        cells = [entry.get(letter) for letter in letters]
        value = [str(cell) for cell in cells[: next((n for n, cell in enumerate(cells) if cell in (None, "")), 26)]]
    if isinstance(value, dict):
        return tuple(Option(str(letter).strip("()<>. "), str(text).strip()) for letter, text in value.items())
    if not isinstance(value, list | tuple):
        raise ValueError(f"options must be a list or a mapping of letters, got {facts_of(value)}")
    texts = [option.text if isinstance(option, Option) else str(option).strip() for option in value]
    if any(not text for text in texts):
        raise ValueError("an option is empty")
    return tuple(Option(chr(ord("A") + number), text) for number, text in enumerate(texts))


def row_size(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    try:
        return (int(entry["width"]), int(entry["height"]))
    except (KeyError, TypeError, ValueError):
        return None


def read_slake(entry: Mapping[str, Any], context: Context) -> Question:
    """SLAKE: img_name, question, answer, q_lang, answer_type CLOSED or OPEN, qid."""
    reference, text = text_of(entry, "answer"), text_of(entry, "question")
    images = images_of(entry.get("img_name"))
    closed = text_of(entry, "answer_type").upper() == "CLOSED"
    task = "open" if not closed else "closed_yes_no" if is_yes_or_no(reference) else "closed_other"
    return Question(
        question_id=f"slake_{text_of(entry, 'qid')}",
        task=task_of(task, context),
        kind=context.vocabulary.tasks[task].kind,
        text=text,
        reference=reference,
        images=images,
        cluster=cluster_of(entry, images, context),
        split=context.split or "test",
        language=str(entry.get("q_lang") or "en"),
    )


def read_real_colon(entry: Mapping[str, Any], context: Context) -> Question:
    """REAL-Colon-VQA: frames of a clip, question, question_type, short_answer."""
    frames = images_of(entry.get("frames"), context.question_set.image_suffix)
    task = task_of(text_of(entry, "question_type"), context)
    return Question(
        question_id=text_of(entry, "id"),
        task=task,
        kind=context.vocabulary.tasks[task].kind,
        text=text_of(entry, "question"),
        reference=text_of(entry, "short_answer"),
        images=frames,
        cluster=cluster_of(entry, frames, context),
        split=context.split or "test",
    )


def read_easy_vqa(entry: Mapping[str, Any], context: Context) -> Question:
    """easy-vqa: question, answer, number of the image; the task follows from the answer."""
    reference = text_of(entry, "answer")
    names = {name: task for task in ("shape", "colour") for name in context.vocabulary.names_of(task)}
    task = task_of("yes_no" if reference in ("yes", "no") else names.get(reference), context)
    number, split = entry["image"], context.split or "test"
    return Question(
        question_id=f"{split}_{number}_{entry['number']}",
        task=task,
        kind=context.vocabulary.tasks[task].kind,
        text=text_of(entry, "question"),
        reference=reference,
        images=(f"{split}/images/{number}.png",),
        cluster=f"{split}_{number}",
        split=split,
    )


def easy_vqa_folder() -> Path:
    """The data of the package easy-vqa, found without importing it; DataFault where it is not installed."""
    spec = importlib.util.find_spec("easy_vqa")
    if spec is None or spec.origin is None:
        raise DataFault("easy-vqa", "the package is not installed; pip install 'medpipe[vqa]', or easy-vqa==1.0")
    return Path(spec.origin).parent / "data"


def cluster_of(entry: Mapping[str, Any], images: tuple[str, ...], context: Context) -> str:
    """What the question's answer depends on together with others."""
    column, pattern = context.question_set.cluster, context.question_set.cluster_pattern
    cluster = images[0] if column == "image" and images else str(entry.get(column) or "")
    if column != "image" and not cluster:
        raise ValueError(f"no {column!r}, which the set names as its cluster")
    if pattern is None:
        return cluster
    found = re.search(pattern, cluster)
    if found is None:
        raise ValueError(f"cluster_pattern {pattern!r} does not match {cluster!r}")
    return found.group(1)


READERS: dict[str, Reader] = {
    "colon_x": read_colon_x,
    "json_lines": read_row,
    "table": read_row,
    "slake": read_slake,
    "real_colon_vqa": read_real_colon,
    "easy_vqa": read_easy_vqa,
}
