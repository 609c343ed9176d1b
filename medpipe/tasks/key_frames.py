"""One picture for each predicted segment of a procedure, chosen so that nothing private can be on it.

Frames that anybody takes for `outside` (a network under any decoding, or the reference) are left out, two seconds
around them as well; of the others only the endoscope's view is shown, since names and clocks are burned in beside it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np

from medpipe.metrics.phases import OUTSIDE
from medpipe.metrics.temporal import segments_of
from medpipe.tasks.procedure_reading import ProcedureReader
from medpipe.video.decoding import open_capture
from medpipe.video.field_of_view import FieldOfView
from medpipe.video.frame_folders import FrameFolder, read_image
from medpipe.video.slots import EPSILON_S

MARGIN_S = 2.0
# A frame this far from the time that was chosen still lies well within the margin.
NEAR_S = 0.5
BACK_S = (0.0, 5.0, 30.0, float("inf"))  # where a seek lands after the frame, it is tried again from so far before
PICTURE_HEIGHT = 132  # pixels


@final
@dataclass(frozen=True, eq=False)
class KeyFrame:
    """A predicted segment and the picture that stands for it; without one, `reason` says why."""

    phase: int
    start_s: float
    stop_s: float
    time_s: float | None = None
    image: np.ndarray | None = None  # (H, W, 3) uint8
    reason: str = ""


def away_from_outside(times_s: np.ndarray, courses: Iterable[np.ndarray], *, margin_s: float = MARGIN_S) -> np.ndarray:
    """Which frames (T,) lie more than `margin_s` from every frame that one of the courses (T,) calls outside."""
    is_outside = np.zeros(len(times_s), dtype=bool)
    for course in courses:
        is_outside |= course == OUTSIDE
    outside_s = times_s[is_outside]
    if not outside_s.size:
        return np.ones(len(times_s), dtype=bool)
    after = np.searchsorted(outside_s, times_s)
    before_s = times_s - outside_s[np.maximum(after - 1, 0)]
    until_s = outside_s[np.minimum(after, len(outside_s) - 1)] - times_s
    # A frame before the first outside one has a negative distance to it, and the other way round.
    return (np.abs(before_s) > margin_s) & (np.abs(until_s) > margin_s)


def choose_key_frames(
    times_s: np.ndarray, course: np.ndarray, confidence: np.ndarray | None, is_allowed: np.ndarray
) -> list[KeyFrame]:
    """A frame a segment of `course` (T,): the surest of those allowed, of equally sure ones that nearest the middle."""
    chosen = []
    for segment in segments_of(course):
        span = np.arange(segment.start, segment.stop)
        stop_s = float(times_s[min(segment.stop, len(times_s) - 1)])
        frame = KeyFrame(segment.phase, float(times_s[segment.start]), stop_s)
        there = span[is_allowed[span]]
        if not there.size:
            chosen.append(replace(frame, reason="outside, or near it"))
            continue
        sure = np.zeros(len(there)) if confidence is None else np.round(confidence[there], 2)
        from_middle = np.abs(there - (segment.start + segment.stop - 1) / 2)
        best = there[np.lexsort((from_middle, -sure))[0]]
        chosen.append(replace(frame, time_s=float(times_s[best])))
    return chosen


def with_pictures(frames: Sequence[KeyFrame], reader: ProcedureReader, view: FieldOfView) -> list[KeyFrame]:
    """The frames with their pictures: the view alone, small. Without a view that was found there is none."""
    wanted = [frame.time_s for frame in frames if frame.time_s is not None]
    if not view.found:
        return [replace(frame, time_s=None, reason=frame.reason or "no field of view was found") for frame in frames]
    pictures = of_folder(reader.folder, wanted) if reader.folder is not None else of_file(reader, wanted)
    return [_with(frame, pictures, view) for frame in frames]


def _with(frame: KeyFrame, pictures: Mapping[float, np.ndarray], view: FieldOfView) -> KeyFrame:
    if frame.time_s is None:
        return frame
    picture = pictures.get(frame.time_s)
    if picture is None:
        return replace(frame, time_s=None, reason="no frame there")
    return replace(frame, image=small(view.apply(picture)))


def small(image: np.ndarray) -> np.ndarray:
    """At most PICTURE_HEIGHT high."""
    import cv2

    height, width = image.shape[:2]
    if height <= PICTURE_HEIGHT:
        return image
    return cv2.resize(image, (round(width * PICTURE_HEIGHT / height), PICTURE_HEIGHT), interpolation=cv2.INTER_AREA)


def of_folder(folder: FrameFolder, times_s: Sequence[float]) -> dict[float, np.ndarray]:
    """The first readable frame at each time or right after it."""
    first = min(folder.files)
    found = {}
    for time_s in times_s:
        lowest = int(np.ceil((time_s - EPSILON_S) * folder.fps)) + first
        for number in range(lowest, lowest + int(NEAR_S * folder.fps) + 1):
            image = read_image(folder.files[number])[0] if number in folder.files else None
            if image is not None:
                found[time_s] = image
                break
    return found


def of_file(reader: ProcedureReader, times_s: Sequence[float]) -> dict[float, np.ndarray]:
    """The frames of a video file by their time stamps: a seek is not trusted, the stamp of what it gave is."""
    import cv2

    capture = open_capture(reader.source.path)
    try:
        capture.grab()
        start_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        found = {}
        for time_s in times_s:
            image = _seek(capture, start_s, time_s)
            if image is not None:
                found[time_s] = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        return found
    finally:
        capture.release()


def _seek(capture: Any, start_s: float, time_s: float) -> np.ndarray | None:
    """The first frame shown at `time_s` after the start, or up to NEAR_S later; None where there is none."""
    import cv2

    for back_s in BACK_S:
        capture.set(cv2.CAP_PROP_POS_MSEC, max(0.0, start_s + time_s - back_s) * 1000)
        is_first = True
        while capture.grab():
            now_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 - start_s
            if time_s - EPSILON_S <= now_s <= time_s + NEAR_S:
                ok, image = capture.retrieve()
                return image if ok else None
            if now_s > time_s:
                if is_first:  # landed after what was shown at the time
                    break
                return None
            is_first = False
    return None
