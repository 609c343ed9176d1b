"""The frames of a video file in order, by OpenCV or PyAV: when each is shown, and a function that gives its picture.

Pictures are the same from either, upright where the file says that they are turned. Frames that nobody fetches are
decoded but not converted.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from medpipe.geometry.faults import DataFault

CANNOT_BE_OPENED = "cannot be opened as a video: cut off (no index), damaged, or of an unknown codec"
USUAL_FPS = 25.0  # of files that tell neither times nor a rate
OUT_OF_ORDER_S = 1.0  # a time that falls back further has started anew
TICK_S = 1e-6
MOST_FAILED = 250  # grabs in a row: a header may promise frames that are not there
logger = logging.getLogger(__name__)

Fetch = Callable[[], tuple[np.ndarray | None, str]]  # (H, W, 3) uint8 RGB, or None and what is wrong
Frame = tuple[float | None, Fetch]  # shown at, in s; None where the file does not tell


def rising(frames: Iterator[Frame], fps: float, path: Path) -> Iterator[tuple[float, Fetch]]:
    """The frames with times that rise.

    A time that is missing, or starts anew as where recordings were joined, becomes the rate's next one. A frame that
    stands a little behind the one before is out of order by itself: it follows at once, and time goes on as it was.
    """
    last: float | None = None
    replaced, was_behind = 0, False
    for given, fetch in frames:
        following = 0.0 if last is None else last + 1 / fps
        time = following if given is None else given
        is_behind = last is not None and time <= last
        if last is not None and is_behind:
            is_alone = not was_behind and last - time < OUT_OF_ORDER_S
            time = last + TICK_S if is_alone else following
        replaced += time != given
        last, was_behind = time, is_behind
        yield time, fetch
    if replaced:
        logger.warning("%s: %d frames without a time stamp, or with one that does not rise, are put in by the rate of "
                       "%g frames a second", path, replaced, fps)  # fmt: skip


def open_capture(path: Path) -> Any:
    """An OpenCV capture. Raises DataFault."""
    import cv2

    if not path.is_file():
        raise DataFault(path, "no such file")
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise DataFault(path, CANNOT_BE_OPENED)
    return capture


def opencv_frames(path: Path) -> Iterator[tuple[float, Fetch]]:
    """Every frame by OpenCV."""
    import cv2

    capture = open_capture(path)
    try:
        yield from rising(_grabbed(capture), capture.get(cv2.CAP_PROP_FPS) or USUAL_FPS, path)
    finally:
        capture.release()


def _grabbed(capture: Any) -> Iterator[Frame]:
    """A picture is to be fetched before the next frame is asked for."""
    import cv2

    def fetch() -> tuple[np.ndarray | None, str]:
        ok, image = capture.retrieve()
        return (cv2.cvtColor(image, cv2.COLOR_BGR2RGB), "") if ok else (None, "the frame cannot be decoded")

    failed, expected = 0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    # A grab fails at a damaged frame as it does at the end: go on as long as the header promises more.
    while failed < MOST_FAILED:
        if capture.grab():
            failed = 0
            yield capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, fetch
        elif capture.get(cv2.CAP_PROP_POS_FRAMES) >= expected:
            return
        else:
            failed += 1


@contextmanager
def open_container(path: Path) -> Iterator[tuple[Any, Any]]:
    """A PyAV container and its first video stream. Raises DataFault."""
    import av
    from av.error import FFmpegError

    if not path.is_file():
        raise DataFault(path, "no such file")
    try:
        container = av.open(str(path))
    except (FFmpegError, OSError) as error:
        raise DataFault(path, f"{CANNOT_BE_OPENED} ({error})") from None
    with container:
        if not container.streams.video:
            raise DataFault(path, "no video stream in it")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"  # twice as fast
        yield container, stream


def pyav_frames(path: Path) -> Iterator[tuple[float, Fetch]]:
    """Every frame by PyAV."""
    with open_container(path) as (container, stream):
        fps = float(stream.average_rate or stream.guessed_rate or USUAL_FPS)
        yield from rising(_decoded(container, stream, path), fps, path)


def _decoded(container: Any, stream: Any, path: Path) -> Iterator[Frame]:
    """Damaged packets lose their own frames alone."""
    from av.error import FFmpegError

    packets, broken, reason = container.demux(stream), 0, ""
    while True:
        try:
            packet = next(packets, None)
        except FFmpegError as error:
            logger.warning("%s: the file cannot be read to its end: %s", path, error)
            break
        if packet is None:
            break
        try:
            frames = packet.decode()
        except FFmpegError as error:
            broken, reason = broken + 1, str(error)
            continue
        for frame in frames:
            yield (None if frame.time is None else float(frame.time)), _fetch_of(frame)
    if broken:
        logger.warning("%s: %d damaged packets are left out, time goes on: %s", path, broken, reason)


def _fetch_of(frame: Any) -> Fetch:
    return lambda: (None, "the frame is damaged") if frame.is_corrupt else (upright(frame), "")


def upright(frame: Any) -> np.ndarray:
    """A PyAV frame as (H, W, 3) uint8 RGB, turned as the file says it is to be shown (OpenCV does so by itself)."""
    picture = frame.to_ndarray(format="rgb24")
    quarters = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(picture, quarters)) if quarters else picture
