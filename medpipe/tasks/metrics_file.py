"""metrics.csv: one row a step, flushed as it is written, cut back to the step that a training resumes from."""

import csv
import os
from pathlib import Path
from typing import final

METRICS_FILE = "metrics.csv"


@final
class MetricsFile:
    """Rows of figures by step. Columns may be added later; the file is then rewritten whole."""

    def __init__(self, folder: Path, resumed_step: int) -> None:
        """Keep the rows up to `resumed_step`; later ones are of a run that was killed after its last save."""
        self.path = folder / METRICS_FILE
        self.columns: list[str] = ["step", "loss", "learning_rate"]
        rows = [row for row in self._read() if int(row["step"]) <= resumed_step]
        self._rewrite(rows)

    def add(self, step: int, figures: dict[str, float]) -> None:
        """Append one row and hand it to the operating system."""
        new = [name for name in figures if name not in self.columns]
        if new:
            rows = self._read()
            self._file.close()
            self.columns += new
            self._rewrite(rows)
        self._writer.writerow({"step": step, **{name: repr(float(value)) for name, value in figures.items()}})
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _read(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        text = self.path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]  # a killed run may have left half a row
        reader = csv.DictReader(whole.splitlines())
        rows = list(reader)
        self.columns += [name for name in reader.fieldnames or () if name not in self.columns]
        return rows

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self.columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        os.replace(temporary, self.path)
        self._file = self.path.open("a", encoding="utf-8", newline="")
        self._writer = csv.DictWriter(self._file, self.columns, restval="", lineterminator="\n")
