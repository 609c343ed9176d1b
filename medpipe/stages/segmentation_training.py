"""Train a segmentation network on labelled volumes.

takes   the training cases of a manifest; optionally the weights of an earlier stage, and its intensities
leaves  weights.safetensors and model.json, transfer.json (what was loaded, what was not), metrics.csv, members.json;
        one subfolder a member where several folds or shares of the labelled cases are trained
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import ceil, prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast, final

from pydantic import Field, field_validator, model_validator

from medpipe.backbones.registry import VolumeBackboneConfig
from medpipe.config.base import StageRef, execution
from medpipe.datasets.augmentation import AugmentationConfig, check_mirroring
from medpipe.datasets.cases import CasesConfig
from medpipe.datasets.patches import PatchConfig
from medpipe.stages.predictions import MEMBERS_FILE
from medpipe.stages.stage import Stage, StageRun
from medpipe.stages.training import prepare, seeded, train
from medpipe.stages.volumes import FoldsConfig, PreprocessingConfig, check_patch_fits
from medpipe.tasks.options import LossConfig, PredictionConfig, TrainingConfig
from medpipe.version import __version__

if TYPE_CHECKING:
    from medpipe.datasets.cases import Case
    from medpipe.datasets.prepared import PreparedCase
    from medpipe.datasets.preprocessing import Preprocessing
    from medpipe.tasks.segmentation import Segmentation
    from medpipe.tasks.segmentation_network import SegmentationNetwork

Share = Annotated[float, Field(gt=0, le=1)]


class StartFrom(StageRef):
    """Weights to begin with. `encoder`: of any stage with the same backbone; `all_but_heads`: also the decoder."""

    weights: Literal["encoder", "all_but_heads", "all"] = "all_but_heads"


@dataclass(frozen=True)
class Member:
    """One network of the stage: a fold, trained on a share of the labelled training cases."""

    fold: int
    share: float
    folder: str  # below the stage's folder; "." where the stage trains one network


@final
class SegmentationTraining(Stage):
    """Dice + cross-entropy with deep supervision on patches; validation on whole volumes."""

    version: ClassVar[int] = 1
    work: ClassVar = "training"
    uses_processes: ClassVar[bool] = True
    takes: ClassVar[dict[str, tuple[str, ...]]] = {
        "preprocessing.intensity": ("intensity_statistics",),
        "start_from": ("masked_pretraining", "segmentation_training"),
        "equal_compute_with": ("masked_pretraining", "segmentation_training"),
    }

    stage: Literal["segmentation_training"]
    title: str = Field("", description="how the report calls this arm; default: the stage's name")
    cases: CasesConfig
    structures: tuple[str, ...] = Field(min_length=1)
    output: Literal["softmax", "sigmoid"] | None = Field(
        None, description="default: sigmoid where the manifest's structures overlap, softmax where they do not"
    )
    start_from: StartFrom | None = None
    equal_compute_with: tuple[StageRef, ...] = Field(
        (), description="lengthen the training by as many voxels as these stages saw: a control of equal compute"
    )
    backbone: VolumeBackboneConfig
    preprocessing: PreprocessingConfig = PreprocessingConfig()
    patches: PatchConfig
    augmentation: AugmentationConfig | None = AugmentationConfig()
    loss: LossConfig = LossConfig()
    training: TrainingConfig
    folds: FoldsConfig = FoldsConfig()
    labelled_share: Share | tuple[Share, ...] = Field(
        1.0, description="of the labelled training cases; several: one network each"
    )
    validation: PredictionConfig = PredictionConfig()
    jobs: int | None = execution(None, ge=1, description="worker processes for preprocessing")

    @field_validator("structures")
    @classmethod
    def no_structure_twice(cls, structures: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(structures)) != len(structures):
            raise ValueError(f"a structure is named twice: {', '.join(structures)}")
        return structures

    @model_validator(mode="after")
    def values_fit(self) -> "SegmentationTraining":
        check_patch_fits(self.patches.size, self.backbone.divisor, self.backbone.name)
        check_mirroring(self.structures, self.validation.mirror_axes)
        check_mirroring(self.structures, self.augmentation.mirror_axes if self.augmentation else ())
        return self

    def structures_needed(self) -> tuple[str, ...]:
        return self.structures

    def members(self) -> list[Member]:
        """Every network to train: the shares of the labelled cases, the folds of each."""
        shares = self.labelled_share if isinstance(self.labelled_share, tuple) else (self.labelled_share,)
        pairs = [(fold, share) for share in shares for fold in self.folds.run]
        if len(pairs) == 1:
            return [Member(*pairs[0], folder=".")]
        return [Member(fold, share, f"share_{round(100 * share):03d}/fold_{fold}") for fold, share in pairs]

    def parts(self, base: Path) -> int | None:
        return len(self.members())

    def run(self, run: StageRun) -> None:
        from medpipe.datasets.cases import list_cases

        preprocessing = self.preprocessing.resolved(
            run.folder_if_named(self.preprocessing.intensity), self.carried(run)
        )
        cases = list_cases(self.cases, run.data, run.base)
        output = self.output or ("sigmoid" if cases[0].manifest.overlapping else "softmax")
        prepared = {case.case_id: case for case in prepare(run, cases, preprocessing, self.jobs)}
        config = self.lengthened(run)
        members = self.members()
        for member in run.mine(members):
            training, validation = self.split(cases, member, run.seed)
            if len(members) > 1:
                run.output.say(
                    f"fold {member.fold}, {member.share:.0%} of the labelled patients: {len(training)} cases"
                )
            MemberTraining(
                self,
                run,
                run.folder / member.folder,
                output,
                preprocessing,
                config,
                [prepared[case.case_id] for case in training],
                [prepared[case.case_id] for case in validation],
            ).run_all()
        if run.part is not None:
            return
        facts = {"title": self.title or run.name, "output": output, "structures": self.structures}
        run.write_json(MEMBERS_FILE, facts | {"members": [asdict(member) for member in members]})

    def split(self, cases: "Sequence[Case]", member: Member, seed: int) -> "tuple[list[Case], list[Case]]":
        """Training and validation cases of a member; the share is taken of the training cases alone."""
        from medpipe.datasets.splits import labelled_share, split_fold

        if self.folds.count == 1:
            return labelled_share(cases, member.share, seed=seed), []
        training, validation = split_fold(cases, fold=member.fold, num_folds=self.folds.count, seed=seed)
        return labelled_share(training, member.share, seed=seed), validation

    def carried(self, run: StageRun) -> "Preprocessing | None":
        """The preprocessing that the weights to start from were trained with."""
        from medpipe.datasets.preprocessing import Preprocessing
        from medpipe.tasks.model_record import read_record

        if self.start_from is None:
            return None
        record = read_record(source_of(self.start_from, run))
        return Preprocessing.model_validate(record.preprocessing, strict=False)

    def lengthened(self, run: StageRun) -> TrainingConfig:
        """The training's values, with the steps that `equal_compute_with` adds."""
        from medpipe.tasks.model_record import read_record

        if not self.equal_compute_with:
            return self.training
        seen = sum(read_record(source_of(ref, run)).training["voxels_seen"] for ref in self.equal_compute_with)
        extra = ceil(seen / (self.training.batch_size * prod(self.patches.size)))
        run.output.say(f"{extra} steps more than {self.training.num_steps}, for equal compute")
        return self.training.model_copy(update={"num_steps": self.training.num_steps + extra})


def source_of(reference: StageRef, run: StageRun) -> Path:
    """The folder of the weights that a stage hands over: its only network, or fold and share listed first."""
    folder = run.folder_of(reference)
    members = folder / MEMBERS_FILE
    if not members.is_file():
        return folder
    import json

    return folder / json.loads(members.read_text(encoding="utf-8"))["members"][0]["folder"]


@dataclass(frozen=True)
class MemberTraining:
    """One network: built, filled from an earlier stage, fitted, handed over."""

    stage: SegmentationTraining
    run: StageRun
    folder: Path
    output: Literal["softmax", "sigmoid"]
    preprocessing: "Preprocessing"
    config: TrainingConfig
    training: "list[PreparedCase]"
    validation: "list[PreparedCase]"

    def run_all(self) -> None:
        """Train unless the weights are there from before a stop."""
        from medpipe.tasks.model_record import RECORD_FILE
        from medpipe.tasks.weights import save_model

        processes = self.run.processes
        if processes.of_first((self.folder / RECORD_FILE).is_file()):
            return
        if processes.is_first:
            self.folder.mkdir(parents=True, exist_ok=True)
        task = self.task()
        facts = train(
            self.run, task, self.patches(), self.config, self.folder, label="training", validate=self.validate(task)
        )
        if processes.is_first:
            save_model(self.folder, task.network, self.record(facts))
        processes.wait()

    def task(self) -> "Segmentation":
        """The network with its loss; transferred weights in it, and transfer.json written."""
        from medpipe.backbones.registry import build_volume_backbone
        from medpipe.stages.stage import write_json
        from medpipe.tasks.segmentation import Segmentation
        from medpipe.tasks.segmentation_network import SegmentationNetwork
        from medpipe.tasks.transfer import transfer

        stage = self.stage
        with seeded(self.run.seed):
            network = SegmentationNetwork(
                build_volume_backbone(stage.backbone),
                num_structures=len(stage.structures),
                output=self.output,
                deep_supervision=self.config.deep_supervision,
            )
        network.backbone.check_size(stage.patches.size)
        if stage.start_from is not None:
            source = source_of(stage.start_from, self.run)
            preprocessing = self.preprocessing.model_dump(mode="json")
            report = transfer(source, network, stage.start_from.weights, preprocessing=preprocessing)
            not_loaded = [*report.shape_mismatch, *report.missing]
            facts = report.as_json() | {"source": stage.start_from.from_, "not_loaded": not_loaded}
            if self.run.processes.is_first:
                write_json(self.folder / "transfer.json", facts)
            self.run.output.say(f"from {stage.start_from.from_}: {report.summary()}")
        return Segmentation(network, loss=stage.loss)

    def patches(self) -> Any:
        """The training patches, each drawn by (seed, number) alone."""
        from medpipe.datasets.patches import PatchDataset

        return PatchDataset(
            self.training,
            structures=self.stage.structures,
            output=self.output,
            preprocessing=self.preprocessing,
            patches=self.stage.patches,
            augmentation=self.stage.augmentation,
            batch_size=self.config.batch_size,
            seed=self.run.seed,
        )

    def validate(self, task: "Segmentation") -> Callable[[int], dict[str, float] | None] | None:
        """Mean Dice over whole validation volumes; None where the fold has none."""
        if not self.validation:
            return None
        from medpipe.stages.validation import validation_dice

        stage = self.stage
        network = cast("SegmentationNetwork", task.network)
        return lambda step: validation_dice(
            network,
            self.validation,
            self.preprocessing,
            structures=stage.structures,
            patch_size=stage.patches.size,
            config=stage.validation,
            should_stop=self.run.should_stop,
            processes=self.run.processes,
        )

    def record(self, facts: dict[str, Any]) -> Any:
        """What the weights say of themselves."""
        from medpipe.tasks.model_record import ModelRecord

        stage, config = self.stage, self.config
        patients = sorted({case.patient_id for case in self.training})
        return ModelRecord(
            kind="segmentation",
            medpipe_version=__version__,
            backbone=stage.backbone,
            structures=stage.structures,
            output=self.output,
            deep_supervision=config.deep_supervision,
            preprocessing=self.preprocessing.model_dump(mode="json"),
            patch_size=stage.patches.size,
            step=config.num_steps,
            training=facts
            | {
                "voxels_seen": config.num_steps * config.batch_size * prod(stage.patches.size),
                "patients": patients,
                "start_from": stage.start_from.from_ if stage.start_from else None,
            },
        )
