"""Samples of videos: keyed by number, padded to their batch, cropped and varied as one."""

import numpy as np
import pytest

from medpipe.datasets.embeddings import EmbeddedVideo, EmbeddingIdentity, LabelledVideo
from medpipe.datasets.phase_videos import PhaseSamplingConfig, PhaseVideos, embedding_moments, phase_counts
from medpipe.metrics.phases import IGNORED

IDENTITY = EmbeddingIdentity("test", "", "", 1.0, 3)


def labelled(number: int, length: int) -> LabelledVideo:
    slots = np.arange(length)
    embeddings = np.stack([np.full(length, number), slots, slots % 7], axis=1).astype(np.float16)
    video = EmbeddedVideo(f"v{number}", IDENTITY, np.arange(length) * 1.0, np.ones(length, dtype=bool), embeddings)
    return LabelledVideo(video, np.arange(length) % 9)


VIDEOS = [labelled(number, length) for number, length in enumerate([8, 90, 10, 95, 9, 100, 11])]


def samples(sampling: PhaseSamplingConfig, count: int = 12) -> list[dict[str, np.ndarray]]:
    dataset = PhaseVideos(VIDEOS, sampling, batch_size=2, seed=5)
    return [dataset[index] for index in range(count)]


def test_every_video_comes_in_an_epoch_and_batches_are_of_one_length() -> None:
    found = samples(PhaseSamplingConfig(), 8)
    seen = {int(sample["embeddings"][0, 0]) for sample in found}
    assert seen == set(range(7))
    for first, second in zip(found[::2], found[1::2], strict=True):
        assert len(first["labels"]) == len(second["labels"])
    wasted = sum((~sample["is_frame"]).sum() for sample in found)
    assert wasted < 120  # shuffled at random it is about 250


def test_padding_is_no_frame_and_has_no_label() -> None:
    for sample in samples(PhaseSamplingConfig()):
        beyond = ~sample["is_frame"]
        assert not sample["embeddings"][beyond].any()
        assert (sample["labels"][beyond] == IGNORED).all()
        assert not sample["is_valid"][beyond].any()


def test_a_sample_depends_on_its_number_alone() -> None:
    sampling = PhaseSamplingConfig(crop_steps=20, offset_sd=0.3, stretch=1.5, missing_share=0.2, noise_sd=0.1)
    one = samples(sampling)
    other = PhaseVideos(VIDEOS, sampling, batch_size=2, seed=5)[7]
    np.testing.assert_array_equal(one[7]["embeddings"], other["embeddings"])
    assert not np.array_equal(
        one[7]["embeddings"], PhaseVideos(VIDEOS, sampling, batch_size=2, seed=6)[7]["embeddings"]
    )


def test_crops_are_no_longer_than_asked_and_keep_frames_and_labels_together() -> None:
    for sample in samples(PhaseSamplingConfig(crop_steps=20, stretch=2.0)):
        frames = sample["is_frame"]
        assert frames.sum() <= 20
        slots = sample["embeddings"][frames, 1].astype(int)
        assert (sample["labels"][frames] == slots % 9).all()
        assert (np.diff(slots) >= 0).all()
        assert (np.diff(slots) <= 2).all()


def test_an_offset_is_one_for_the_whole_sample() -> None:
    plain, moved = samples(PhaseSamplingConfig()), samples(PhaseSamplingConfig(offset_sd=0.5))
    difference = (moved[0]["embeddings"] - plain[0]["embeddings"])[plain[0]["is_frame"]]
    np.testing.assert_allclose(difference, np.broadcast_to(difference[0], difference.shape), atol=1e-5)
    assert difference[0].any()


def test_frames_are_taken_away_in_about_the_share_asked_for() -> None:
    taken = samples(PhaseSamplingConfig(missing_share=0.3, missing_steps=4), 200)
    shares = [1 - sample["is_valid"][sample["is_frame"]].mean() for sample in taken]
    assert np.mean(shares) == pytest.approx(0.28, abs=0.08)
    assert all(not sample["embeddings"][~sample["is_valid"]].any() for sample in taken)


def test_moments_and_counts() -> None:
    mean, deviation = embedding_moments(VIDEOS)
    every = np.concatenate([video.video.embeddings for video in VIDEOS]).astype(float)
    np.testing.assert_allclose(mean, every.mean(axis=0))
    np.testing.assert_allclose(deviation, every.std(axis=0), rtol=1e-6)
    assert phase_counts(VIDEOS, 9).sum() == len(every)
