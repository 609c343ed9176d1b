"""From probabilities along time to a course of phases: the most probable one, smoothed, or as they are.

A strict order is wrong for the right colon, where scopes go back and forth: transitions are counted in the training
labels, per second, so that one table serves every frame rate.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from medpipe.metrics.phases import IGNORED
from medpipe.tasks.phase_options import DecodingConfig

TINY = 1e-9
SHORTEST_S = 60.0  # a phase that was hardly seen is not taken for one that is left at once


@final
@dataclass(frozen=True, eq=False)
class PhaseDynamics:
    """How phases follow each other in the training labels.

    changes         (P, P) how often a phase (row) changed to another; 0 on the diagonal
    seconds, first  (P,) time spent in each phase; how many videos began with it
    """

    changes: np.ndarray
    seconds: np.ndarray
    first: np.ndarray

    def rates(self, pseudo_count: float) -> np.ndarray:
        """Changes a second (P, P), with `pseudo_count` more from each phase: what was never seen stays possible."""
        num_phases = len(self.changes)
        added = pseudo_count * (1 - np.eye(num_phases)) / (num_phases - 1)
        return (self.changes + added) / np.maximum(self.seconds, SHORTEST_S)[:, None]

    def start(self, pseudo_count: float) -> np.ndarray:
        """Which phase videos begin with (P,)."""
        counts = self.first + pseudo_count / len(self.first)
        return counts / counts.sum()

    @property
    def share(self) -> np.ndarray:
        """Of the time (P,)."""
        return self.seconds / max(self.seconds.sum(), TINY)

    def as_json(self) -> dict[str, Any]:
        """Plain lists, for a model's record."""
        return {name: getattr(self, name).tolist() for name in ("changes", "seconds", "first")}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "PhaseDynamics":
        """What `as_json` wrote."""
        return cls(*(np.array(values[name], dtype=float) for name in ("changes", "seconds", "first")))


def learn_dynamics(videos: Iterable[tuple[np.ndarray, np.ndarray]], num_phases: int) -> PhaseDynamics:
    """Count (labels (T,), times_s (T,)) of the training videos; changes across ignored frames are not counted."""
    changes = np.zeros((num_phases, num_phases))
    seconds, first = np.zeros(num_phases), np.zeros(num_phases)
    for labels, times in videos:
        named = labels != IGNORED
        if not named.any():
            continue
        step_s = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
        seconds += step_s * np.bincount(labels[named], minlength=num_phases)
        first[labels[np.argmax(named)]] += 1
        both = named[1:] & named[:-1] & (labels[1:] != labels[:-1])
        np.add.at(changes, (labels[:-1][both], labels[1:][both]), 1)
    return PhaseDynamics(changes, seconds, first)


def decode(
    probabilities: np.ndarray, times_s: np.ndarray, dynamics: PhaseDynamics | None, config: DecodingConfig
) -> np.ndarray:
    """Phases (T,) int64 of probabilities (T, P) at times_s (T,)."""
    if len(probabilities) == 0:
        return np.zeros(0, dtype=np.int64)
    step_s = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 1.0
    if config.method == "none":
        return probabilities.argmax(axis=1).astype(np.int64)
    if config.method == "mode":
        return mode_filter(probabilities.argmax(axis=1), max(1, round(config.mode_s / step_s)), probabilities.shape[1])
    if dynamics is None:
        raise ValueError("viterbi needs the dynamics of the training labels; use method: none or mode")
    viterbi = Viterbi(dynamics, step_s, config)
    if config.online:
        return viterbi.online(probabilities, lag=round(config.lag_s / step_s))
    return viterbi.offline(probabilities)


def mode_filter(labels: np.ndarray, width: int, num_phases: int) -> np.ndarray:
    """The most frequent label within `width` frames around each (made odd); of ties its own."""
    half = width // 2
    counts = np.zeros((len(labels) + 1, num_phases), dtype=np.int64)
    np.cumsum(np.eye(num_phases, dtype=np.int64)[labels], axis=0, out=counts[1:])
    places = np.arange(len(labels))
    high, low = np.minimum(places + half + 1, len(labels)), np.maximum(places - half, 0)
    votes = 2 * (counts[high] - counts[low])
    votes[places, labels] += 1
    return votes.argmax(axis=1)


@final
class Viterbi:
    """The most probable course of phases under learned transitions; scores are log-probabilities."""

    def __init__(self, dynamics: PhaseDynamics, step_s: float, config: DecodingConfig) -> None:
        rates = dynamics.rates(config.pseudo_count)
        leave = rates.sum(axis=1)
        stay = np.exp(-leave * step_s)
        table = rates / np.maximum(leave, TINY)[:, None] * (1 - stay)[:, None]
        np.fill_diagonal(table, stay)
        self.transitions = np.log(np.maximum(table, TINY**2))
        self.start = np.log(np.maximum(dynamics.start(config.pseudo_count), TINY))
        self.correction = config.prior_correction * np.log(np.maximum(dynamics.share, 1e-4))
        self.evidence = config.evidence

    def scores(self, probabilities: np.ndarray) -> np.ndarray:
        """What a frame speaks for, (..., P)."""
        return self.evidence * (np.log(np.maximum(probabilities, TINY)) - self.correction)

    def offline(self, probabilities: np.ndarray) -> np.ndarray:
        """The best course of the whole video (T,)."""
        _, back, best = self._forward(probabilities)
        return trace_back(back, len(probabilities) - 1, best[-1])

    def online(self, probabilities: np.ndarray, *, lag: int) -> np.ndarray:
        """For each frame its phase on the best course up to `lag` frames later (T,)."""
        _, back, best = self._forward(probabilities)
        num_frames = len(probabilities)
        answers = np.empty(num_frames, dtype=np.int64)
        for frame in range(num_frames):
            seen = min(frame + lag, num_frames - 1)
            phase = best[seen]
            for place in range(seen, frame, -1):
                phase = back[place, phase]
            answers[frame] = phase
        return answers

    def _forward(self, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Last scores (P,), from where each phase was best reached (T, P), best phase at each frame (T,)."""
        evidence = self.scores(probabilities)
        back = np.zeros(probabilities.shape, dtype=np.int64)
        best = np.zeros(len(probabilities), dtype=np.int64)
        score = self.start + evidence[0]
        best[0] = score.argmax()
        for frame in range(1, len(probabilities)):
            score, back[frame] = advance(score, self.transitions)
            score = score + evidence[frame]
            best[frame] = score.argmax()
        return score, back, best


def advance(score: np.ndarray, transitions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best score of reaching each phase, and from which one; scores are kept near 0."""
    reached = (score - score.max())[:, None] + transitions
    origin = reached.argmax(axis=0)
    return reached[origin, np.arange(len(origin))], origin


def trace_back(back: np.ndarray, frame: int, phase: int) -> np.ndarray:
    """The course that ends in `phase` at `frame`: (frame + 1,)."""
    course = np.empty(frame + 1, dtype=np.int64)
    for place in range(frame, -1, -1):
        course[place] = phase
        phase = back[place, phase]
    return course


@final
class LiveViterbi:
    """The online form as frames arrive: the answer for a frame comes `lag` frames after it, in constant memory."""

    def __init__(self, dynamics: PhaseDynamics, step_s: float, config: DecodingConfig) -> None:
        self.viterbi = Viterbi(dynamics, step_s, config)
        self.lag = round(config.lag_s / step_s)
        self.back: list[np.ndarray] = []
        self.score: np.ndarray | None = None

    def step(self, probabilities: np.ndarray) -> int | None:
        """probabilities (P,) of the newest frame; the phase of the frame `lag` before, None before there is one."""
        evidence = self.viterbi.scores(probabilities)
        if self.score is None:
            self.score = self.viterbi.start + evidence
        else:
            reached, origin = advance(self.score, self.viterbi.transitions)
            self.score = reached + evidence
            self.back.append(origin)
        if len(self.back) < self.lag:
            return None
        self.back = self.back[len(self.back) - self.lag :]
        return self._phase_at(0)

    def flush(self) -> list[int]:
        """The phases of the frames still waiting, once the video is over."""
        if self.score is None:
            return []
        first = 0 if len(self.back) < self.lag else 1
        return [self._phase_at(place) for place in range(first, len(self.back) + 1)]

    def _phase_at(self, place: int) -> int:
        """The phase `place` frames after the oldest that is kept, on the best course now."""
        assert self.score is not None
        phase = int(self.score.argmax())
        for origin in reversed(self.back[place:]):
            phase = int(origin[phase])
        return phase
