"""Courses of phases as people and tools leave them, one table a video, brought to one time axis two by two.

time_s,phase[,confidence]   a row a step of a model's time axis: what medpipe predicts
start_s,phase               a row a segment; where the last one ends it does not say
frame_filename,GT           a row a frame, as REAL-Colon is labelled; the frame rate stands elsewhere
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from medpipe.datasets.label_axis import SegmentLabels, read_segment_labels
from medpipe.datasets.phase_labels import COLUMNS, PhaseLabels, read_phase_labels
from medpipe.datasets.tables import read_table
from medpipe.geometry.faults import DataFault
from medpipe.metrics.phases import IGNORED, phase_number
from medpipe.video.slots import EPSILON_S

FORMS = ("time_s,phase", "start_s,phase", "frame_filename,GT")
TIME_TOLERANCE_S = 2e-3  # tables are written to the millisecond
MOST_CUT_S = 1.0  # a prediction may end so much before or after the labels: a slot at 1 Hz


@final
@dataclass(frozen=True, eq=False)
class Axis:
    """Phases (T,) at rising times (T,), with the predicted phase's probability where a table has one."""

    times_s: np.ndarray
    phases: np.ndarray
    confidence: np.ndarray | None


Course = Axis | SegmentLabels | PhaseLabels


def is_course(path: Path) -> bool:
    """Whether a file is a table of phases, by its header."""
    if path.suffix.lower() not in (".csv", ".tsv") or not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        header = file.readline().replace(";", ",").replace("\t", ",")
    names = {name.strip().strip('"') for name in header.split(",")}
    return any(names >= set(form.split(",")) for form in FORMS)


def course_tables(folder: Path) -> dict[str, Path]:
    """Video -> its table, for the tables of phases in a folder. Raises DataFault: two tables of one video."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not is_course(path):
            continue
        if path.stem in found:
            raise DataFault(path, f"the video {path.stem} has another table, {found[path.stem].name}")
        found[path.stem] = path
    return found


def read_course(path: Path) -> Course:
    """A table of any of the three forms. Raises DataFault by row."""
    if not path.is_file():
        raise DataFault(path, "no such file")
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        header = file.readline()
    if "start_s" in header:
        return read_segment_labels(path)
    if COLUMNS[0] in header:
        return read_phase_labels(path)
    return _read_axis(path)


def _read_axis(path: Path) -> Axis:
    times: list[float] = []
    phases: list[int] = []
    sure: list[float] = []
    for number, row in enumerate(read_table(path, ("time_s", "phase")), start=1):
        try:
            times.append(float(row["time_s"]))
            phases.append(phase_number(row["phase"]))
            sure.append(float(row.get("confidence") or "nan"))
        except ValueError as error:
            raise DataFault(path, f"row {number}: {error}") from None
        if not math.isfinite(times[-1]) or (len(times) > 1 and times[-1] <= times[-2]):
            raise DataFault(path, f"row {number}: the times do not rise, {times[-2:]} s")
        if not math.isnan(sure[-1]) and not 0 <= sure[-1] <= 1:
            raise DataFault(path, f"row {number}: confidence {sure[-1]:g} is no probability")
    if not times:
        raise DataFault(path, "no row in it")
    confidence = np.array(sure)
    known = None if np.isnan(confidence).any() else confidence
    return Axis(np.array(times), np.array(phases, dtype=np.int64), known)


def on_one_axis(
    predicted: Path, reference: Path, fps: float | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """times_s, reference, prediction (T,) and the prediction's confidence, of two tables of one video.

    The axis is the prediction's where it has one, else the reference's. Raises DataFault with the file that does not
    fit: another length, other times, frames without a prediction, a frame without a phase, an unknown frame rate.
    """
    pred, ref = read_course(predicted), read_course(reference)
    if isinstance(pred, PhaseLabels) and isinstance(ref, PhaseLabels):
        return _by_frame(pred, ref, fps)
    axis = next((course for course in (pred, ref) if isinstance(course, Axis)), None)
    times = axis.times_s if axis is not None else _frame_times(pred, ref, fps)
    found = _at(pred, predicted, times, fps)
    if np.any(found == IGNORED):
        at = int(np.argmax(found == IGNORED))
        raise DataFault(predicted, f"no phase is named at {times[at]:g} s: a prediction must name one everywhere")
    return times, _at(ref, predicted, times, fps), found, pred.confidence if isinstance(pred, Axis) else None


def _at(course: Course, predicted: Path, times_s: np.ndarray, fps: float | None) -> np.ndarray:
    """The phases of a course at times (T,); `predicted`: the file that is named where lengths differ."""
    if isinstance(course, SegmentLabels):
        return course.at_times(times_s)
    if isinstance(course, Axis):
        if len(course.times_s) != len(times_s) or np.abs(course.times_s - times_s).max() > TIME_TOLERANCE_S:
            spans = " and ".join(f"{len(t)} rows from {t[0]:g} to {t[-1]:g} s" for t in (course.times_s, times_s))
            raise DataFault(predicted, f"prediction and reference are not on one time axis: {spans}")
        return course.phases
    rate = _rate(course.path, fps)
    first, last = min(course.by_frame), max(course.by_frame)
    length_s = (last - first) / rate
    if abs(length_s - times_s[-1]) > MOST_CUT_S:
        raise DataFault(
            predicted,
            f"{length_s:.1f} s of frames at {rate:g} a second in {course.path}, {times_s[-1]:.1f} s on the other side",
        )
    return course.at(np.ceil((times_s - EPSILON_S) * rate).astype(np.int64) + first)


def _by_frame(
    pred: PhaseLabels, ref: PhaseLabels, fps: float | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, None]:
    """Both a row a frame: joined by number, never by place."""
    numbers = np.array(sorted(ref.by_frame), dtype=np.int64)
    coverage = ref.coverage(pred.by_frame)
    for missing, what in (
        (coverage.without_frame, "frames of the reference have no prediction"),
        (coverage.without_label, "predicted frames are not in the reference"),
    ):
        if missing:
            some = ", ".join(map(str, missing[:5])) + (" ..." if len(missing) > 5 else "")
            raise DataFault(pred.path, f"{len(missing)} {what}: {some}")
    found = pred.at(numbers)
    if np.any(found == IGNORED):
        frame = numbers[np.argmax(found == IGNORED)]
        raise DataFault(pred.path, f"frame {frame}: a prediction must name a phase")
    return (numbers - numbers[0]) / _rate(pred.path, fps), ref.at(numbers), found, None


def _frame_times(pred: Course, ref: Course, fps: float | None) -> np.ndarray:
    """The times of the frames of whichever side has a row a frame."""
    table = next((course for course in (pred, ref) if isinstance(course, PhaseLabels)), None)
    if table is None:
        assert isinstance(pred, SegmentLabels)
        raise DataFault(pred.path, "segments against segments: neither table says how long the video is")
    numbers = np.arange(min(table.by_frame), max(table.by_frame) + 1)
    return (numbers - numbers[0]) / _rate(table.path, fps)


def _rate(path: Path, fps: float | None) -> float:
    if fps is None:
        raise DataFault(path, "a row a frame, and nothing says how many frames a second there are; give --fps")
    return fps
