"""Some pictures from all over a video, to find the view in, at a small part of the cost of decoding it."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from medpipe.video.decoding import Decoder, choose_decoder, video_facts, video_slots
from medpipe.video.frame_sources import open_capture, open_container, upright

FEWEST = 12  # key frames that will do: fewer say too little of what moves
SHORT = 3000  # frames: seeking to 24 places decodes about as many


def pictures_all_over(path: Path, count: int, *, decoder: Decoder = "auto") -> list[np.ndarray]:
    """About `count` pictures (H, W, 3) uint8 RGB; where seeking lands does not matter here.

    Raises DataFault: the file cannot be opened or holds no frame.
    """
    facts = video_facts(path)
    if choose_decoder(decoder) == "pyav":
        found = key_frames(path, count)
        if len(found) >= min(FEWEST, count):
            return found
    elif facts.num_frames > SHORT:
        return _sought_by_opencv(path, count, facts.num_frames)
    return list(islice(_spread(path, count, decoder), count))


def _spread(path: Path, count: int, decoder: Decoder) -> Iterator[np.ndarray]:
    """The whole file decoded, a picture every `count`-th part of it; every second where its length is unknown."""
    facts = video_facts(path)
    is_known = facts.num_frames > 0 and facts.header_fps > 0
    rate_hz = count * facts.header_fps / facts.num_frames if is_known else 1.0
    return (slot.image for slot in video_slots(path, rate_hz, decoder=decoder) if slot.image is not None)


def key_frames(path: Path, count: int) -> list[np.ndarray]:
    """The key frames before `count` places all over the file, each once, by PyAV: one frame decoded a place."""
    from av.error import FFmpegError

    pictures: dict[int, np.ndarray] = {}
    with open_container(path) as (container, stream):
        stream.thread_type = "SLICE"  # frames by themselves: threads a frame would each wait for the next one
        for place in np.linspace(0, container.duration or 0, count, endpoint=False):
            try:
                container.seek(int(place) + (container.start_time or 0))
                _add_next(container, stream, pictures)
            except FFmpegError:
                continue
    return [pictures[time] for time in sorted(pictures)]


def _add_next(container: Any, stream: Any, pictures: dict[int, np.ndarray]) -> None:
    """The frame of the next packet, unless it is there already."""
    for packet in container.demux(stream):
        if packet.pts is None or packet.pts in pictures:
            return
        for frame in packet.decode() or stream.codec_context.decode(None):
            if not frame.is_corrupt:
                pictures[packet.pts] = upright(frame)
            return


def _sought_by_opencv(path: Path, count: int, frames: int) -> list[np.ndarray]:
    import cv2

    capture = open_capture(path)
    pictures = []
    for place in np.linspace(0, frames - 1, count).astype(int):
        capture.set(cv2.CAP_PROP_POS_FRAMES, int(place))
        ok, image = capture.read()
        if ok:
            pictures.append(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    capture.release()
    return pictures
