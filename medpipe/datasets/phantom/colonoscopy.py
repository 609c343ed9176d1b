"""Made-up colonoscopies as embeddings: what an encoder might have made of the frames of a whole procedure.

The way in passes the same places as the way out, so that one frame cannot tell insertion from withdrawal: only the
course can. On top lie what endoscopy brings: slow and fast nuisance, bursts of frames that show nothing, an offset of
each video and of each centre. Four centres of fifteen videos by REAL-Colon's names, so that its fold lists apply.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import final

import numpy as np
from pydantic import Field

from medpipe.config.base import Config
from medpipe.datasets.phantom.procedure import LAST, OUT, draw_procedure, sample

GENERATOR_VERSION = 1  # raised when the same seed and values give another procedure
LATENT, NEIGHBOUR_DISTANCE = 24, 1.8
NUISANCE_SD, NUISANCE_S = 1.0, 4.0
WHITE_SD, VIDEO_SD = 0.6, 0.35
BLUR_S, BLUR_SIGNAL = 3.0, 0.1
APART = 3.0  # distance of the prototypes of outside and of blur from the middle of the others


class ColonoscopyConfig(Config):
    """A set of procedures. The same values and seed give the same embeddings."""

    rate_hz: float = Field(default=5.0, gt=0, description="frames a second on the model's time axis")
    dim: int = Field(default=2048, ge=1, description="width of an embedding")
    centres: int = Field(default=4, ge=1, le=9)
    videos_per_centre: int = Field(default=15, ge=1, le=99)
    centre_sd: float = Field(default=0.5, ge=0, description="offset of a centre")
    blur_share: float = Field(default=0.35, ge=0, lt=1, description="of the time in the body")
    missing_share: float = Field(default=0.0, ge=0, lt=1, description="frames that are not there, in bursts of 3 s")
    label_noise_s: float = Field(default=0.0, ge=0, description="boundaries are moved by up to this")

    def video_ids(self) -> list[str]:
        """001-001 to 004-015."""
        return [f"{c:03d}-{v:03d}" for c in range(1, self.centres + 1) for v in range(1, self.videos_per_centre + 1)]


@final
@dataclass(frozen=True, eq=False)
class Procedure:
    """One made-up video: times_s, labels, is_valid (T,), embeddings (T, dim) float16, zero where not valid."""

    video_id: str
    times_s: np.ndarray
    labels: np.ndarray
    is_valid: np.ndarray
    embeddings: np.ndarray


@final
@dataclass(frozen=True, eq=False)
class _World:
    """What all videos of a set share: a prototype for each place, for outside, for blur, and the map to embeddings."""

    places: np.ndarray  # (7, LATENT)
    outside: np.ndarray
    blur: np.ndarray
    projection: np.ndarray  # (LATENT, dim)


def draw_world(config: ColonoscopyConfig, seed: int) -> _World:
    """The prototypes and the projection of a seed."""
    rng = keyed(seed, "world")
    steps = rng.normal(size=(int(LAST), LATENT))
    steps *= NEIGHBOUR_DISTANCE / np.linalg.norm(steps, axis=1, keepdims=True)
    places = np.concatenate([np.zeros((1, LATENT)), np.cumsum(steps, axis=0)])
    middle = places.mean(axis=0)
    apart = rng.normal(size=(2, LATENT))
    apart *= APART / np.linalg.norm(apart, axis=1, keepdims=True)
    projection = rng.normal(size=(LATENT, config.dim)) / math.sqrt(LATENT)
    return _World(places - middle, apart[0], apart[1], projection)


def draw_video(config: ColonoscopyConfig, video_id: str, seed: int, world: _World | None = None) -> Procedure:
    """One procedure; it depends on (seed, video id, values) alone."""
    world = world or draw_world(config, seed)
    times, labels, location = sample(draw_procedure(keyed(seed, "course", video_id)), config.rate_hz)
    rng = keyed(seed, "frames", video_id)
    num_frames, step_s = len(times), 1 / config.rate_hz
    low = np.clip(np.floor(location), 0, int(LAST) - 1).astype(int)
    weight = (location - low)[:, None]
    signal = np.where(
        (location == OUT)[:, None], world.outside, (1 - weight) * world.places[low] + weight * world.places[low + 1]
    )
    is_blurred = bursts(rng, num_frames, step_s, config.blur_share) & (location != OUT)
    signal = np.where(is_blurred[:, None], BLUR_SIGNAL * signal + world.blur, signal)
    latent = signal + slow_noise(rng, num_frames, step_s) + rng.normal(0, WHITE_SD, signal.shape)
    latent += rng.normal(0, VIDEO_SD, LATENT)
    latent += keyed(seed, "centre", video_id[:3]).normal(0, config.centre_sd, LATENT)
    embeddings = np.maximum(latent @ world.projection, 0).astype(np.float16)
    is_valid = ~bursts(rng, num_frames, step_s, config.missing_share)
    embeddings[~is_valid] = 0
    return Procedure(video_id, times, moved(rng, labels, times, config.label_noise_s), is_valid, embeddings)


def slow_noise(rng: np.random.Generator, num_frames: int, step_s: float) -> np.ndarray:
    """A first-order autoregressive process of unit deviation and a time constant of some seconds: (T, LATENT)."""
    from scipy.signal import lfilter

    keep = math.exp(-step_s / NUISANCE_S)
    white = rng.normal(size=(num_frames, LATENT)) * math.sqrt(1 - keep**2)
    white[:1] /= math.sqrt(1 - keep**2)
    return NUISANCE_SD * np.asarray(lfilter([1.0], [1.0, -keep], white, axis=0))


def bursts(rng: np.random.Generator, num_frames: int, step_s: float, share: float) -> np.ndarray:
    """Which frames fall into bursts of 3 s on average that hold `share` of the time: (T,) bool.

    A process of two states in continuous time, looked at when frames are taken.
    """
    if share == 0:
        return np.zeros(num_frames, dtype=bool)
    leave, enter = 1 / BLUR_S, share / (1 - share) / BLUR_S
    stay = math.exp(-(leave + enter) * step_s)
    draws = rng.random(num_frames)
    inside = np.empty(num_frames, dtype=bool)
    state = draws[0] < share
    inside[0] = state
    for frame in range(1, num_frames):
        state = draws[frame] < share + ((1 - share) if state else -share) * stay
        inside[frame] = state
    return inside


def moved(rng: np.random.Generator, labels: np.ndarray, times: np.ndarray, noise_s: float) -> np.ndarray:
    """The labels with each boundary moved by up to `noise_s`, as annotators would."""
    if noise_s == 0:
        return labels
    boundaries = np.flatnonzero(np.diff(labels)) + 1
    shifts = rng.uniform(-noise_s, noise_s, len(boundaries))
    new = np.clip(np.searchsorted(times, times[boundaries] + shifts), 1, len(labels))
    noisy = labels.copy()
    for old, boundary in zip(boundaries, new, strict=True):
        if boundary > old:
            noisy[old:boundary] = labels[old - 1]
        else:
            noisy[boundary:old] = labels[old]
    return noisy


def keyed(seed: int, *purpose: str) -> np.random.Generator:
    """A generator that depends on (seed, purpose) alone, the same on every machine."""
    digest = hashlib.sha256("\0".join([str(seed), *purpose]).encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))
