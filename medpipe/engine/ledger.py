"""What a run's directory says of each stage: not begun, begun with these values, or done with these outputs.

`begun.json` is written before a stage works, `done.json` after: both hold the stage's fingerprint. A stage whose values
changed is not deleted: its folder moves to `superseded/`, and comes back when the old values do.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from medpipe.stages.stage import write_json

State = Literal["new", "begun", "done", "damaged", "changed"]
OWN_FILES = {"begun.json", "done.json", "log.jsonl"}


@dataclass(frozen=True)
class StageLedger:
    """The ledger of one stage: `<run>/<stage>/`."""

    run_folder: Path
    name: str

    @property
    def folder(self) -> Path:
        return self.run_folder / self.name

    def state(self, fingerprint: str) -> State:
        """What the folder holds for a stage with this fingerprint."""
        done = read_json(self.folder / "done.json")
        if done is not None:
            if done["fingerprint"] != fingerprint:
                return "changed"
            return "done" if self.damaged() is None else "damaged"
        begun = read_json(self.folder / "begun.json")
        if begun is None:
            return "changed" if self.folder.is_dir() and any(self.folder.iterdir()) else "new"
        return "begun" if begun["fingerprint"] == fingerprint else "changed"

    def damaged(self) -> str | None:
        """The first output that is missing or has another size than when the stage was done; None if all are there."""
        done = read_json(self.folder / "done.json") or {"outputs": {}}
        for name, facts in done["outputs"].items():
            path = self.folder / name
            if not path.is_file() or path.stat().st_size != facts["bytes"]:
                return name
        return None

    def begin(self, fingerprint: str, facts: dict[str, Any]) -> State:
        """Make the folder ready for work with this fingerprint.

        A folder of other values moves aside, an earlier one of these values comes back.
        """
        state = self.state(fingerprint)
        if state in ("changed", "new"):
            self.set_aside()
            earlier = self._superseded(fingerprint)
            if earlier.is_dir():
                os.replace(earlier, self.folder)
                state = self.state(fingerprint)
                if state == "done":
                    return state
        if state == "damaged":
            (self.folder / "done.json").unlink()
        self.folder.mkdir(parents=True, exist_ok=True)
        begun = read_json(self.folder / "begun.json") or {"fingerprint": fingerprint, "starts": []}
        begun["starts"].append(facts)
        write_json(self.folder / "begun.json", begun)
        return "begun" if len(begun["starts"]) > 1 else "new"

    def set_aside(self) -> Path | None:
        """Move the folder to `superseded/<stage>-<fingerprint>`; an empty or missing one is simply taken away."""
        if not self.folder.is_dir():
            return None
        facts = read_json(self.folder / "done.json") or read_json(self.folder / "begun.json")
        if facts is None and not any(self.folder.iterdir()):
            self.folder.rmdir()
            return None
        target = self._superseded(facts["fingerprint"] if facts else "unknown")
        if target.exists():
            shutil.rmtree(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self.folder, target)
        return target

    def discard(self, fingerprint: str) -> None:
        """Set the folder aside, and take away any result of these values: a forced stage must not get it back."""
        self.set_aside()
        shutil.rmtree(self._superseded(fingerprint), ignore_errors=True)

    def end_start(self, number: str, outcome: str) -> None:
        """Say how a start ended; until then it counts as killed."""
        begun = read_json(self.folder / "begun.json")
        if begun is None:
            return
        for start in begun["starts"]:
            if start.get("id") == number:
                start["outcome"] = outcome
        write_json(self.folder / "begun.json", begun)

    def finish(self, fingerprint: str, facts: dict[str, Any]) -> None:
        """Write `done.json` with the checksum of every output."""
        outputs = {
            str(path.relative_to(self.folder)): {"bytes": path.stat().st_size, "sha256": checksum(path)}
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and path.name not in OWN_FILES and not path.name.startswith((".", "log-part-"))
        }
        begun = read_json(self.folder / "begun.json") or {}
        write_json(
            self.folder / "done.json",
            {"fingerprint": fingerprint, **facts, "starts": begun.get("starts", []), "outputs": outputs},
        )

    def finish_part(self, fingerprint: str, part: tuple[int, int], facts: dict[str, Any]) -> None:
        """Note that one job's share of the stage is done: `.part-<number>-of-<count>.json`."""
        write_json(self._part(part), {"fingerprint": fingerprint, **facts})

    def part_is_done(self, fingerprint: str, part: tuple[int, int]) -> bool:
        """Whether that share was finished with this fingerprint."""
        return (read_json(self._part(part)) or {}).get("fingerprint") == fingerprint

    def seconds_of_parts(self, count: int) -> float:
        """What the jobs of an array spent together."""
        return sum((read_json(self._part((index, count))) or {}).get("seconds", 0.0) for index in range(count))

    def parts_done(self) -> int:
        """How many shares are done, whatever their fingerprint: for a look from outside."""
        return len(list(self.folder.glob(".part-*-of-*.json")))

    def done(self) -> dict[str, Any]:
        """The content of `done.json`; empty where the stage is not done."""
        return read_json(self.folder / "done.json") or {}

    def _part(self, part: tuple[int, int]) -> Path:
        return self.folder / f".part-{part[0] + 1}-of-{part[1]}.json"

    def _superseded(self, fingerprint: str) -> Path:
        return self.run_folder / "superseded" / f"{self.name}-{fingerprint[:12]}"


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in `path`; None where there is no such file. A broken file is a ValueError that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is not readable as JSON ({error}); move the stage's folder away to repeat it"
        ) from error


def checksum(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
