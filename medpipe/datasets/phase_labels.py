"""The label tables of REAL-Colon: one row a frame, `frame_filename,GT`, joined to frames by number and never by place.

The traps: frame numbers are not padded (10 comes after 9), files of the video 001-012 end in `.0.jpg` on disk and in
`.jpg` in the table, the caecum has several spellings, and rows may be missing, doubled or without an image.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from medpipe.datasets.tables import read_table
from medpipe.geometry.faults import DataFault
from medpipe.metrics.phases import IGNORED, PHASES, phase_number

COLUMNS = ("frame_filename", "GT")
# SSS-VVV_12.jpg, SSS-VVV_12.0.jpg, frame_000012.png, 12.jpg: the last whole number before the suffix counts.
_FRAME_NAME = re.compile(r"(\d+)(?:\.0)?\.[A-Za-z]{3,4}$")


def frame_number(name: str) -> int | None:
    """The number in a frame's file name; None where there is none."""
    found = _FRAME_NAME.search(Path(name).name)
    return int(found[1]) if found else None


@final
@dataclass(frozen=True, eq=False)
class PhaseLabels:
    """The labels of one video's frames by frame number."""

    path: Path
    by_frame: Mapping[int, int]

    def at(self, frames: Iterable[int]) -> np.ndarray:
        """The labels of frames (T,) int64; IGNORED where the table has no row."""
        return np.array([self.by_frame.get(int(frame), IGNORED) for frame in frames], dtype=np.int64)

    def coverage(self, frames: Iterable[int]) -> "LabelCoverage":
        """How table and frames fit together."""
        there = {int(frame) for frame in frames}
        named = set(self.by_frame)
        return LabelCoverage(
            frames=len(there),
            labelled=len(there & named),
            without_label=tuple(sorted(there - named)),
            without_frame=tuple(sorted(named - there)),
        )


@final
@dataclass(frozen=True)
class LabelCoverage:
    """Frames with and without a label, and rows of the table without a frame: by frame number."""

    frames: int
    labelled: int
    without_label: tuple[int, ...]
    without_frame: tuple[int, ...]

    def frames_text(self) -> str:
        """The same of frames taken at a lower rate: rows of frames in between are no fault and are not told."""
        return LabelCoverage(self.frames, self.labelled, self.without_label, ()).text()

    def text(self) -> str:
        """One sentence; the numbers of some that do not fit."""
        parts = [f"{self.labelled} of {self.frames} frames have a label"]
        for numbers, what in (
            (self.without_label, "frames without a row (ignored)"),
            (self.without_frame, "rows without a frame"),
        ):
            if numbers:
                some = ", ".join(map(str, numbers[:5])) + (" ..." if len(numbers) > 5 else "")
                parts.append(f"{len(numbers)} {what}: {some}")
        return "; ".join(parts)


def read_phase_labels(path: Path) -> PhaseLabels:
    """Read a label table. Raises DataFault: no such column, a name without number, an unknown phase, a frame twice."""
    by_frame: dict[int, int] = {}
    rows_of: dict[int, int] = {}
    for number, row in enumerate(read_table(path, COLUMNS), start=1):
        frame = frame_number(row["frame_filename"])
        if frame is None:
            raise DataFault(path, f"row {number}: no frame number in {row['frame_filename']!r}; expected NAME_12.jpg")
        try:
            phase = phase_number(row["GT"])
        except ValueError as error:
            raise DataFault(path, f"row {number}: {error}") from None
        if frame in by_frame:
            raise DataFault(
                path, f"row {number}: frame {frame} ({row['frame_filename']}) stands already in row {rows_of[frame]}"
            )
        by_frame[frame], rows_of[frame] = phase, number
    return PhaseLabels(path, by_frame)


def write_phase_labels(path: Path, names: Iterable[str], labels: Iterable[int]) -> None:
    """Write a label table in the official form."""
    lines = [
        f"{name},{PHASES[label] if label != IGNORED else 'n.a.'}" for name, label in zip(names, labels, strict=True)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([",".join(COLUMNS), *lines]) + "\n", encoding="utf-8")
