"""What a clinic reads from the phases: whether and when the caecum was reached, and how long the withdrawal took.

labels: (T,) numbers of PHASES, IGNORED allowed; times_s: (T,) rising. A frame stands for the time until the next one,
the last for as long as frames usually stand.
"""

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from medpipe.metrics.phases import CAECUM, IGNORED, OUTSIDE, PHASES, RECTUM, WITHDRAWAL, check_labels
from medpipe.metrics.temporal import segments_of

SUSTAINED_S = 5.0  # a shorter look at what seems to be the caecum does not count as having reached it


@final
@dataclass(frozen=True)
class Withdrawal:
    """The times of one procedure in seconds; NaN (undefined) where the caecum was not reached.

    caecum_at_s   first frame of the first run of caecum of at least 5 s
    gross_s       from there to the end of the last frame of rectum; without one, of the last frame in the body
    net_s         the same less the time outside the body. Instruments, washing and imaging modes are not taken off
    end           what ended it: "rectum", "recording" or ""
    section_s     phase -> seconds from the caecum on
    """

    caecum_at_s: float
    gross_s: float
    net_s: float
    end: str
    section_s: dict[str, float]

    @property
    def caecum_reached(self) -> bool:
        return not math.isnan(self.caecum_at_s)


def frame_durations_s(times_s: np.ndarray) -> np.ndarray:
    """How long each frame stands (T,); the last one as long as the median of the others, a single one 0 s."""
    if len(times_s) < 2:
        return np.zeros(len(times_s))
    steps = np.diff(times_s)
    if steps.min() <= 0:
        at = int(np.argmin(steps)) + 1
        raise ValueError(f"the times do not rise at frame {at}: {times_s[at - 1]:g} s, then {times_s[at]:g} s")
    return np.append(steps, np.median(steps))


def withdrawal(labels: np.ndarray, times_s: np.ndarray, *, sustained_s: float = SUSTAINED_S) -> Withdrawal:
    """The clinical times of one procedure."""
    check_labels("labels", labels, len(PHASES))
    if len(labels) != len(times_s):
        raise ValueError(f"{len(labels)} labels for {len(times_s)} times")
    durations = frame_durations_s(np.asarray(times_s, dtype=float))
    start = _sustained_caecum(labels, durations, sustained_s)
    if start is None:
        return Withdrawal(math.nan, math.nan, math.nan, "", dict.fromkeys(PHASES, math.nan))
    in_rectum = np.flatnonzero(labels[start:] == RECTUM)
    in_body = np.flatnonzero((labels[start:] != OUTSIDE) & (labels[start:] != IGNORED))
    last = start + int(in_rectum[-1] if in_rectum.size else in_body[-1])
    span, spent = labels[start : last + 1], durations[start : last + 1]
    sections = {name: float(durations[start:][labels[start:] == number].sum()) for number, name in enumerate(PHASES)}
    gross = float(times_s[last] + durations[last] - times_s[start])
    return Withdrawal(
        caecum_at_s=float(times_s[start]),
        gross_s=gross,
        net_s=gross - float(spent[span == OUTSIDE].sum()),
        end="rectum" if in_rectum.size else "recording",
        section_s=sections,
    )


def _sustained_caecum(labels: np.ndarray, durations: np.ndarray, sustained_s: float) -> int | None:
    """The first frame of the first run of caecum that lasts, in seconds."""
    for segment in segments_of(labels):
        if segment.phase == CAECUM and durations[segment.start : segment.stop].sum() >= sustained_s - 1e-9:
            return segment.start
    return None


def withdrawal_frames_error(ref: np.ndarray, pred: np.ndarray) -> float:
    """The published withdrawal error of one video: |predicted - reference frames of classes 2 to 8| / reference frames.

    Early and late errors cancel in it, and it counts every pause; NaN (published: 0) where the reference has none.
    """
    kept = ref != IGNORED
    counts = [np.count_nonzero(np.isin(labels[kept], list(WITHDRAWAL))) for labels in (ref, pred)]
    return abs(counts[1] - counts[0]) / counts[0] if counts[0] else math.nan
