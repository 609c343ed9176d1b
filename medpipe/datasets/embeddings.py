"""The embeddings of a video: one safetensors file, a row a slot of the model's time axis.

    embeddings  (T, D) float16, zero where a slot has no frame
    times_s     (T,) float64, when each slot is shown
    is_valid    (T,) uint8, 0 where the frame is missing or broken

The file's header names the encoder, the preprocessing and the source, so that embeddings of different encoders are
never mixed. Reading cannot run code.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np

from medpipe.geometry.atomic import written_beside
from medpipe.geometry.faults import DataFault
from medpipe.metrics.phases import IGNORED

SUFFIX = ".safetensors"
HEADER = "medpipe"


@final
@dataclass(frozen=True)
class EmbeddingIdentity:
    """What made the embeddings: equal for all videos that may be used together."""

    encoder: str  # the encoder's name and options
    weights: str  # hash of its weights
    preprocessing: str  # crop, size, colours
    rate_hz: float
    dim: int

    def differences(self, other: "EmbeddingIdentity") -> list[str]:
        """Which parts differ, with both values."""
        mine, theirs = asdict(self), asdict(other)
        return [f"{name} {mine[name]!r} and {theirs[name]!r}" for name in mine if mine[name] != theirs[name]]


@final
@dataclass(frozen=True, eq=False)
class EmbeddedVideo:
    """The embeddings of one video; `facts` is what is known of the source: hash, frame rate, frames missing."""

    video_id: str
    identity: EmbeddingIdentity
    times_s: np.ndarray
    is_valid: np.ndarray
    embeddings: np.ndarray
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        length = len(self.times_s)
        if self.embeddings.shape != (length, self.identity.dim) or self.is_valid.shape != (length,):
            raise ValueError(
                f"video {self.video_id}: embeddings {self.embeddings.shape}, is_valid {self.is_valid.shape} for "
                f"{length} times and {self.identity.dim} components"
            )


def write_embeddings(path: Path, video: EmbeddedVideo) -> None:
    """Write a video's file, whole or not at all; the same content gives the same bytes."""
    from safetensors.numpy import save_file

    header = {"video_id": video.video_id, "identity": asdict(video.identity), "facts": video.facts}
    tensors = {
        "embeddings": np.ascontiguousarray(video.embeddings, dtype=np.float16),
        "times_s": np.ascontiguousarray(video.times_s, dtype=np.float64),
        "is_valid": np.ascontiguousarray(video.is_valid, dtype=np.uint8),
    }
    with written_beside(path) as partial:
        save_file(tensors, partial, metadata={HEADER: json.dumps(header, sort_keys=True)})


def read_embeddings(path: Path) -> EmbeddedVideo:
    """Read a video's file whole and check it. Raises DataFault: no such file, damaged, not finite, a wrong shape."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise DataFault(path, "no such file; run the stage frame_embedding")
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {})[HEADER])
            tensors = {name: file.get_tensor(name) for name in ("embeddings", "times_s", "is_valid")}
            video = EmbeddedVideo(
                header["video_id"],
                EmbeddingIdentity(**header["identity"]),
                tensors["times_s"],
                tensors["is_valid"] != 0,
                tensors["embeddings"],
                header["facts"],
            )
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise DataFault(path, f"no embeddings of a video, or damaged: {error}") from None
    except ValueError as error:
        raise DataFault(path, str(error)) from None
    check_embeddings(path, video)
    return video


def check_embeddings(path: Path, video: EmbeddedVideo) -> None:
    """Refuse numbers that are none, with the first slot, and times that do not rise."""
    if len(video.times_s) == 0:
        raise DataFault(path, "a video without any frame")
    finite = np.isfinite(video.embeddings).all(axis=1)
    if not finite.all():
        at = int(np.argmin(finite))
        raise DataFault(path, f"slot {at} ({video.times_s[at]:g} s): the embedding holds NaN or infinite values")
    if np.any(np.diff(video.times_s) <= 0):
        at = int(np.argmax(np.diff(video.times_s) <= 0)) + 1
        raise DataFault(path, f"slot {at}: the times do not rise ({video.times_s[at]:g} s)")


def check_same_encoder(
    videos: Sequence[tuple[Path, EmbeddingIdentity]],
    expected: EmbeddingIdentity | None = None,
    *,
    whose: str = "the network was trained on",
) -> None:
    """Refuse embeddings of different encoders, preprocessing or rates; `expected`: of the network they are for."""
    for path, identity in videos:
        reference = expected or videos[0][1]
        different = reference.differences(identity)
        if different:
            those = whose if expected else f"{videos[0][0].name} has"
            raise DataFault(path, f"other embeddings than {those}: {'; '.join(different)}; embed all videos alike")


@final
@dataclass(frozen=True, eq=False)
class LabelledVideo:
    """A video's embeddings with its labels (T,), IGNORED where nothing is known."""

    video: EmbeddedVideo
    labels: np.ndarray

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.video.times_s):
            raise ValueError(
                f"video {self.video.video_id}: {len(self.labels)} labels for {len(self.video.times_s)} slots"
            )

    @property
    def has_labels(self) -> bool:
        """Whether any slot is named."""
        return bool(np.any(self.labels != IGNORED))
