"""Video files, read once from beginning to end by their time stamps: seeking is not exact and six times slower.

OpenCV is in the core; PyAV, an extra, decodes with several threads and gives exact time stamps. Frames that no slot
wants are decoded but not converted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import numpy as np

from medpipe.geometry.faults import DataFault
from medpipe.video.frame_sources import open_capture, opencv_frames, pyav_frames
from medpipe.video.slots import EPSILON_S, Slot

Decoder = Literal["auto", "opencv", "pyav"]


@final
@dataclass(frozen=True)
class VideoFacts:
    """What a file says of itself, and what its time stamps say: frames a second by header and measured."""

    header_fps: float
    num_frames: int  # a guess of the header
    width: int
    height: int


def choose_decoder(decoder: Decoder) -> Literal["opencv", "pyav"]:
    """PyAV where it is installed, else OpenCV, unless one is asked for. Raises ValueError: asked for and not there."""
    if decoder == "opencv":
        return "opencv"
    try:
        import av  # noqa: F401
    except ImportError:
        if decoder == "pyav":
            raise ValueError("decoder: pyav is not installed; pip install 'medpipe[video]', or use opencv") from None
        return "opencv"
    return "pyav"


def video_facts(path: Path) -> VideoFacts:
    """Header of a file. Raises DataFault: it cannot be opened."""
    import cv2

    capture = open_capture(path)
    try:
        wanted = (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        count, width, height = (int(capture.get(prop)) for prop in wanted)
        return VideoFacts(float(capture.get(cv2.CAP_PROP_FPS)), max(count, 0), width, height)
    finally:
        capture.release()


def video_slots(path: Path, rate_hz: float, *, first_slot: int = 0, decoder: Decoder = "auto") -> Iterator[Slot]:
    """Every slot of a video file from `first_slot` on, in order; slots without a frame are there, not valid.

    Raises DataFault: the file cannot be opened or holds no frame.
    """
    frames = opencv_frames if choose_decoder(decoder) == "opencv" else pyav_frames
    expected, start = first_slot, None
    for number, (time, fetch) in enumerate(frames(path)):
        start = time if start is None else start
        elapsed = time - start
        slot = int(np.floor((elapsed + EPSILON_S) * rate_hz))
        if slot < expected:
            continue
        for empty in range(expected, slot):
            yield Slot(empty, empty / rate_hz, -1, None, "no frame is shown in this slot")
        image, fault = fetch()
        yield Slot(slot, slot / rate_hz, number if image is not None else -1, image, fault)
        expected = slot + 1
    if start is None:
        raise DataFault(path, "a video without any frame")
