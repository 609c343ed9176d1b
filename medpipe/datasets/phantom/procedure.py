"""The course of a made-up colonoscopy: which phase when, and where in the colon the tip of the scope is.

A semi-Markov process: the order of phases follows a grammar with the flips that real procedures show on the right side
(caecum and ascending colon, returns to insertion, a scope that leaves the body and comes back), how long each phase
lasts is log-normal. The numbers are those of six procedures of REAL-Colon read off a published figure.
"""

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from medpipe.metrics.phases import (
    ASCENDING,
    CAECUM,
    DESCENDING,
    ILEUM,
    INSERTION,
    OUTSIDE,
    RECTUM,
    SIGMOID,
    TRANSVERSE,
)

DURATION_MIN, DURATION_CV, DURATION_RANGE_MIN = 27.5, 0.4, (8.0, 90.0)
SHORTEST_S = 2.0
# Phase: share of a procedure, coefficient of variation of its time.
TIME: dict[int, tuple[float, float]] = {
    OUTSIDE: (0.027, 0.8),
    INSERTION: (0.289, 0.45),
    CAECUM: (0.079, 0.5),
    ILEUM: (0.011, 0.8),
    ASCENDING: (0.127, 0.6),
    TRANSVERSE: (0.253, 0.35),
    DESCENDING: (0.075, 0.4),
    SIGMOID: (0.117, 0.6),
    RECTUM: (0.022, 0.5),
}
P_STARTS_OUTSIDE, P_OUT_AND_IN, P_ILEUM, P_FLIPS, P_ENDS_OUTSIDE = 0.4, 0.25, 0.67, 0.35, 0.85
CAECUM_VISITS = (1, 1, 1, 2, 3, 4, 6)
P_ASCENDING_BETWEEN, SHARE_BETWEEN = 0.8, 0.45  # of episodes between visits; of the time in the ascending colon
FLIP_S = (5.0, 30.0)

# Location of the tip: 0 rectum, 1 sigmoid, 2 descending, 3 transverse, 4 ascending, 5 caecum, 6 ileum.
OUT, FIRST, LAST = -1.0, 0.0, 6.0


@final
@dataclass(frozen=True)
class Episode:
    """One segment: its phase, how long it lasts, where the tip is at its start and end (OUT: outside the body)."""

    phase: int
    seconds: float
    start: float
    end: float


def draw_procedure(rng: np.random.Generator) -> list[Episode]:
    """The episodes of one procedure, in order; neighbours differ in phase."""
    low, high = DURATION_RANGE_MIN
    minutes = float(np.clip(log_normal(rng, DURATION_MIN, DURATION_CV), low, high))
    seconds = {phase: log_normal(rng, share * 60 * minutes, cv) for phase, (share, cv) in TIME.items()}
    starts, ends = rng.random() < P_STARTS_OUTSIDE, rng.random() < P_ENDS_OUTSIDE
    comes_back = starts and rng.random() < P_OUT_AND_IN
    outside = iter(shares(rng, int(starts) + int(ends) + int(comes_back), seconds[OUTSIDE]))
    episodes = []
    if starts:
        episodes.append(Episode(OUTSIDE, next(outside), OUT, OUT))
    if comes_back:
        first, second = shares(rng, 2, seconds[INSERTION])
        episodes += [Episode(INSERTION, first, 0, rng.uniform(0.5, 2)), Episode(OUTSIDE, next(outside), OUT, OUT)]
        episodes.append(Episode(INSERTION, second, 0, 5))
    else:
        episodes.append(Episode(INSERTION, seconds[INSERTION], 0, 5))
    episodes += right_colon(rng, seconds)
    episodes += [
        Episode(TRANSVERSE, seconds[TRANSVERSE], 3.4, 2.6),
        Episode(DESCENDING, seconds[DESCENDING], 2.4, 1.6),
        Episode(SIGMOID, seconds[SIGMOID], 1.4, 0.6),
        Episode(RECTUM, seconds[RECTUM], 0.4, 0),
    ]
    if ends:
        episodes.append(Episode(OUTSIDE, next(outside), OUT, OUT))
    return [Episode(e.phase, max(e.seconds, SHORTEST_S), e.start, e.end) for e in episodes]


def right_colon(rng: np.random.Generator, seconds: dict[int, float]) -> list[Episode]:
    """Visits of the caecum with episodes between them, a look into the ileum, the ascending colon and its flips."""
    num_visits = int(rng.choice(CAECUM_VISITS))
    visits = shares(rng, num_visits, seconds[CAECUM])
    between = shares(rng, num_visits - 1, SHARE_BETWEEN * seconds[ASCENDING]) if num_visits > 1 else []
    left = seconds[ASCENDING] - sum(between)
    episodes = []
    for number, visit in enumerate(visits):
        episodes.append(Episode(CAECUM, visit, 5, 5))
        if number < len(between):
            phase = ASCENDING if rng.random() < P_ASCENDING_BETWEEN else INSERTION
            turn = rng.uniform(3.8, 4.6)
            episodes.append(Episode(phase, between[number], turn, turn))
    if rng.random() < P_ILEUM:
        episodes.append(Episode(ILEUM, seconds[ILEUM], 6, 6))
    num_flips = int(rng.integers(1, 4)) if rng.random() < P_FLIPS else 0
    parts = shares(rng, num_flips + 1, left)
    places = np.linspace(4.4, 3.6, num_flips + 2)
    for number, part in enumerate(parts):
        if number:
            episodes.append(Episode(TRANSVERSE, rng.uniform(*FLIP_S), 3.4, 3.4))
        episodes.append(Episode(ASCENDING, part, float(places[number]), float(places[number + 1])))
    return episodes


def shares(rng: np.random.Generator, count: int, total: float) -> list[float]:
    """`total` cut at random into `count` parts."""
    return [float(part) for part in total * rng.dirichlet(np.full(count, 2.0))] if count else []


def log_normal(rng: np.random.Generator, mean: float, cv: float) -> float:
    """One draw of a log-normal variable with that mean and coefficient of variation."""
    variance = math.log1p(cv**2)
    return float(rng.lognormal(math.log(mean) - variance / 2, math.sqrt(variance)))


def sample(episodes: list[Episode], rate_hz: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times in s, phases and locations (T,) of frames at a fixed rate; at least one frame."""
    ends = np.cumsum([episode.seconds for episode in episodes])
    times = np.arange(max(1, math.floor(ends[-1] * rate_hz))) / rate_hz
    index = np.minimum(np.searchsorted(ends, times, side="right"), len(episodes) - 1)
    begins = np.concatenate([[0.0], ends[:-1]])
    lengths = np.array([episode.seconds for episode in episodes])
    done = np.clip((times - begins[index]) / lengths[index], 0, 1)
    first = np.array([episode.start for episode in episodes])[index]
    last = np.array([episode.end for episode in episodes])[index]
    phases = np.array([episode.phase for episode in episodes])[index]
    return times, phases, first + done * (last - first)
