"""Questions at the door and in fingerprints: what `medpipe check` reads of them, and what identifies them."""

import hashlib
import json
import os
from pathlib import Path

from rich.console import Console

from medpipe.datasets.cases import DataConfig
from medpipe.datasets.content import hash_path
from medpipe.datasets.question_sets import load_question_set
from medpipe.datasets.questions import QuestionsConfig, load_questions, question_folder
from medpipe.datasets.vocabularies import load_vocabulary
from medpipe.geometry.faults import DataFault, DataFaults
from medpipe.stages.stage import cores, write_json

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def question_identity(questions: QuestionsConfig, data: DataConfig, base: Path) -> str:
    """SHA-256 over the set as described, its vocabulary, the content of its files, and names and sizes of its images.

    Images by size and not by content: a set may hold 200,000, and every answer keeps the hash of those it was given.
    """
    question_set = load_question_set(questions.question_set, base)
    vocabulary = load_vocabulary(question_set.vocabulary, base)
    folder = question_folder(question_set, data)
    cache = data.cache if data.cache.is_dir() else None
    files = sorted(path for listed in question_set.files for path in folder.glob(listed.path))
    if question_set.format == "easy_vqa":
        files = sorted(folder.glob("*/questions.json"))
    facts = [
        question_set.model_dump(mode="json", exclude={"description", "licence", "citation"}),
        vocabulary.model_dump(mode="json"),
        [[str(path.relative_to(folder)), hash_path(path, cache)] for path in files],
        image_sizes(folder / question_set.images) if questions.images == "needed" else None,
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def image_sizes(folder: Path) -> list[tuple[str, int]]:
    """(name below the folder, bytes) of every image, sorted."""
    found: list[tuple[str, int]] = []
    waiting = [str(folder)] if folder.is_dir() else []
    start = len(str(folder)) + 1
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.name[0] != "." and entry.is_dir():
                    waiting.append(entry.path)
                elif entry.name.lower().endswith(IMAGE_SUFFIXES):
                    found.append((entry.path[start:].replace(os.sep, "/"), entry.stat().st_size))
    return sorted(found)


def check_question_set(
    questions: QuestionsConfig, data: DataConfig, base: Path, *, jobs: int | None, console: Console, show: bool
) -> list[DataFault]:
    """Every fault of one selection; what was read whole and found good is not read again."""
    from medpipe.datasets.question_checks import check_questions

    try:
        seen = data.cache / "checked" / f"questions-{_selection_key(questions, data, base)}.json"
        if seen.is_file() and not show:
            return []
        loaded = load_questions(questions, data, base)
    except DataFault as fault:
        return [fault]
    except DataFaults as several:
        return list(several.faults)
    console.print(f"{questions.question_set}: reading {len(loaded.questions)} questions", highlight=False)
    report = check_questions(loaded, images=questions.images == "needed", jobs=cores(jobs))
    if show or report.faults:
        for line in (*report.lines, *loaded.notes):
            console.print(f"  {line}", highlight=False, markup=False)
    if not report.faults:
        seen.parent.mkdir(parents=True, exist_ok=True)
        write_json(seen, list(report.lines))
    return list(report.faults)


def _selection_key(questions: QuestionsConfig, data: DataConfig, base: Path) -> str:
    text = question_identity(questions, data, base) + questions.model_dump_json()
    return hashlib.sha256(text.encode()).hexdigest()
