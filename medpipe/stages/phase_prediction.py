"""Apply temporal networks to procedures, each fold's to the videos that it did not see, and decode phases.

takes   the networks of stages phase_training, the embeddings of a stage frame_embedding
leaves  predictions.json; below predictions/<network>/<decoding>/ one table a video (time_s,phase,confidence)
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

from pydantic import Field, field_validator

from medpipe.config.base import StageRef
from medpipe.geometry.faults import DataFault
from medpipe.stages.phase_files import PredictedArm, embedded_ids, read_labelled, write_arms, write_phases
from medpipe.stages.predictions import MEMBERS_FILE
from medpipe.stages.stage import Stage, StageRun
from medpipe.tasks.phase_options import DecodingConfig

if TYPE_CHECKING:
    from medpipe.datasets.embeddings import LabelledVideo


@final
class PhasePrediction(Stage):
    """Every network with every decoding that fits it: online decodings only for causal networks."""

    work: ClassVar = "prediction"
    version: ClassVar[int] = 1
    takes: ClassVar[dict[str, tuple[str, ...]]] = {"models": ("phase_training",), "embeddings": ("frame_embedding",)}

    stage: Literal["phase_prediction"]
    models: tuple[StageRef, ...] = Field(min_length=1)
    embeddings: StageRef
    decodings: tuple[DecodingConfig, ...] = Field((DecodingConfig(),), min_length=1)
    online: DecodingConfig = Field(DecodingConfig(online=True), description="of causal networks, beside the others")

    @field_validator("decodings")
    @classmethod
    def are_different(cls, decodings: tuple[DecodingConfig, ...]) -> tuple[DecodingConfig, ...]:
        names = [name_of(config) for config in decodings]
        if len(set(names)) < len(names):
            raise ValueError(f"two decodings are called the same: {', '.join(names)}")
        return decodings

    def run(self, run: StageRun) -> None:
        folder = run.folder_of(self.embeddings)
        arms: list[PredictedArm] = []
        for reference in self.models:
            arms += self.predict(run, folder, run.folder_of(reference), reference.from_)
        write_arms(run.folder, arms, self.embeddings.from_)

    def predict(self, run: StageRun, source: Path, model: Path, stage: str) -> list[PredictedArm]:
        """All arms of one training stage."""
        from medpipe.tasks.phase_model import read_phase_record

        record = json.loads((model / MEMBERS_FILE).read_text(encoding="utf-8"))
        backbone = read_phase_record(model / record["members"][0]["folder"]).backbone
        decodings = [*self.decodings, *([self.online] if backbone.is_causal else [])]
        fold_of: dict[str, int] = {}
        seconds, sizes = 0.0, {0}
        videos = sum(len(member["test"]) for member in record["members"]) or len(embedded_ids(source))
        with run.output.progress(record["title"], videos) as progress:
            for member in record["members"]:
                for video, spent, size in self.predict_fold(run, source, model, member, stage, decodings):
                    fold_of[video] = member["fold"]
                    seconds += spent
                    sizes.add(size)
                    progress.advance()
        return [
            PredictedArm(
                title=f"{record['title']}, {name_of(config)}",
                folder=arm_folder(stage, config),
                backbone=backbone.name,
                decoding=name_of(config),
                is_live=backbone.is_causal and (config.online or config.method == "none"),
                parameters=max(sizes),
                seconds=seconds,
                lag_s=config.lag_s,
                fold_of=fold_of,
            )
            for config in decodings
        ]

    def predict_fold(
        self, run: StageRun, source: Path, model: Path, member: dict[str, Any], stage: str, decodings: list[Any]
    ) -> Iterator[tuple[str, float, int]]:
        """Each video of a fold, the seconds that the network took, and its parameters."""
        import torch

        from medpipe.tasks.phase_decoding import PhaseDynamics
        from medpipe.tasks.phase_model import load_phase_model

        network, record = load_phase_model(model / member["folder"])
        network.to("cuda" if torch.cuda.is_available() else "cpu")
        dynamics = PhaseDynamics.from_json(record.dynamics)
        parameters = sum(p.numel() for p in network.parameters())
        there = set(embedded_ids(source))
        if not member["test"]:
            run.output.warn(f"{stage} was trained without folds: its scores are on videos that it was trained on")
        for video_id in member["test"] or sorted(there):
            run.stop_if_asked()
            if video_id not in there:
                raise DataFault(source, f"no embeddings of the test video {video_id}")
            spent = self.predict_one(run, network, record, dynamics, source, video_id, stage, decodings)
            yield video_id, spent, parameters

    def predict_one(
        self, run: StageRun, network: Any, record: Any, dynamics: Any, source: Path, video_id: str, stage: str,
        decodings: list[DecodingConfig],
    ) -> float:  # fmt: skip
        """One video with every decoding; the network's seconds."""
        from medpipe.datasets.embeddings import EmbeddingIdentity
        from medpipe.tasks.phase_decoding import decode
        from medpipe.tasks.phase_network import predict_video

        video: LabelledVideo
        (video,) = read_labelled(source, [video_id], expected=EmbeddingIdentity(**record.embeddings))
        began = time.perf_counter()
        probabilities = predict_video(network, video.video.embeddings, video.video.is_valid)
        spent = time.perf_counter() - began
        for config in decodings:
            phases = decode(probabilities, video.video.times_s, dynamics, config)
            confidence = probabilities[range(len(phases)), phases]
            path = run.folder / arm_folder(stage, config) / f"{video_id}.csv"
            write_phases(path, video.video.times_s, phases, confidence)
        return spent


def name_of(config: DecodingConfig) -> str:
    """A decoding in words."""
    base = {"none": "no decoding", "mode": f"mode filter {config.mode_s:g} s", "viterbi": "Viterbi"}[config.method]
    if not config.online:
        return base
    return f"online {base}" + (f", {config.lag_s:g} s later" if config.lag_s else "")


def arm_folder(stage: str, config: DecodingConfig) -> str:
    """Where an arm's tables lie, relative to the stage's folder."""
    name = name_of(config).lower().replace(",", "").replace(" ", "_")
    return f"predictions/{stage}/{name}"
