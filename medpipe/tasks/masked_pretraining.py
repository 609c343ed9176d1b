"""Pretraining without labels: hide blocks, reconstruct them.

sparse: SparK (arXiv:2301.03580) in 3D as in AnatoMask (arXiv:2407.06468), optionally with its teacher.
dense: the plain masked autoencoder for CNNs, hidden voxels set to 0 (the mean intensity), the whole network, as nnssl.
"""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from medpipe.backbones.backbone import Backbone
from medpipe.backbones.masked_autoencoder import MaskedEncoderNetwork, build_sparse_autoencoder
from medpipe.backbones.options import BackboneOptions, LightDecoderOptions
from medpipe.backbones.registry import build_volume_backbone
from medpipe.tasks.blocks import (
    BlockTarget,
    Size,
    block_grid,
    block_losses,
    hide_hard,
    hide_highest,
    keyed_scores,
    mean_over,
    normalised_target,
    num_hidden_blocks,
    plain_target,
)
from medpipe.tasks.ema import update_average
from medpipe.tasks.options import MaskingConfig, TeacherConfig
from medpipe.tasks.segmentation_network import lay_out_input
from medpipe.tasks.task import Task
from medpipe.tasks.totals import Totals

DEFAULT_BLOCK: Size = (16, 16, 16)  # stride of five of STU-Net's six levels


@final
class MaskedAutoencoder(nn.Module):
    """A reconstruction (B, 1, D, H, W) from what is visible, sparse or dense; the encoder is `backbone.encoder.`."""

    def __init__(self, backbone: MaskedEncoderNetwork | Backbone, block: Size) -> None:
        super().__init__()
        self.backbone = backbone
        self.block = block
        is_sparse = isinstance(backbone, MaskedEncoderNetwork)
        # The finest map alone is read: a head for each would be deep supervision of noise.
        self.heads = nn.ModuleList([] if is_sparse else [nn.Conv3d(backbone.channels[0], 1, 1)])

    def forward(self, volume: Tensor, is_hidden: Tensor) -> Tensor:
        """is_hidden: (B, d, h, w) bool, one entry a block. What hidden voxels hold has no influence."""
        if isinstance(self.backbone, MaskedEncoderNetwork):
            return self.backbone(volume, is_hidden)
        for axis, side in enumerate(self.block, start=1):
            is_hidden = is_hidden.repeat_interleave(side, dim=axis)
        return self.heads[0](self.backbone(volume.masked_fill(is_hidden[:, None], 0))[0])


def build_masked_autoencoder(
    backbone: BackboneOptions, masking: MaskingConfig, *, in_channels: int = 1
) -> MaskedAutoencoder:
    """The network of masked pretraining. Raises ValueError: the backbone has no sparse form."""
    if masking.method == "sparse":
        decoder = LightDecoderOptions(width=masking.decoder_width, hidden_only=masking.decoder_hidden_only)
        sparse = build_sparse_autoencoder(backbone, decoder, in_channels=in_channels, form=masking.form)
        return MaskedAutoencoder(sparse, sparse.block_size)
    block = backbone.hidden_block or DEFAULT_BLOCK
    return MaskedAutoencoder(build_volume_backbone(backbone, in_channels=in_channels), block)


@final
class MaskedPretraining(Task):
    """Reconstruct hidden blocks; the loss is the mean over hidden blocks alone.

    Batches: volume (B, 1, D, H, W) float32, normalised; sd_hu: the SD that it was divided by.
    """

    best_metric: ClassVar[str] = "validation_loss"
    best_is_highest: ClassVar[bool] = False

    def __init__(self, network: MaskedAutoencoder, masking: MaskingConfig, *, sd_hu: float) -> None:
        super().__init__(network)
        self.masking = masking
        self.floor = masking.target_floor_hu / sd_hu
        # In the checkpoint as a part of the task, never in an optimiser.
        self.teacher = deepcopy(network).requires_grad_(False) if masking.teacher else None

    def companions(self) -> tuple[nn.Module, ...]:
        return () if self.teacher is None else (self.teacher,)

    @property
    def block(self) -> Size:
        """Voxels (D, H, W) of a block."""
        assert isinstance(self.network, MaskedAutoencoder)
        return self.network.block

    def target(self, volume: Tensor) -> BlockTarget:
        """What is asked of the network: block-normalised values (sparse) or the values themselves (dense)."""
        make = normalised_target if self.masking.method == "sparse" else plain_target
        return make(volume, self.block, floor=self.floor)

    def prepared(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The volumes, with the blocks that are hidden and those of them that count (B, blocks)."""
        volume = lay_out_input(batch["volume"])
        target = self.target(volume)
        is_hidden = self._hidden_blocks(volume, target, self.current_step)
        return {"volume": volume, "is_hidden": is_hidden, "is_counted": is_hidden & self._counts(target)}

    def counts(self, batch: dict[str, Any]) -> Tensor:
        return batch["is_counted"].sum()[None]

    def part_loss(self, batch: dict[str, Any], totals: Totals) -> Tensor:
        target = self.target(batch["volume"])
        return self._loss(batch["volume"], target, batch["is_hidden"], totals.counts[0])

    def after_step(self, step: int, num_steps: int) -> None:
        if self.teacher is not None:
            assert self.masking.teacher is not None
            update_average(self.teacher, self.network, teacher_decay(step, num_steps, self.masking.teacher))

    @torch.no_grad()
    def validation_loss(self, volumes: Iterable[Tensor]) -> float:
        """Mean loss of patches (1, D, H, W) under random masks that are the same at every call."""
        losses = []
        for number, patch in enumerate(volumes):
            volume = lay_out_input(patch[None].to(self.device))
            scores = self._scores(volume, first_sample=number, draw=2)
            is_hidden = hide_highest(scores, self._num_hidden(volume))
            losses.append(float(self._loss(volume, self.target(volume), is_hidden)))
        return sum(losses) / len(losses)

    def random_mask(self, size: Sequence[int], *, number: int) -> Tensor:
        """(1, d, h, w) bool: a mask that depends on (seed, number) alone."""
        grid = block_grid(size, self.block)
        scores = keyed_scores(1, grid[0] * grid[1] * grid[2], seed=self.seed, first_sample=number, draw=2)
        return hide_highest(scores, num_hidden_blocks(scores.shape[1], self.masking.mask_ratio)).view(1, *grid)

    def _loss(self, volume: Tensor, target: BlockTarget, is_hidden: Tensor, count: Tensor | None = None) -> Tensor:
        reconstruction = self.network(volume, self._on_grid(is_hidden, volume))
        with torch.autocast(volume.device.type, enabled=False):
            losses = block_losses(reconstruction, target, self.block)
            return mean_over(losses, is_hidden & self._counts(target), count)

    def _hidden_blocks(self, volume: Tensor, target: BlockTarget, step: int) -> Tensor:
        """(B, blocks) bool. With a teacher, a growing share of the blocks that it finds hard, the rest at random."""
        num_hidden = self._num_hidden(volume)
        first_scores = self._scores(volume, first_sample=self.first_sample, draw=0)
        first = hide_highest(first_scores, num_hidden)
        if self.teacher is None:
            return first
        assert self.masking.teacher is not None
        assert self.optimise is not None
        share = self.masking.teacher.final_hard_share * step / self.optimise.num_steps
        num_hard = int(share * num_hidden)
        if num_hard == 0:
            return first
        self.teacher.eval()
        with torch.no_grad():
            reconstruction = self.teacher(volume, self._on_grid(first, volume))
            # Only what the teacher did not see says how hard it is; judged by the student's own target.
            losses = torch.where(
                first & self._counts(target), block_losses(reconstruction, target, self.block), -torch.inf
            )
        scores = self._scores(volume, first_sample=self.first_sample, draw=1)
        return hide_hard(losses, scores, num_hard=num_hard, num_hidden=num_hidden)

    def _counts(self, target: BlockTarget) -> Tensor:
        return ~target.is_flat if self.masking.skip_flat_blocks else torch.ones_like(target.is_flat)

    def _num_hidden(self, volume: Tensor) -> int:
        d, h, w = block_grid(volume.shape[2:], self.block)
        return num_hidden_blocks(d * h * w, self.masking.mask_ratio)

    def _scores(self, volume: Tensor, *, first_sample: int, draw: int) -> Tensor:
        d, h, w = block_grid(volume.shape[2:], self.block)
        scores = keyed_scores(len(volume), d * h * w, seed=self.seed, first_sample=first_sample, draw=draw)
        return scores.to(volume.device)

    def _on_grid(self, is_hidden: Tensor, volume: Tensor) -> Tensor:
        return is_hidden.view(len(volume), *block_grid(volume.shape[2:], self.block))


def teacher_decay(step: int, num_steps: int, config: TeacherConfig) -> float:
    """Decay after `step` steps: linear from the first to the second value over `decay_share` of the training."""
    done = min(step / (config.decay_share * num_steps), 1.0)
    first, last = config.decay
    return first + (last - first) * done
