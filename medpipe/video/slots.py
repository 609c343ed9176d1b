"""One time axis for every source: a slot each 1 / rate seconds, filled by the first frame shown in it.

Slot k begins k / rate seconds after the first frame and takes the first frame with a time stamp in it. A slot in which
no frame is shown keeps its place and is not valid: time is never shortened by what is missing. 25, 29.97, 50, 59.94 and
a variable number of frames a second all go this way.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import final

import numpy as np

EPSILON_S = 1e-3  # time stamps are rounded to milliseconds by some containers


@final
@dataclass(frozen=True, eq=False)
class Slot:
    """One place of the time axis: its number, its time, the source's frame number (-1: none), the image if wanted.

    image: (H, W, 3) uint8 RGB, None where there is no frame or it is broken; `fault` says how.
    """

    number: int
    time_s: float
    frame: int
    image: np.ndarray | None
    fault: str = ""


def first_in_slots(times_s: Iterable[float], rate_hz: float) -> Iterator[tuple[int, int]]:
    """(frame, slot) of each frame that is the first one shown in its slot; times rise and start at 0."""
    last = -1
    for frame, time in enumerate(times_s):
        slot = int(np.floor((time + EPSILON_S) * rate_hz))
        if slot > last:
            last = slot
            yield frame, slot


def num_slots(duration_s: float, rate_hz: float) -> int:
    """Slots of a source whose last frame is shown `duration_s` after its first."""
    return int(np.floor((duration_s + EPSILON_S) * rate_hz)) + 1
