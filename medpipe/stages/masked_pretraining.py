"""Pretrain an encoder without labels: hide blocks of the volume, reconstruct them from what is left.

takes   unlabelled cases; the intensities of a stage of kind intensity_statistics
leaves  weights.safetensors and model.json (the encoder alone), metrics.csv, reconstruction.npz
"""

from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

from pydantic import model_validator

from medpipe.backbones.registry import VolumeBackboneConfig
from medpipe.config.base import execution
from medpipe.datasets.augmentation import AugmentationConfig
from medpipe.datasets.cases import CasesConfig
from medpipe.datasets.patches import PatchConfig
from medpipe.stages.stage import Stage, StageRun
from medpipe.stages.training import prepare, seeded, train
from medpipe.stages.volumes import PreprocessingConfig, check_patch_fits
from medpipe.tasks.options import MaskingConfig, TrainingConfig
from medpipe.version import __version__

if TYPE_CHECKING:
    from medpipe.datasets.preprocessing import Preprocessing
    from medpipe.tasks.model_record import ModelRecord

ENCODER = "backbone.encoder."  # all that is handed over


@final
class MaskedPretraining(Stage):
    """SparK in 3D, the closest public recipe to GynBTNet (arXiv:2506.01073): AnatoMask, arXiv:2407.06468."""

    work: ClassVar = "training"
    version: ClassVar[int] = 1
    uses_processes: ClassVar[bool] = True
    takes: ClassVar[dict[str, tuple[str, ...]]] = {"preprocessing.intensity": ("intensity_statistics",)}

    stage: Literal["masked_pretraining"]
    cases: CasesConfig
    backbone: VolumeBackboneConfig
    preprocessing: PreprocessingConfig
    masking: MaskingConfig = MaskingConfig()
    patches: PatchConfig
    augmentation: AugmentationConfig | None = AugmentationConfig()
    training: TrainingConfig
    jobs: int | None = execution(None, ge=1, description="worker processes for preprocessing")

    @model_validator(mode="after")
    def patches_fit(self) -> "MaskedPretraining":
        divisor = self.backbone.divisor
        if self.masking.method == "sparse":
            if self.backbone.hidden_block is None:
                raise ValueError(
                    f"masking.method sparse needs a backbone with a masked form (stunet, hybrid, vision_transformer), "
                    f"got {self.backbone.name}; or set method: dense"
                )
            divisor = self.backbone.hidden_block
        if self.masking.decoder_hidden_only and self.backbone.name not in ("stunet", "hybrid"):
            raise ValueError(f"masking.decoder_hidden_only needs stunet or hybrid, got {self.backbone.name}")
        check_patch_fits(self.patches.size, divisor, self.backbone.name)
        return self

    def run(self, run: StageRun) -> None:
        from medpipe.datasets.cases import list_cases
        from medpipe.datasets.patches import PatchDataset
        from medpipe.tasks.masked_pretraining import MaskedPretraining as PretrainingTask
        from medpipe.tasks.masked_pretraining import build_masked_autoencoder
        from medpipe.tasks.reconstruction import write_reconstruction
        from medpipe.tasks.weights import save_model

        preprocessing = self.preprocessing.resolved(run.folder_if_named(self.preprocessing.intensity), None)
        prepared = prepare(run, list_cases(self.cases, run.data, run.base), preprocessing, self.jobs)

        def patches(augmentation: AugmentationConfig | None) -> PatchDataset:
            return PatchDataset(
                prepared,
                structures=(),
                output=None,
                preprocessing=preprocessing,
                patches=self.patches,
                augmentation=augmentation,
                batch_size=self.training.batch_size,
                seed=run.seed,
            )

        with seeded(run.seed):
            network = build_masked_autoencoder(self.backbone, self.masking)
        intensity = preprocessing.intensity
        task = PretrainingTask(network, self.masking, sd_hu=intensity.sd_hu)
        facts = train(run, task, patches(self.augmentation), self.training, run.folder, label="masked pretraining")
        if not run.processes.is_first:
            return
        save_model(run.folder, task.network, self.record(preprocessing, facts), only=ENCODER)
        sample = patches(None)[0]
        write_reconstruction(
            run.path("reconstruction.npz"),
            task,
            sample["volume"],
            case_id=prepared[int(sample["case_index"])].case_id,
            mean_hu=intensity.mean_hu,
            sd_hu=intensity.sd_hu,
        )

    def record(self, preprocessing: "Preprocessing", facts: dict[str, Any]) -> "ModelRecord":
        """What the weights say of themselves."""
        from medpipe.tasks.model_record import ModelRecord

        return ModelRecord(
            kind="masked_pretraining",
            medpipe_version=__version__,
            backbone=self.backbone,
            masking=self.masking,
            preprocessing=preprocessing.model_dump(mode="json"),
            patch_size=self.patches.size,
            step=self.training.num_steps,
            training=facts
            | {"voxels_seen": self.training.num_steps * self.training.batch_size * prod(self.patches.size)},
        )
