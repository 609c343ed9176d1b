"""Train a temporal network on the embeddings of whole procedures, fold by fold.

takes   the embeddings and labels of a stage frame_embedding
leaves  members.json; one folder a fold (or `all`): weights.safetensors, model.json, metrics.csv
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

from pydantic import Field

from medpipe.backbones.temporal_registry import TemporalBackboneConfig
from medpipe.config.base import Config, StageRef
from medpipe.datasets.phase_videos import PhaseSamplingConfig
from medpipe.datasets.video_folds import VideoFold, check_videos_are_there, find_folds_file, read_folds
from medpipe.stages.predictions import MEMBERS_FILE
from medpipe.stages.stage import Stage, StageRun
from medpipe.stages.training import seeded, train
from medpipe.tasks.options import TrainingConfig
from medpipe.tasks.phase_options import PhaseLossConfig
from medpipe.tasks.processes import ALONE, Processes
from medpipe.version import __version__

if TYPE_CHECKING:
    from medpipe.datasets.embeddings import LabelledVideo
    from medpipe.tasks.phase_network import PhaseNetwork


class VideoFoldsConfig(Config):
    """Which lists of videos, and which of their folds to train; each fold can run apart.

    4: leave one study out, 5: mixed studies, the official lists of REAL-Colon; a path: your own; null: train on all.
    """

    lists: Literal[4, 5] | str | None = 4
    run: tuple[int, ...] = Field(default=(), description="default: every fold of the lists")

    @property
    def file(self) -> str | None:
        """The list's name or path."""
        return f"real_colon_{self.lists}_fold" if isinstance(self.lists, int) else self.lists

    def read(self, base: Path, there: list[str]) -> list[VideoFold]:
        """The folds to train; one of all videos without lists. Raises ValueError, DataFault."""
        if self.file is None:
            return [VideoFold(0, tuple(there), (), ())]
        path = find_folds_file(self.file, base)
        folds = read_folds(path)
        unknown = [fold for fold in self.run if fold not in folds]
        if unknown:
            raise ValueError(f"folds.run: no fold {unknown[0]} in {path.name}, which has {', '.join(map(str, folds))}")
        chosen = [folds[number] for number in (self.run or folds)]
        check_videos_are_there(path, chosen, there)
        return chosen


@final
class PhaseTraining(Stage):
    """Cross-entropy with capped class weights and truncated smoothness, on whole videos or long crops."""

    version: ClassVar[int] = 2  # 2: dropout drawn by sample, the same on any number of processes
    work: ClassVar = "training"
    uses_processes: ClassVar[bool] = True
    takes: ClassVar[dict[str, tuple[str, ...]]] = {"embeddings": ("frame_embedding",)}

    stage: Literal["phase_training"]
    title: str = Field("", description="how the report calls this network; default: the stage's name")
    embeddings: StageRef
    backbone: TemporalBackboneConfig
    standardise: bool = Field(True, description="embeddings less the training frames' mean, over their deviation")
    sampling: PhaseSamplingConfig = PhaseSamplingConfig()
    loss: PhaseLossConfig = PhaseLossConfig()
    training: TrainingConfig
    folds: VideoFoldsConfig = VideoFoldsConfig()

    def parts(self, base: Path) -> int | None:
        if self.folds.file is None:
            return 1
        return len(self.folds.run) or len(read_folds(find_folds_file(self.folds.file, base)))

    def run(self, run: StageRun) -> None:
        from medpipe.stages.phase_files import embedded_ids

        folder = run.folder_of(self.embeddings)
        folds = self.folds.read(run.base, embedded_ids(folder))
        for fold in run.mine(folds):
            self.train_fold(run, folder, fold)
        if run.part is not None:
            return
        members = [{"fold": fold.number, "folder": folder_of(fold), "test": fold.test} for fold in folds]
        run.write_json(MEMBERS_FILE, {"title": self.title or run.name, "members": members})

    def train_fold(self, run: StageRun, source: Path, fold: VideoFold) -> None:
        """One network, unless its weights are there from before a stop."""
        from medpipe.stages.phase_files import read_labelled
        from medpipe.tasks.model_record import RECORD_FILE
        from medpipe.tasks.phase_model import save_phase_model

        folder = run.folder / folder_of(fold)
        if run.processes.of_first((folder / RECORD_FILE).is_file()):
            return
        if run.processes.is_first:
            folder.mkdir(parents=True, exist_ok=True)
        videos = self.with_labels(run, read_labelled(source, fold.train))
        run.output.say(f"{folder_of(fold)}: {len(videos)} training videos, {len(fold.test)} to test on")
        network, facts = self.fit(run, folder, videos, read_labelled(source, fold.valid), fold)
        if run.processes.is_first:
            save_phase_model(folder, network, self.record(fold, videos, facts))
        run.processes.wait()

    def with_labels(self, run: StageRun, videos: "list[LabelledVideo]") -> "list[LabelledVideo]":
        """The videos that can teach anything; the others are named. Raises ValueError: none can."""
        silent = [video.video.video_id for video in videos if not video.has_labels]
        if silent:
            run.output.warn(
                f"{len(silent)} training videos have no named frame and are skipped: {', '.join(silent[:8])}"
            )
        left = [video for video in videos if video.has_labels]
        if not left:
            raise ValueError(f"none of the {len(videos)} training videos has a named frame; give label tables")
        return left

    def fit(
        self, run: StageRun, folder: Path, videos: "list[LabelledVideo]", valid: "list[LabelledVideo]", fold: VideoFold
    ) -> "tuple[PhaseNetwork, dict[str, Any]]":
        """The trained network, and the facts of its training."""
        from medpipe.datasets.phase_videos import PhaseVideos, embedding_moments, phase_counts
        from medpipe.metrics.phases import PHASES
        from medpipe.tasks.phase_losses import class_weights
        from medpipe.tasks.phase_model import build_phase_network
        from medpipe.tasks.phase_segmentation import PhaseSegmentation

        seed = run.seed + fold.number
        with seeded(seed):
            network = build_phase_network(self.backbone, videos[0].video.identity.dim)
        if self.standardise:
            network.standardise_by(*embedding_moments(videos))
        weights = class_weights(phase_counts(videos, len(PHASES)), self.loss)
        samples = PhaseVideos(videos, self.sampling, batch_size=self.training.batch_size, seed=seed)
        facts = train(
            run,
            PhaseSegmentation(network, weights=weights, loss=self.loss),
            samples,
            self.training,
            folder,
            label=folder_of(fold).replace("_", " "),
            validate=(lambda step: validation_scores(network, valid, run.processes)) if valid else None,
        )
        return network.eval(), facts | {"class_weights": [round(float(weight), 4) for weight in weights]}

    def record(self, fold: VideoFold, videos: "list[LabelledVideo]", facts: dict[str, Any]) -> Any:
        """What the weights say of themselves."""
        from dataclasses import asdict

        from medpipe.metrics.phases import PHASES
        from medpipe.tasks.phase_decoding import learn_dynamics
        from medpipe.tasks.phase_model import PhaseModelRecord

        dynamics = learn_dynamics([(video.labels, video.video.times_s) for video in videos], len(PHASES))
        return PhaseModelRecord(
            medpipe_version=__version__,
            backbone=self.backbone,
            embeddings=asdict(videos[0].video.identity),
            dynamics=dynamics.as_json(),
            fold=fold.number,
            step=self.training.num_steps,
            training=facts | {"videos": [video.video.video_id for video in videos], "valid": list(fold.valid)},
        )


def folder_of(fold: VideoFold) -> str:
    """The fold's folder below the stage's."""
    return f"fold_{fold.number}" if fold.number else "all"


def validation_scores(
    network: "PhaseNetwork", videos: "list[LabelledVideo]", processes: Processes = ALONE
) -> dict[str, float]:
    """Pooled accuracy and macro F1 of the plain most probable phases on the validation videos; processes share them."""
    from medpipe.metrics.phase_scores import VideoPhases, total_confusion
    from medpipe.metrics.temporal import frame_scores
    from medpipe.tasks.phase_network import predict_video

    found = []
    for video in processes.share(videos):
        phases = predict_video(network, video.video.embeddings, video.video.is_valid).argmax(axis=1)
        found.append(VideoPhases(video.video.video_id, video.video.times_s, video.labels, phases))
    scores = frame_scores(total_confusion(processes.merge_shares(found)))
    return {"validation_macro_f1": scores.macro_f1, "validation_accuracy": scores.accuracy}
