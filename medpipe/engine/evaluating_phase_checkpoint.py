"""`medpipe evaluate` of a phase checkpoint: embed what is to be predicted if need be, predict, decode.

A video that some of the networks saw in training or validation is predicted by those that did not: first the fold that
lists it for testing, else the mean of the others. Only where every network knows it do all predict it, and a note says
so.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medpipe.engine.evaluation import EvaluateOptions, wrong
from medpipe.geometry.faults import DataFault
from medpipe.stages.phase_files import EMBEDDINGS, LABELS, PredictedArm, embedded_ids, write_arms
from medpipe.stages.predictions import MEMBERS_FILE
from medpipe.tasks.model_record import RECORD_FILE, WEIGHTS_FILE

if TYPE_CHECKING:
    from rich.console import Console

    from medpipe.tasks.phase_model import PhaseModelRecord
    from medpipe.tasks.phase_network import PhaseNetwork

ENCODED = "embedded"  # folder of the videos that were embedded for this evaluation


@dataclass(frozen=True)
class Member:
    """One network of a checkpoint and the videos that it is listed to be tested on."""

    folder: Path
    fold: int
    test: tuple[str, ...]


@dataclass(frozen=True)
class PhaseCheckpoint:
    """The folder of a stage phase_training, or of one of its networks."""

    folder: Path
    title: str
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Predicted:
    """What was predicted: where its labels lie, the videos that key frames can be taken from."""

    labels: Path
    facts: dict[str, str]
    sources: Mapping[str, Any] = field(default_factory=dict)


def find_phase_checkpoint(path: Path) -> PhaseCheckpoint | None:
    """The phase checkpoint that `path` is; None where it is something else."""
    if path.is_file() and path.name in (WEIGHTS_FILE, RECORD_FILE, MEMBERS_FILE):
        path = path.parent
    if (path / MEMBERS_FILE).is_file():
        kept = json.loads((path / MEMBERS_FILE).read_text(encoding="utf-8"))
        members = tuple(
            Member(path / entry["folder"], entry.get("fold", 0), tuple(entry.get("test", ())))
            for entry in kept["members"]
        )
        if not members or not _is_of_phases(members[0].folder):
            return None
        return PhaseCheckpoint(path, str(kept["title"]), members)
    if not _is_of_phases(path):
        return None
    beside = path.parent / MEMBERS_FILE
    listed = json.loads(beside.read_text(encoding="utf-8"))["members"] if beside.is_file() else []
    mine = next((entry for entry in listed if entry["folder"] == path.name), {"fold": 0, "test": []})
    title = f"{path.resolve().parent.name}, {path.resolve().name.replace('_', ' ')}" if listed else path.resolve().name
    return PhaseCheckpoint(path, title, (Member(path, mine["fold"], tuple(mine["test"])),))


def _is_of_phases(folder: Path) -> bool:
    path = folder / RECORD_FILE
    return path.is_file() and json.loads(path.read_text(encoding="utf-8")).get("kind") == "phases"


def predict_checkpoint(
    checkpoint: PhaseCheckpoint,
    references: Path | None,
    options: EvaluateOptions,
    output: Path,
    console: "Console",
    notes: list[str],
) -> Predicted:
    """Predict every video with every decoding into `output`. Raises DataFault; StopRequested while embedding."""
    from medpipe.tasks.phase_model import load_phase_model

    loaded = [load_phase_model(member.folder) for member in checkpoint.members]
    record = loaded[0][1]
    source, sources = embeddings_of(checkpoint, record, references, options, output, console)
    seen = [{*known.training.get("videos", ()), *known.training.get("valid", ())} for _, known in loaded]
    chosen = {video: networks_for(video, checkpoint.members, seen) for video in embedded_ids(source)}
    videos = part_of(chosen, seen, options.part, checkpoint, notes)
    arms = predict_videos(checkpoint, loaded, source, {video: chosen[video] for video in videos}, output, console)
    write_arms(output, arms, str(source))
    facts = {"checkpoint": str(checkpoint.folder), "networks": str(len(loaded)), "videos": options.part or "all"}
    return Predicted(source / LABELS, facts, sources)


def networks_for(video: str, members: Sequence[Member], seen: Sequence[set[str]]) -> list[int]:
    """Which of the networks predict a video: see the module."""
    tested = [place for place, member in enumerate(members) if video in member.test]
    blind = [place for place, videos in enumerate(seen) if video not in videos]
    return tested or blind or list(range(len(members)))


def part_of(
    chosen: Mapping[str, Sequence[int]],
    seen: Sequence[set[str]],
    part: str | None,
    checkpoint: PhaseCheckpoint,
    notes: list[str],
) -> list[str]:
    """The videos to predict: all, those that their networks did not see (test), or the others (train)."""
    known = [video for video, networks in chosen.items() if any(video in seen[place] for place in networks)]
    unknown = [video for video in chosen if video not in set(known)]
    if part in ("test", "train"):
        videos = unknown if part == "test" else known
        if not videos:
            raise wrong(f"{checkpoint.folder}: no video for --part {part} among {len(chosen)}")
        return videos
    if known:
        notes.append(
            f"{len(known)} of the {len(chosen)} videos were in the training or validation of the networks that predict "
            "them; their scores say little about others: --part test leaves them out"
        )
    return list(chosen)


def predict_videos(
    checkpoint: PhaseCheckpoint,
    loaded: "Sequence[tuple[PhaseNetwork, PhaseModelRecord]]",
    source: Path,
    chosen: Mapping[str, Sequence[int]],
    output: Path,
    console: "Console",
) -> list[PredictedArm]:
    """Every video with every decoding that fits the network: one arm a decoding."""
    import time

    import numpy as np
    import torch

    from medpipe.datasets.embeddings import EmbeddingIdentity
    from medpipe.engine.output import RunOutput
    from medpipe.stages.phase_files import read_labelled, write_phases
    from medpipe.stages.phase_prediction import name_of
    from medpipe.tasks.phase_decoding import PhaseDynamics, decode
    from medpipe.tasks.phase_network import predict_video
    from medpipe.tasks.phase_options import DecodingConfig

    backbone = loaded[0][1].backbone
    configs = [DecodingConfig(method="none"), DecodingConfig()]
    configs += [DecodingConfig(online=True)] if backbone.is_causal else []
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for network, _ in loaded:
        network.to(device)
    seconds = 0.0
    with RunOutput(console).progress("predicting", len(chosen)) as progress:
        for video_id, networks in chosen.items():
            identity = EmbeddingIdentity(**loaded[networks[0]][1].embeddings)
            (video,) = read_labelled(source, [video_id], expected=identity)
            began = time.perf_counter()
            each = [predict_video(loaded[place][0], video.video.embeddings, video.video.is_valid) for place in networks]
            probabilities = np.mean(each, axis=0)
            seconds += time.perf_counter() - began
            dynamics = PhaseDynamics.from_json(loaded[networks[0]][1].dynamics)
            for config in configs:
                phases = decode(probabilities, video.video.times_s, dynamics, config)
                confidence = probabilities[np.arange(len(phases)), phases]
                path = output / folder_of(name_of(config)) / f"{video_id}.csv"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_phases(path, video.video.times_s, phases, confidence)
            progress.advance()
    fold_of = {video: checkpoint.members[networks[0]].fold for video, networks in chosen.items()}
    return [
        PredictedArm(
            title=f"{checkpoint.title}, {name_of(config)}",
            folder=folder_of(name_of(config)),
            backbone=backbone.name,
            decoding=name_of(config),
            is_live=backbone.is_causal and (config.online or config.method == "none"),
            parameters=sum(p.numel() for p in loaded[0][0].parameters()),
            seconds=seconds,
            lag_s=config.lag_s,
            fold_of=fold_of,
        )
        for config in configs
    ]


def folder_of(decoding: str) -> str:
    """Where an arm's tables lie in the output."""
    return f"predictions/{decoding.lower().replace(',', '').replace(' ', '_')}"


def embeddings_of(
    checkpoint: PhaseCheckpoint,
    record: "PhaseModelRecord",
    references: Path | None,
    options: EvaluateOptions,
    output: Path,
    console: "Console",
) -> tuple[Path, Mapping[str, Any]]:
    """The folder with embeddings/ and labels/, and the procedures that were embedded for it, if any were."""
    if references is None:
        return own_embeddings(checkpoint), {}
    if not references.is_dir():
        raise DataFault(references, "no such folder; give embeddings (of a stage frame_embedding), or videos")
    if (references / EMBEDDINGS).is_dir():
        return references, {}
    return embed_procedures(record, references, options, output, console)


def own_embeddings(checkpoint: PhaseCheckpoint) -> Path:
    """The embeddings that the checkpoint's own run trained it on."""
    from medpipe.config.reader import read_tree
    from medpipe.config.tree import node_at, tag_of

    way_out = "give the folder of a stage frame_embedding, or of videos, as REFERENCES"
    folder = checkpoint.folder.resolve()
    for stage in (folder, folder.parent):
        kept = stage.parent / "workflow.yaml"
        node = node_at(read_tree(kept), ("stages", stage.name, "embeddings")) if kept.is_file() else None
        name = None if node is None else tag_of(node, "from")
        if name is not None:
            found = stage.parent / name
            if (found / EMBEDDINGS).is_dir():
                return found
            raise DataFault(found, f"no embeddings in it, which {stage.name} was trained on; {way_out}")
    raise wrong(f"{checkpoint.folder} does not lie in a run that holds its embeddings; {way_out}")


def embed_procedures(
    record: "PhaseModelRecord", folder: Path, options: EvaluateOptions, output: Path, console: "Console"
) -> tuple[Path, Mapping[str, Any]]:
    """Embed videos or folders of frames as the network's own embeddings were; what is done is kept for another call."""
    from medpipe.datasets.cases import DataConfig
    from medpipe.datasets.procedures import list_procedures
    from medpipe.engine.output import RunOutput
    from medpipe.engine.signals import StopFlag
    from medpipe.stages.frame_embedding import FrameEmbedding
    from medpipe.stages.stage import StageRun

    stage = FrameEmbedding.model_validate(embedding_values(record, folder, options), strict=False)
    data = DataConfig(root=folder.resolve().parent)
    sources = {source.video_id: source for source in list_procedures(stage.procedures, data)}
    unlabelled = [name for name, source in sources.items() if source.labels is None]
    if len(unlabelled) == len(sources):
        raise DataFault(folder / LABELS, "no table of labels of any video: there is nothing to score against")
    with StopFlag() as stop:
        run = StageRun(
            name=ENCODED, folder=output / ENCODED, seed=0, data=data, inputs={}, output=RunOutput(console),
            should_stop=stop.is_set, base=Path.cwd(),
        )  # fmt: skip
        stage.run(run)
    return run.folder, sources


def embedding_values(record: "PhaseModelRecord", folder: Path, options: EvaluateOptions) -> dict[str, Any]:
    """The values of a stage frame_embedding that makes what the network was trained on."""
    from medpipe.datasets.procedures import VIDEO_SUFFIXES
    from medpipe.datasets.real_colon import VIDEO_TABLE

    identity = record.embeddings
    if identity["encoder"] == "made up":
        raise DataFault(folder, "the network was trained on made-up embeddings, which no frame can be turned into")
    if (folder / VIDEO_TABLE).is_file():
        layout: dict[str, Any] = {"layout": "real_colon"}
    elif any(path.suffix.lower() in VIDEO_SUFFIXES for path in folder.iterdir()):
        layout = {"layout": "videos"}
    elif options.fps is None:
        raise wrong(f"{folder} holds folders of frames: say how fast they were taken by --fps")
    else:
        layout = {"layout": "frames", "fps": options.fps}
    how = str(identity["preprocessing"])
    size, batch = re.search(r"(\d+)x\d+", how), re.search(r"batches of (\d+)", how)
    weights = None if options.encoder_weights is None else str(options.encoder_weights.resolve())
    return {
        "stage": "frame_embedding",
        "procedures": {"folder": folder.resolve().name, **layout},
        "encoder": {"name": identity["encoder"], "weights": weights, "size": int(size[1]) if size else None},
        "frames": {
            "rate_hz": identity["rate_hz"],
            "field_of_view": "cropped" in how,
            "batch_size": int(batch[1]) if batch else 64,
        },
    }
