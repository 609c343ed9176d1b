"""Decoding against brute force over all courses, online forms against offline ones on what they may see."""

from itertools import product

import numpy as np
import pytest

from medpipe.metrics.phases import IGNORED
from medpipe.tasks.phase_decoding import (
    LiveViterbi,
    PhaseDynamics,
    Viterbi,
    decode,
    learn_dynamics,
    mode_filter,
)
from medpipe.tasks.phase_options import DecodingConfig

CONFIG = DecodingConfig(evidence=0.7)


def dynamics(seed: int, num_phases: int = 3) -> PhaseDynamics:
    rng = np.random.default_rng(seed)
    labels = [np.repeat(rng.integers(0, num_phases, 8), rng.integers(2, 9, 8)) for _ in range(4)]
    return learn_dynamics([(video, np.arange(len(video)) * 2.0) for video in labels], num_phases)


def probabilities(seed: int, length: int, num_phases: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(num_phases), length)


@pytest.mark.parametrize("seed", range(8))
def test_viterbi_finds_the_best_of_all_courses(seed: int) -> None:
    viterbi, given = Viterbi(dynamics(seed), 2.0, CONFIG), probabilities(seed, 7)
    evidence = viterbi.scores(given)

    def score(course: tuple[int, ...]) -> float:
        total = viterbi.start[course[0]] + evidence[0, course[0]]
        for frame in range(1, len(course)):
            total += viterbi.transitions[course[frame - 1], course[frame]] + evidence[frame, course[frame]]
        return float(total)

    best = max(product(range(3), repeat=7), key=score)
    assert viterbi.offline(given).tolist() == list(best)


@pytest.mark.parametrize("lag", [0, 1, 5])
def test_online_is_offline_on_what_was_seen_and_live_is_online(lag: int) -> None:
    config = DecodingConfig(evidence=0.7, online=True, lag_s=2.0 * lag)
    viterbi, given = Viterbi(dynamics(1), 2.0, config), probabilities(2, 60)
    online = viterbi.online(given, lag=lag)
    for frame in range(60):
        assert online[frame] == viterbi.offline(given[: frame + lag + 1])[frame]
    live = LiveViterbi(dynamics(1), 2.0, config)
    answers = [answer for row in given if (answer := live.step(row)) is not None]
    assert len(answers) == 60 - lag
    assert len(live.back) == lag
    assert answers + live.flush() == online.tolist()


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_video_shorter_than_the_lag_is_answered_at_its_end(length: int) -> None:
    config = DecodingConfig(online=True, lag_s=10.0)
    given, live = probabilities(0, length), LiveViterbi(dynamics(0), 2.0, config)
    assert all(live.step(row) is None for row in given)
    assert live.flush() == Viterbi(dynamics(0), 2.0, config).online(given, lag=5).tolist()


def test_transitions_are_counted_per_second_and_not_across_gaps() -> None:
    labels = np.array([0, 0, 1, 1, IGNORED, 2, 2, 0])
    found = learn_dynamics([(labels, np.arange(8) * 0.2)], 3)
    assert found.changes.tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]
    np.testing.assert_allclose(found.seconds, [0.6, 0.4, 0.4])
    assert found.first.tolist() == [1, 0, 0]
    again = PhaseDynamics.from_json(found.as_json())
    np.testing.assert_array_equal(again.changes, found.changes)


def test_one_table_serves_every_rate() -> None:
    rates = dynamics(3)
    slow, fast = (np.exp(Viterbi(rates, step, CONFIG).transitions) for step in (2.0, 0.2))
    np.testing.assert_allclose(slow.sum(axis=1), 1)
    np.testing.assert_allclose(np.diag(fast) ** 10, np.diag(slow))


@pytest.mark.parametrize("width", [1, 3, 4, 9, 99])
def test_the_mode_filter_counts_as_by_hand(width: int) -> None:
    labels = np.random.default_rng(width).integers(0, 4, 50)
    for frame, found in enumerate(mode_filter(labels, width, 4)):
        around = labels[max(0, frame - width // 2) : frame + width // 2 + 1]
        counts = np.bincount(around, minlength=4)
        assert counts[found] == counts.max()
        assert found == labels[frame] or counts[labels[frame]] < counts.max()


def test_methods_by_name() -> None:
    given, times = probabilities(0, 40), np.arange(40) * 2.0
    assert decode(given, times, None, DecodingConfig(method="none")).tolist() == given.argmax(axis=1).tolist()
    assert len(decode(given, times, None, DecodingConfig(method="mode", mode_s=9))) == 40
    with pytest.raises(ValueError, match="viterbi needs the dynamics"):
        decode(given, times, None, DecodingConfig())
    with pytest.raises(ValueError, match="'lag_s' is of the online form"):
        DecodingConfig(lag_s=3)
