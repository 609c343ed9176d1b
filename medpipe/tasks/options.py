"""The values of training, losses, masking and prediction. Light: a workflow is checked without loading torch."""

from typing import Literal

from pydantic import Field, model_validator

from medpipe.backbones.options import SparseForm
from medpipe.config.base import Config, execution
from medpipe.datasets.augmentation import Axis


class LossConfig(Config):
    """Soft Dice + cross-entropy (softmax) or Dice + binary cross-entropy (sigmoid), after nnU-Net."""

    dice_weight: float = Field(default=1.0, ge=0)
    cross_entropy_weight: float = Field(default=1.0, ge=0)
    smooth: float = Field(default=1e-5, gt=0, description="added to numerator and denominator of the soft Dice")
    batch_dice: bool = Field(default=False, description="one Dice over the whole batch instead of one per sample")

    @model_validator(mode="after")
    def one_part_counts(self) -> "LossConfig":
        if self.dice_weight == self.cross_entropy_weight == 0:
            raise ValueError("'dice_weight' and 'cross_entropy_weight' are both 0; give one of them a weight")
        return self


class TrainingConfig(Config):
    """One training: how long, with which optimiser and schedule, how often it looks at itself."""

    num_steps: int = Field(ge=1)
    batch_size: int = Field(default=2, ge=1, description="samples a step, of all processes together")
    learning_rate: float = Field(default=1e-2, gt=0)
    optimiser: Literal["adamw", "sgd"] = "sgd"  # sgd: Nesterov momentum 0.99, as nnU-Net
    weight_decay: float = Field(default=3e-5, ge=0, description="not on normalisation and bias parameters")
    schedule: Literal["poly", "cosine", "constant"] = "poly"  # poly: (1 - step / num_steps)^0.9
    warmup_steps: int = Field(default=0, ge=0, description="steps of linear warm-up from 0 before the schedule")
    gradient_clip: float | None = Field(default=12.0, gt=0, description="largest norm of all gradients together")
    precision: Literal["32", "16-mixed", "bf16-mixed"] = "32"
    ema_decay: float | None = Field(
        default=None, gt=0, lt=1, description="average the weights; the average is handed over"
    )
    encoder_learning_rate_factor: float = Field(
        default=1.0, ge=0, description="slower encoder where its weights are transferred"
    )
    deep_supervision: bool = True
    validate_every: int = Field(default=0, ge=0, description="steps between validations; 0: only after the last step")
    keep: Literal["last", "best"] = Field(default="last", description="weights to hand over; best: by validation")

    save_every_steps: int | None = execution(None, ge=1)
    save_every_minutes: float | None = execution(10.0, gt=0)
    num_workers: int = execution(2, ge=0)
    accelerator: Literal["auto", "cpu", "gpu"] = execution("auto")
    samples_at_once: int | None = execution(
        None,
        ge=1,
        description="samples that a process passes through the network at once; it adds up the gradients of the rest "
        "of its share, so that fewer processes keep the batch; default: all at once",
    )
    strategy: Literal["auto", "ddp", "fsdp"] = execution(
        "auto", description="of several processes: ddp (auto), a whole network in each; fsdp, its weights in shards"
    )

    @model_validator(mode="after")
    def steps_fit(self) -> "TrainingConfig":
        if self.warmup_steps >= self.num_steps:
            raise ValueError(f"'warmup_steps' must be below num_steps ({self.num_steps}), got {self.warmup_steps}")
        return self


class TeacherConfig(Config):
    """AnatoMask (arXiv:2407.06468): a teacher, the average of the student, says which blocks are hard."""

    decay: tuple[float, float] = (0.999, 0.9999)  # rises linearly over `decay_share` of the training
    decay_share: float = Field(default=0.25, gt=0, le=1)
    final_hard_share: float = Field(
        default=0.5, ge=0, le=1, description="of the hidden blocks, chosen by the teacher at the end"
    )

    @model_validator(mode="after")
    def decays_average(self) -> "TeacherConfig":
        if not all(0 <= decay < 1 for decay in self.decay):
            raise ValueError(f"'decay' must hold two numbers from 0 to below 1, got {list(self.decay)}")
        return self


class MaskingConfig(Config):
    """What is hidden and how it is judged. sparse: SparK in 3D; dense: the plain masked autoencoder, as control."""

    method: Literal["sparse", "dense"] = "sparse"
    mask_ratio: float = Field(default=0.6, gt=0, lt=1)
    target_floor_hu: float = Field(
        default=20.0, gt=0, description="smallest SD that a block's target is divided by, in HU"
    )
    skip_flat_blocks: bool = Field(
        default=True, description="hidden blocks of air alone (SD below the floor / 20) cost nothing"
    )
    decoder_width: int = Field(default=128, ge=1)
    decoder_hidden_only: bool = Field(
        default=False, description="the decoder's finest block runs on hidden blocks alone, which is cheaper"
    )
    teacher: TeacherConfig | None = None
    form: SparseForm = execution(
        "measured", description="how convolutions leave out hidden voxels; the results are equal to rounding"
    )

    @model_validator(mode="after")
    def teacher_is_sparse(self) -> "MaskingConfig":
        if self.teacher is not None and self.method != "sparse":
            raise ValueError("'teacher' needs method: sparse")
        return self


class PredictionConfig(Config):
    """Gaussian sliding window (sigma = patch / 8) over the prepared volume."""

    overlap: float = Field(
        default=0.5, ge=0, lt=1, description="share of a window that the next one covers again, at least"
    )
    mirror_axes: tuple[Axis, ...] = Field(
        default=(), description="predict mirrored as well; never width where left and right are labels"
    )
    precision: Literal["32", "16-mixed", "bf16-mixed"] = "32"
    windows_per_batch: int = execution(1, ge=1)
