"""Every question and image of a set read before anything is asked: counts by task, and all faults at once."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from medpipe.datasets.question_images import image_hash, read_image
from medpipe.datasets.questions import LoadedQuestions, Question
from medpipe.geometry.faults import DataFault

MOST_NAMED = 20  # of leaks: one cause usually makes thousands


@dataclass(frozen=True)
class QuestionReport:
    """What `medpipe check` prints of a set."""

    lines: tuple[str, ...]
    faults: tuple[DataFault, ...]


def check_questions(loaded: LoadedQuestions, *, images: bool, jobs: int) -> QuestionReport:
    """Counts, splits that share images or clusters, and with `images` every image decoded whole."""
    questions = loaded.questions
    faults: list[DataFault] = []
    hashes: dict[str, str] = {}
    if images:
        names = list(dict.fromkeys(image for question in questions for image in question.images))
        with ThreadPoolExecutor(jobs) as pool:
            for name, outcome in zip(names, pool.map(lambda name: _look_at(loaded, name), names), strict=True):
                if isinstance(outcome, DataFault):
                    faults.append(outcome)
                else:
                    hashes[name] = outcome
        without = [question.question_id for question in questions if not question.images]
        if without:
            faults.append(
                DataFault(loaded.image_folder, f"{len(without)} questions have no image, such as {without[0]}")
            )
    faults += leaks(loaded, hashes)
    return QuestionReport(tuple(_lines(questions)), tuple(faults))


def _look_at(loaded: LoadedQuestions, name: str) -> "str | DataFault":
    try:
        path = loaded.image_path(name)
        read_image(path).close()
        return image_hash(path)
    except DataFault as fault:
        return fault


def leaks(loaded: LoadedQuestions, hashes: dict[str, str]) -> list[DataFault]:
    """Images (by content where it was read, else by name) and clusters that stand in more than one split."""
    places: dict[tuple[str, str], dict[str, Question]] = defaultdict(dict)
    for question in loaded.questions:
        for image in question.images:
            places["image", hashes.get(image, image)].setdefault(question.split, question)
        if question.cluster:
            places["cluster", question.cluster].setdefault(question.split, question)
    found = []
    for (kind, _), by_split in places.items():
        if len(by_split) > 1 and kind == "image":
            (first, some), (second, other) = list(by_split.items())[:2]
            found.append(f"the image of {some.question_id} ({first}) is also that of {other.question_id} ({second})")
        elif len(by_split) > 1:
            some = next(iter(by_split.values()))
            if some.cluster not in some.images:
                found.append(f"{some.cluster!r} stands in the splits {', '.join(by_split)}")
    faults = [DataFault(loaded.image_folder, f"leak between splits: {text}") for text in found[:MOST_NAMED]]
    if len(found) > MOST_NAMED:
        faults.append(DataFault(loaded.image_folder, f"and {len(found) - MOST_NAMED} more leaks between splits"))
    return faults


def _lines(questions: Sequence[Question]) -> list[str]:
    counts: Counter[tuple[str, str, str]] = Counter((q.split, q.task, q.kind) for q in questions)
    images = {image for question in questions for image in question.images}
    clusters = {question.cluster for question in questions}
    lines = [f"{len(questions)} questions on {len(images)} images, {len(clusters)} clusters"]
    lines += [f"{split} {task} ({kind}): {count}" for (split, task, kind), count in counts.items()]
    return lines
