"""The files that the stages of colonoscopy hand over: embeddings with labels, and predicted phases."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np

from medpipe.datasets.embeddings import (
    SUFFIX,
    EmbeddedVideo,
    EmbeddingIdentity,
    LabelledVideo,
    check_same_encoder,
    read_embeddings,
    write_embeddings,
)
from medpipe.datasets.label_axis import read_axis_labels, write_axis_labels
from medpipe.datasets.tables import read_table
from medpipe.geometry.atomic import written_beside
from medpipe.geometry.faults import DataFault
from medpipe.metrics.phases import IGNORED, PHASES, phase_number
from medpipe.stages.stage import write_json

if TYPE_CHECKING:
    from collections.abc import Iterable

EMBEDDINGS, LABELS = "embeddings", "labels"  # folders
PREDICTIONS_FILE = "predictions.json"
PREDICTION_COLUMNS = ("time_s", "phase", "confidence")


def embeddings_path(folder: Path, video_id: str) -> Path:
    """A video's embeddings in the folder of a stage frame_embedding."""
    return folder / EMBEDDINGS / f"{video_id}{SUFFIX}"


def write_labelled(folder: Path, video: EmbeddedVideo, labels: np.ndarray) -> None:
    """The labels first: a video whose embeddings are there is whole."""
    write_axis_labels(folder / LABELS / f"{video.video_id}.csv", video.times_s, labels)
    write_embeddings(embeddings_path(folder, video.video_id), video)


def embedded_ids(folder: Path) -> list[str]:
    """The videos of a stage frame_embedding, sorted. Raises DataFault: none."""
    found = sorted(path.name.removesuffix(SUFFIX) for path in (folder / EMBEDDINGS).glob(f"*{SUFFIX}"))
    if not found:
        raise DataFault(folder / EMBEDDINGS, "no embeddings; run the stage frame_embedding")
    return found


def read_labelled(
    folder: Path, video_ids: "Iterable[str]", *, expected: EmbeddingIdentity | None = None
) -> list[LabelledVideo]:
    """Videos with their labels, all of one encoder (`expected`: of the network that they are for)."""
    found: list[LabelledVideo] = []
    identities = []
    for video_id in video_ids:
        path = embeddings_path(folder, video_id)
        video = read_embeddings(path)
        identities.append((path, video.identity))
        labels_path = folder / LABELS / f"{video_id}.csv"
        labels = np.full(len(video.times_s), IGNORED, dtype=np.int64)
        if labels_path.is_file():
            labels = read_axis_labels(labels_path)[1]
        found.append(LabelledVideo(video, labels))
    check_same_encoder(identities, expected)
    return found


@final
@dataclass(frozen=True)
class PredictedArm:
    """One network with one decoding: where its phases lie, which fold each video was tested in."""

    title: str
    folder: str  # relative to the prediction stage's folder
    backbone: str
    decoding: str
    is_live: bool
    parameters: int
    seconds: float  # of the networks on all videos, this machine
    lag_s: float  # how long an answer comes after its frame; 0 of offline ones, which wait for the end
    fold_of: dict[str, int]


def write_arms(folder: Path, arms: list[PredictedArm], embeddings: str) -> None:
    """Say what was predicted."""
    write_json(folder / PREDICTIONS_FILE, {"embeddings": embeddings, "arms": [asdict(arm) for arm in arms]})


def read_arms(folder: Path) -> list[PredictedArm]:
    """What a stage phase_prediction left."""
    path = folder / PREDICTIONS_FILE
    if not path.is_file():
        raise DataFault(path, "no such file; run the stage phase_prediction")
    return [PredictedArm(**arm) for arm in json.loads(path.read_text(encoding="utf-8"))["arms"]]


def write_phases(path: Path, times_s: np.ndarray, phases: np.ndarray, confidence: np.ndarray) -> None:
    """Predicted phases of one video: time_s,phase,confidence."""
    lines = [
        f"{time:.3f},{PHASES[phase]},{sure:.4f}" for time, phase, sure in zip(times_s, phases, confidence, strict=True)
    ]
    with written_beside(path) as partial:
        partial.write_text("\n".join([",".join(PREDICTION_COLUMNS), *lines]) + "\n", encoding="utf-8")


def read_phases(path: Path) -> dict[str, np.ndarray]:
    """times_s, phases, confidence (NaN where the file has none). Raises DataFault by row."""
    times: list[float] = []
    phases: list[int] = []
    confidence: list[float] = []
    for number, row in enumerate(read_table(path, PREDICTION_COLUMNS[:2]), start=1):
        try:
            times.append(float(row["time_s"]))
            phases.append(phase_number(row["phase"]))
            confidence.append(float(row.get("confidence") or "nan"))
        except ValueError as error:
            raise DataFault(path, f"row {number}: {error}") from None
        if len(times) > 1 and times[-1] <= times[-2]:
            raise DataFault(path, f"row {number}: the times do not rise, {times[-2]:g} s and then {times[-1]:g} s")
        if phases[-1] == IGNORED:
            raise DataFault(path, f"row {number}: a prediction must name a phase, got {row['phase']!r}")
    return {
        "times_s": np.array(times),
        "phases": np.array(phases, dtype=np.int64),
        "confidence": np.array(confidence),
    }
