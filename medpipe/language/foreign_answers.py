"""Files of answers in any form: medpipe's own, JSON Lines and tables of others, prediction arrays of Colon-X."""

from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, final

import numpy as np

from medpipe.datasets.question_files import read_entries
from medpipe.datasets.question_formats import IMAGE_MARKER, images_of, text_of
from medpipe.datasets.questions import made_id
from medpipe.geometry.faults import DataFault, DataFaults
from medpipe.language.answer_file import read_answers

ID_KEYS = ("question_id", "id", "index")
ANSWER_KEYS = ("answer", "predicted_answer", "prediction", "response", "output")


def iter_answers(path: Path) -> Iterator[dict[str, Any]]:
    """Records with `question_id`, `answer`, `status`, `finish_reason`, whatever the file calls them.

    Raises DataFault or DataFaults: missing, broken lines, no id, no answer, two predictions of one entry.
    """
    if path.is_dir():
        path = path / "answers.jsonl"
    if path.suffix == ".jsonl":
        for number, record in enumerate(read_answers(path), start=1):
            yield standard(record, path, f"line {number}")
        return
    faults: list[DataFault] = []
    records = []
    for place, entry in read_entries(path, faults):
        try:
            records.append(standard(entry, path, place))
        except DataFault as fault:
            faults.append(fault)
    if faults:
        raise DataFaults(faults)
    yield from records


def standard(entry: Mapping[str, Any], path: Path, place: str) -> dict[str, Any]:
    """One record in medpipe's form."""
    if "conversations" in entry:
        return _colon_x(entry, path, place)
    id_key = next((key for key in ID_KEYS if entry.get(key) not in (None, "")), None)
    answer_key = next((key for key in ANSWER_KEYS if key in entry), None)
    if id_key is None or answer_key is None:
        missing = "id" if id_key is None else "answer"
        expected = ", ".join(ID_KEYS if id_key is None else ANSWER_KEYS)
        raise DataFault(path, f"{place}: no {missing}; expected one of {expected}, got the keys {', '.join(entry)}")
    return {
        "question_id": str(entry[id_key]),
        "answer": entry[answer_key],
        "status": entry.get("status", "answered"),
        "finish_reason": entry.get("finish_reason"),
    }


def _colon_x(entry: Mapping[str, Any], path: Path, place: str) -> dict[str, Any]:
    """A prediction array: after the released engine has judged it, the model's turn is called `prediction_ori`."""
    turns = [turn for turn in entry["conversations"] if isinstance(turn, dict)]
    for speaker in ("prediction_ori", "prediction"):
        found = [turn for turn in turns if turn.get("from") == speaker]
        if len(found) > 1:
            raise DataFault(path, f"{place}: {len(found)} turns from {speaker!r}, expected one")
        if found:
            break
    else:
        raise DataFault(path, f"{place}: no turn from 'prediction'")
    human = next((turn for turn in turns if turn.get("from") == "human"), None)
    try:
        text = IMAGE_MARKER.sub("", text_of(human or {}, "value")).strip()
        question_id = made_id(images_of(entry.get("image")), text)
    except ValueError as error:
        raise DataFault(path, f"{place}: {error}") from None
    return {"question_id": question_id, "answer": found[0].get("value"), "status": "answered", "finish_reason": None}


@final
class AnswersByQuestion:
    """Answers found by question while both files are read once: what comes in another order waits in memory."""

    def __init__(self, answers: Iterator[dict[str, Any]], source: Path) -> None:
        self.answers, self.source = answers, source
        self.waiting: dict[str, dict[str, Any]] = {}
        self.hashes = array("q")  # of all ids: a million of them as text would take a third of the memory allowed

    def take(self, question_id: str) -> dict[str, Any] | None:
        """The answer to the question, or None where the file has none."""
        if question_id in self.waiting:
            return self.waiting.pop(question_id)
        for record in self.answers:
            self.hashes.append(hash(record["question_id"]))
            if record["question_id"] == question_id:
                return record
            self.waiting[record["question_id"]] = record
        return None

    def rest(self) -> list[str]:
        """Questions that were answered and never taken. Raises DataFault where a question has two answers."""
        for record in self.answers:
            self.hashes.append(hash(record["question_id"]))
            self.waiting[record["question_id"]] = record
        ordered = np.sort(np.frombuffer(self.hashes, dtype=np.int64)) if self.hashes else np.empty(0, dtype=np.int64)
        twice = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
        if twice:
            found = next(r["question_id"] for r in iter_answers(self.source) if hash(r["question_id"]) in twice)
            raise DataFault(self.source, f"two answers to the question {found}; keep one")
        return list(self.waiting)
