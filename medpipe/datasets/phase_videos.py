"""Training samples of labelled videos: whole or cropped, videos of like length together, every draw keyed.

A sample is named by its number; number // batch_size is the step, which decides the videos of the batch and the length
that all of them are padded to. A resumed training therefore sees what an uninterrupted one would have seen.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, final

import numpy as np
from pydantic import Field

from medpipe.config.base import Config
from medpipe.datasets.embeddings import LabelledVideo
from medpipe.metrics.phases import IGNORED


class PhaseSamplingConfig(Config):
    """What of a video is seen at a step, and how it is varied. All variation is one draw for a whole sample."""

    crop_steps: int | None = Field(default=None, ge=8, description="longest sample; default: whole videos")
    stretch: float = Field(default=1.0, ge=1, le=3, description="time runs up to so much faster or slower")
    offset_sd: float = Field(
        default=0.0, ge=0, description="a random offset of all frames of a sample, in deviations of the embedding"
    )
    scale_sd: float = Field(default=0.0, ge=0, lt=1, description="a random factor of each component of a sample")
    noise_sd: float = Field(default=0.0, ge=0, description="white noise on every frame")
    missing_share: float = Field(default=0.0, ge=0, lt=1, description="frames taken away, in bursts")
    missing_steps: float = Field(default=8.0, gt=0, description="mean length of such a burst")


@final
class PhaseVideos:
    """Samples: embeddings (L, D) float32, labels (L,) int64, is_frame, is_valid (L,) bool, padded to the batch's L."""

    def __init__(
        self, videos: Sequence[LabelledVideo], sampling: PhaseSamplingConfig, *, batch_size: int, seed: int
    ) -> None:
        assert videos, "no video to train on"
        self.videos, self.sampling, self.batch_size, self.seed = list(videos), sampling, batch_size, seed
        self.lengths = [len(video.labels) for video in videos]
        self.deviation = deviation_of(self.videos)
        self.batches_of = lru_cache(maxsize=4)(self._batches_of)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in which every video comes at least once."""
        return -(-len(self.videos) // self.batch_size)

    def __getitem__(self, index: int) -> dict[str, Any]:
        step, position = divmod(index, self.batch_size)
        epoch, place = divmod(step, self.steps_per_epoch)
        batch = self.batches_of(epoch)[place]
        spans = [self._span(step * self.batch_size + mate, self.lengths[number]) for mate, number in enumerate(batch)]
        return self._sample(index, self.videos[batch[position]], spans[position], max(len(span) for span in spans))

    def _batches_of(self, epoch: int) -> list[list[int]]:
        """Videos of like length together: sorted by length give or take a fifth, cut, batches shuffled."""
        rng = np.random.default_rng([self.seed, 1, epoch])
        order = np.argsort(np.array(self.lengths) * rng.uniform(0.8, 1.25, len(self.videos)), kind="stable")
        filled = np.concatenate([order, rng.permutation(order)])
        while len(filled) < self.steps_per_epoch * self.batch_size:
            filled = np.concatenate([filled, rng.permutation(order)])
        cut = filled[: self.steps_per_epoch * self.batch_size].reshape(self.steps_per_epoch, self.batch_size)
        return [[int(number) for number in batch] for batch in rng.permutation(cut)]

    def _span(self, index: int, length: int) -> np.ndarray:
        """Which slots of its video a sample shows, in order: a crop, at its own speed."""
        rng = np.random.default_rng([self.seed, 2, index])
        longest = self.sampling.stretch
        speed = float(np.exp(rng.uniform(-np.log(longest), np.log(longest)))) if longest > 1 else 1.0
        slots = np.minimum((np.arange(max(1, round(length / speed))) * speed).astype(int), length - 1)
        crop = self.sampling.crop_steps
        if crop is None or len(slots) <= crop:
            return slots
        first = int(rng.integers(0, len(slots) - crop + 1))
        return slots[first : first + crop]

    def _sample(self, index: int, video: LabelledVideo, span: np.ndarray, length: int) -> dict[str, Any]:
        """The slots of one video, varied and padded."""
        rng = np.random.default_rng([self.seed, 3, index])
        embeddings = self._varied(video.video.embeddings[span].astype(np.float32), rng)
        is_valid = video.video.is_valid[span] & ~self._taken_away(len(span), rng)
        embeddings[~is_valid] = 0
        beyond = length - len(span)
        return {
            "embeddings": np.pad(embeddings, ((0, beyond), (0, 0))),
            "labels": np.pad(video.labels[span].astype(np.int64), (0, beyond), constant_values=IGNORED),
            "is_frame": np.arange(length) < len(span),
            "is_valid": np.pad(is_valid, (0, beyond)),
        }

    def _varied(self, embeddings: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One offset and one factor a component for the whole sample, as another scope or centre would bring; noise."""
        sampling, dim = self.sampling, embeddings.shape[1]
        if sampling.scale_sd:
            embeddings *= rng.normal(1, sampling.scale_sd, dim).astype(np.float32)
        if sampling.offset_sd:
            embeddings += (sampling.offset_sd * self.deviation * rng.normal(size=dim)).astype(np.float32)
        if sampling.noise_sd:
            noise = rng.standard_normal(embeddings.shape, dtype=np.float32)
            embeddings += noise * (sampling.noise_sd * self.deviation).astype(np.float32)
        return embeddings

    def _taken_away(self, length: int, rng: np.random.Generator) -> np.ndarray:
        """Slots whose frames are taken away, in bursts (L,) bool."""
        share, mean = self.sampling.missing_share, self.sampling.missing_steps
        if share == 0:
            return np.zeros(length, dtype=bool)
        starts = rng.random(length) < share / mean
        gone = np.zeros(length, dtype=bool)
        for start in np.flatnonzero(starts):
            gone[start : start + 1 + int(rng.exponential(mean))] = True
        return gone


def embedding_moments(videos: Sequence[LabelledVideo]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation (D,) of the embeddings over every frame that is there."""
    count, total, squares = 0, 0.0, 0.0
    for video in videos:
        frames = video.video.embeddings[video.video.is_valid].astype(np.float64)
        count, total, squares = count + len(frames), total + frames.sum(axis=0), squares + np.square(frames).sum(axis=0)
    mean = np.asarray(total / max(count, 1))
    return mean, np.sqrt(np.maximum(np.asarray(squares / max(count, 1)) - mean**2, 0))


def deviation_of(videos: Sequence[LabelledVideo]) -> np.ndarray:
    """The deviation alone."""
    return embedding_moments(videos)[1]


def phase_counts(videos: Sequence[LabelledVideo], num_phases: int) -> np.ndarray:
    """Named frames of each phase (phases,)."""
    counts = np.zeros(num_phases, dtype=np.int64)
    for video in videos:
        counts += np.bincount(video.labels[video.labels != IGNORED], minlength=num_phases)
    return counts
