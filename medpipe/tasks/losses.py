"""Soft Dice with cross-entropy for label maps (softmax) and for overlapping masks (sigmoid).

The form is nnU-Net's: smooth 1e-5, background excluded from Dice, deep supervision 1, 1/2, 1/4, ... with the lowest map
left out. Voxels marked -1 and structures that nobody annotated count neither in the value nor in the gradient.
Everything runs in float32, also below autocast: half-precision sums over a patch overflow.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from medpipe.tasks.options import LossConfig

IGNORED = -1


def merge_unannotated(logits: Tensor, is_annotated: Tensor) -> Tensor:
    """Logits (B, 1+S, D, H, W) in which background takes over the probability of unannotated structures.

    The marginal form: background' = logsumexp(background, unannotated), unannotated' = -inf. The softmax of the result
    holds the sum of their probabilities as background. is_annotated: (B, S) bool. Shi et al., 2021,
    doi:10.1016/j.media.2021.101979.
    """
    if bool(is_annotated.all()):
        return logits
    hidden = functional.pad(~is_annotated, (1, 0))[..., None, None, None]  # background itself is never hidden
    background_or_hidden = hidden.clone()
    background_or_hidden[:, 0] = True
    background = logits.masked_fill(~background_or_hidden, -torch.inf).logsumexp(dim=1, keepdim=True)
    structures = logits[:, 1:].masked_fill(hidden[:, 1:], -torch.inf)
    return torch.cat([background, structures], dim=1)


def as_annotated(labels: Tensor, is_annotated: Tensor) -> Tensor:
    """Labels (B, D, H, W) with background in place of structures that are not annotated in their sample."""
    if bool(is_annotated.all()):
        return labels
    numbers = torch.arange(1, is_annotated.shape[1] + 1, device=labels.device) * is_annotated
    table = functional.pad(numbers, (1, 0))
    return table.gather(1, labels.flatten(1)).view_as(labels)


def soft_dice_loss(
    probabilities: Tensor, truth: Tensor, counts: Tensor, is_annotated: Tensor, *, smooth: float, batch_dice: bool
) -> Tensor:
    """1 - mean soft Dice over annotated structures of each sample (or of the batch).

    probabilities, truth: (B, S, D, H, W); counts: (B, 1, D, H, W), 0 where a voxel is ignored; is_annotated: (B, S).
    Dice = (2 sum p t + smooth) / (sum p + sum t + smooth).
    """
    axes = (2, 3, 4)
    weight = is_annotated.to(probabilities.dtype)
    overlap = (probabilities * truth * counts).sum(axes) * weight
    size = ((probabilities + truth) * counts).sum(axes) * weight
    if batch_dice:
        overlap, size, weight = overlap.sum(0), size.sum(0), weight.amax(0)
    dice = (2 * overlap + smooth) / (size + smooth)
    return 1 - (dice * weight).sum() / weight.sum().clamp(min=1) if bool(weight.any()) else dice.sum() * 0


def softmax_loss(logits: Tensor, target: Tensor, is_annotated: Tensor, config: LossConfig) -> Tensor:
    """Dice + cross-entropy. logits: (B, 1+S, D, H, W); target: (B, D, H, W) int, 0 background, -1 ignored."""
    logits = merge_unannotated(logits.float(), is_annotated)
    is_counted = target != IGNORED
    known = as_annotated(target.clamp(min=0).long(), is_annotated)
    log_probabilities = logits.log_softmax(dim=1)
    loss = logits.new_zeros(())
    if config.cross_entropy_weight:
        chosen = log_probabilities.gather(1, known[:, None])[:, 0]
        cross_entropy = -torch.where(is_counted, chosen, 0.0).sum() / is_counted.sum().clamp(min=1)
        loss = loss + config.cross_entropy_weight * cross_entropy
    if config.dice_weight:
        structures = torch.arange(1, logits.shape[1], device=logits.device).view(1, -1, 1, 1, 1)
        truth = (known[:, None] == structures).float()
        loss = loss + config.dice_weight * soft_dice_loss(
            log_probabilities[:, 1:].exp(),
            truth,
            is_counted[:, None].float(),
            is_annotated,
            smooth=config.smooth,
            batch_dice=config.batch_dice,
        )
    return loss


def sigmoid_loss(logits: Tensor, target: Tensor, is_annotated: Tensor, config: LossConfig) -> Tensor:
    """Dice + binary cross-entropy. logits: (B, S, D, H, W); target: (B, S, D, H, W), 0, 1 or -1 ignored."""
    logits = logits.float()
    is_counted = (target != IGNORED) & is_annotated[:, :, None, None, None]
    truth = (target == 1).float()
    loss = logits.new_zeros(())
    if config.cross_entropy_weight:
        voxelwise = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        cross_entropy = torch.where(is_counted, voxelwise, 0.0).sum() / is_counted.sum().clamp(min=1)
        loss = loss + config.cross_entropy_weight * cross_entropy
    if config.dice_weight:
        loss = loss + config.dice_weight * soft_dice_loss(
            logits.sigmoid(),
            truth,
            is_counted.float(),
            is_annotated,
            smooth=config.smooth,
            batch_dice=config.batch_dice,
        )
    return loss


def supervision_weights(num_levels: int) -> tuple[float, ...]:
    """Weights of the supervised maps, finest first: 1, 1/2, 1/4, ..., normalised to sum to one.

    Of `num_levels` maps the lowest is left out (nnU-Net gives it 0), so that no head stands without a gradient.
    """
    weights = [0.5**level for level in range(max(num_levels - 1, 1))]
    return tuple(weight / sum(weights) for weight in weights)


def downsample_target(target: Tensor, shape: Sequence[int]) -> Tensor:
    """The nearest voxel of `target` (B, D, H, W) or (B, S, D, H, W) on a coarser grid of `shape` (D, H, W)."""
    if tuple(target.shape[-3:]) == tuple(shape):
        return target
    for axis, (size, coarse) in enumerate(zip(target.shape[-3:], shape, strict=True), start=-3):
        # The voxel that holds the coarse voxel's centre; integers stay integers (interpolate would need floats).
        index = ((torch.arange(coarse, device=target.device) + 0.5) * (size / coarse)).long()
        target = target.index_select(axis, index)
    return target


def deep_supervision_loss(
    logits: Sequence[Tensor],
    weights: Sequence[float],
    target: Tensor,
    is_annotated: Tensor,
    *,
    output: str,
    config: LossConfig,
) -> Tensor:
    """The weighted sum of the losses of the supervised maps, finest first. output: "softmax" or "sigmoid"."""
    voxel_loss = softmax_loss if output == "softmax" else sigmoid_loss
    total = logits[0].new_zeros((), dtype=torch.float32)
    with torch.autocast(logits[0].device.type, enabled=False):
        for level_logits, weight in zip(logits, weights, strict=True):
            level_target = downsample_target(target, level_logits.shape[-3:])
            total = total + weight * voxel_loss(level_logits, level_target, is_annotated, config)
    return total
