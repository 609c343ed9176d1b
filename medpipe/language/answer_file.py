"""Answers as JSON Lines: appended one at a time, read back after any end, put in order when all are there."""

import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, final

from medpipe.geometry.atomic import written_beside
from medpipe.geometry.faults import DataFault

PARTIAL_FILE, ANSWERS_FILE = "answers.partial.jsonl", "answers.jsonl"


@final
class AnswerLog:
    """Answers of a stage that works. A line that a killed process left unfinished is cut off when it is opened
    again."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / PARTIAL_FILE
        self.offsets: dict[str, int] = {}  # question -> where its last answer stands
        self.failed: set[str] = set()
        self.keys: dict[str, str] = {}
        if self.path.exists():
            self._read_back()
        self.file = self.path.open("ab")
        self.synced = time.monotonic()

    def _read_back(self) -> None:
        with self.path.open("r+b") as file:
            offset = 0
            for line in file:
                if not line.endswith(b"\n"):
                    file.truncate(offset)
                    break
                try:
                    self._note(json.loads(line), offset)
                except ValueError as error:
                    raise DataFault(self.path, f"broken line at byte {offset}: {error}; remove that line") from None
                offset += len(line)

    def _note(self, record: dict[str, Any], offset: int) -> None:
        question = record["question_id"]
        self.offsets[question], self.keys[question] = offset, record["key"]
        (self.failed.add if record["status"] == "failed" else self.failed.discard)(question)

    def holds(self, question_id: str, key: str) -> bool:
        """Whether that very request was answered; a failed one is to be asked again."""
        return self.keys.get(question_id) == key and question_id not in self.failed

    def append(self, record: dict[str, Any]) -> None:
        """Write one answer; it survives the end of this process at once, that of the machine within a second."""
        offset = self.file.tell()
        self.file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
        self.file.flush()
        self._note(record, offset)
        if time.monotonic() - self.synced > 1.0:
            os.fsync(self.file.fileno())
            self.synced = time.monotonic()

    def finish(self, question_ids: Sequence[str]) -> Path:
        """Write answers.jsonl, one line a question in the given order, and take the working file away."""
        self.close()
        target = self.path.with_name(ANSWERS_FILE)
        with written_beside(target) as partial, partial.open("wb") as ordered, self.path.open("rb") as file:
            for question_id in question_ids:
                file.seek(self.offsets[question_id])
                ordered.write(file.readline())
        self.path.unlink()
        return target

    def close(self) -> None:
        self.file.close()


def read_answers(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file of answers. Raises DataFault with the line that is broken."""
    if not path.is_file():
        raise DataFault(path, "no such file of answers")
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise DataFault(path, f"line {number}: not JSON ({error})") from None
            if not isinstance(record, dict):
                raise DataFault(path, f"line {number}: expected an object, got {type(record).__name__}")
            yield record
