"""Labels of either form brought to a model's time axis: a row a frame by number, or a row a segment by its start."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from medpipe.datasets.phase_labels import COLUMNS, PhaseLabels, read_phase_labels
from medpipe.datasets.tables import read_table
from medpipe.geometry.atomic import written_beside
from medpipe.geometry.faults import DataFault
from medpipe.metrics.phases import IGNORED, phase_name, phase_number

SEGMENT_COLUMNS = ("start_s", "phase")
AXIS_COLUMNS = ("time_s", "phase")


@final
@dataclass(frozen=True, eq=False)
class SegmentLabels:
    """Starts of segments in seconds, rising, and their phases; before the first start nothing is known."""

    path: Path
    starts_s: np.ndarray
    phases: np.ndarray

    def at_times(self, times_s: np.ndarray) -> np.ndarray:
        """The labels at times (T,)."""
        index = np.searchsorted(self.starts_s, times_s, side="right") - 1
        return np.where(index < 0, IGNORED, self.phases[np.maximum(index, 0)])


@final
@dataclass(frozen=True, eq=False)
class VideoLabels:
    """The labels of one video, of either form."""

    frames: PhaseLabels | None
    segments: SegmentLabels | None

    def on(self, times_s: np.ndarray, frame_numbers: np.ndarray) -> np.ndarray:
        """The labels (T,) of slots shown at times_s with these source frames (-1: a slot without a frame)."""
        if self.frames is not None:
            return self.frames.at(frame_numbers)
        assert self.segments is not None
        return self.segments.at_times(times_s)

    def text(self) -> str:
        """What the table holds, in a few words."""
        if self.frames is not None:
            ignored = sum(phase == IGNORED for phase in self.frames.by_frame.values())
            return f"{len(self.frames.by_frame)} labelled frames, {ignored} of them ignored"
        assert self.segments is not None
        return f"{len(self.segments.starts_s)} labelled segments"


def read_labels(path: Path) -> VideoLabels:
    """Read a label table of either form, told apart by its header. Raises DataFault."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        header = file.readline()
    if "start_s" in header:
        return VideoLabels(None, read_segment_labels(path))
    if COLUMNS[0] not in header:
        raise DataFault(path, f"expected the columns {', '.join(COLUMNS)} or {', '.join(SEGMENT_COLUMNS)}")
    return VideoLabels(read_phase_labels(path), None)


def read_segment_labels(path: Path) -> SegmentLabels:
    """Read a table start_s,phase. Raises DataFault: a start that is no number or does not rise, an unknown phase."""
    starts: list[float] = []
    phases: list[int] = []
    for number, row in enumerate(read_table(path, SEGMENT_COLUMNS), start=1):
        try:
            start, phase = float(row["start_s"]), phase_number(row["phase"])
        except ValueError as error:
            raise DataFault(path, f"row {number}: {error}") from None
        if starts and not start > starts[-1]:
            raise DataFault(path, f"row {number}: {start:g} s does not come after {starts[-1]:g} s")
        starts.append(start)
        phases.append(phase)
    if not starts:
        raise DataFault(path, "no segment in it")
    return SegmentLabels(path, np.array(starts), np.array(phases, dtype=np.int64))


def write_axis_labels(path: Path, times_s: Sequence[float] | np.ndarray, labels: np.ndarray) -> None:
    """Write labels on a model's time axis: time_s,phase."""
    with written_beside(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(AXIS_COLUMNS)
        rows.writerows((f"{time:.3f}", phase_name(int(label))) for time, label in zip(times_s, labels, strict=True))


def read_axis_labels(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Times (T,) and labels (T,) of such a file. Raises DataFault by row."""
    times: list[float] = []
    labels: list[int] = []
    for number, row in enumerate(read_table(path, AXIS_COLUMNS), start=1):
        try:
            times.append(float(row["time_s"]))
            labels.append(phase_number(row["phase"]))
        except ValueError as error:
            raise DataFault(path, f"row {number}: {error}") from None
    return np.array(times), np.array(labels, dtype=np.int64)
