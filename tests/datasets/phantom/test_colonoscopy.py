"""The made-up procedures: their course, their repeatability, and that one frame does not give the phase away."""

from itertools import pairwise

import numpy as np
import pytest

from medpipe.datasets.phantom.colonoscopy import ColonoscopyConfig, bursts, draw_video, draw_world, keyed
from medpipe.datasets.phantom.procedure import draw_procedure, sample
from medpipe.metrics.phases import CAECUM, INSERTION, OUTSIDE, PHASES, RECTUM
from medpipe.metrics.temporal import segments_of

CONFIG = ColonoscopyConfig(rate_hz=0.5, dim=64)


def test_shares_and_segments_are_those_of_the_procedures_they_copy() -> None:
    labels, segments = [], []
    for seed in range(300):
        _, phases, _ = sample(draw_procedure(np.random.default_rng(seed)), 0.5)
        labels.append(phases)
        segments.append(len(segments_of(phases)))
    shares = np.bincount(np.concatenate(labels), minlength=9) / sum(map(len, labels))
    expected = [0.027, 0.289, 0.079, 0.011, 0.127, 0.253, 0.075, 0.117, 0.022]
    np.testing.assert_allclose(shares, expected, atol=0.02)
    assert 12 < np.mean(segments) < 15
    assert 23 * 60 < 2 * np.mean([len(phases) for phases in labels]) < 32 * 60


def test_every_procedure_goes_in_reaches_the_caecum_and_ends_in_the_rectum() -> None:
    for seed in range(50):
        phases = [episode.phase for episode in draw_procedure(np.random.default_rng(seed))]
        assert all(a != b for a, b in pairwise(phases))
        inside = [phase for phase in phases if phase != OUTSIDE]
        assert inside[0] == INSERTION
        assert CAECUM in inside
        assert inside[-4:] == [PHASES.index(name) for name in ("transverse", "descending", "sigmoid", "rectum")]
        assert phases[-1] in (RECTUM, OUTSIDE)


def test_a_video_depends_on_seed_and_name_alone() -> None:
    first = draw_video(CONFIG, "002-007", 3)
    again = draw_video(CONFIG, "002-007", 3, draw_world(CONFIG, 3))
    np.testing.assert_array_equal(first.embeddings, again.embeddings)
    assert first.embeddings.dtype == np.float16
    assert first.embeddings.shape == (len(first.times_s), 64)
    assert not np.array_equal(first.labels, draw_video(CONFIG, "002-008", 3).labels)
    assert not np.array_equal(first.embeddings[:9], draw_video(CONFIG, "002-007", 4).embeddings[:9])
    assert len(set(CONFIG.video_ids())) == 60


def test_bursts_hold_their_share_and_last_three_seconds() -> None:
    inside = bursts(keyed(0, "test"), 100_000, 0.2, 0.35)
    assert inside.mean() == pytest.approx(0.35, abs=0.02)
    lengths = [segment.length * 0.2 for segment in segments_of(inside.astype(int)) if segment.phase]
    assert np.mean(lengths) == pytest.approx(3, rel=0.1)


def test_missing_frames_keep_their_place_and_boundaries_move_a_little() -> None:
    plain = draw_video(CONFIG, "001-001", 0)
    config = CONFIG.model_copy(update={"missing_share": 0.1, "label_noise_s": 5.0})
    hard = draw_video(config, "001-001", 0)
    assert len(hard.times_s) == len(plain.times_s)
    assert not hard.embeddings[~hard.is_valid].any()
    assert 0.03 < (~hard.is_valid).mean() < 0.2
    different = (hard.labels != plain.labels).sum() * 2
    assert 0 < different <= 5 * len(segments_of(plain.labels)) + 30
