"""Soft Dice with cross-entropy for label maps (softmax) and for overlapping masks (sigmoid).

The form is nnU-Net's: smooth 1e-5, background excluded from Dice, deep supervision 1, 1/2, 1/4, ... with the lowest map
left out. Voxels marked -1 and structures that nobody annotated count neither in the value nor in the gradient.
A batch may be a part of a global one: means are then over what counts in all of it (totals.py).
Everything runs in float32, also below autocast: half-precision sums over a patch overflow.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from medpipe.tasks.options import LossConfig
from medpipe.tasks.totals import Totals

IGNORED = -1


def voxel_counts(target: Tensor, is_annotated: Tensor) -> Tensor:
    """(S + 1,) samples in which each structure is annotated, and voxels that count: what the losses are means over.

    target: (B, D, H, W) of label maps, (B, S, D, H, W) of masks; is_annotated: (B, S).
    """
    counted = target != IGNORED
    if target.ndim == 5:
        counted = counted & is_annotated[:, :, None, None, None]
    return torch.cat([is_annotated.sum(dim=0), counted.sum()[None]])


def supervised_counts(target: Tensor, is_annotated: Tensor, shapes: Sequence[Sequence[int]]) -> Tensor:
    """`voxel_counts` of each supervised map (its D, H, W in `shapes`), one after the other."""
    return torch.cat([voxel_counts(downsample_target(target, shape), is_annotated) for shape in shapes])


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
    probabilities: Tensor,
    truth: Tensor,
    counts: Tensor,
    is_annotated: Tensor,
    totals: Totals,
    *,
    smooth: float,
    batch_dice: bool,
) -> Tensor:
    """1 - mean soft Dice over annotated structures of each sample (or of the batch).

    probabilities, truth: (B, S, D, H, W); counts: (B, 1, D, H, W), 0 where a voxel is ignored; is_annotated: (B, S);
    totals: of `voxel_counts`. Dice = (2 sum p t + smooth) / (sum p + sum t + smooth).
    """
    axes = (2, 3, 4)
    weight = is_annotated.to(probabilities.dtype)
    overlap = (probabilities * truth * counts).sum(axes) * weight
    size = ((probabilities + truth) * counts).sum(axes) * weight
    annotated = totals.counts[:-1].to(probabilities.dtype)
    if batch_dice:
        overlap, size = totals.add(torch.stack([overlap.sum(0), size.sum(0)]))
        weight = annotated.clamp(max=1)
        annotated = weight
    dice = (2 * overlap + smooth) / (size + smooth)
    whole = annotated.sum().clamp(min=1)
    loss = weight.sum() / whole - (dice * weight).sum() / whole
    return totals.share_of(loss) if batch_dice else loss


def softmax_loss(
    logits: Tensor, target: Tensor, is_annotated: Tensor, config: LossConfig, totals: Totals | None = None
) -> Tensor:
    """Dice + cross-entropy. logits: (B, 1+S, D, H, W); target: (B, D, H, W) int, 0 background, -1 ignored."""
    totals = totals or Totals(voxel_counts(target, is_annotated))
    logits = merge_unannotated(logits.float(), is_annotated)
    is_counted = target != IGNORED
    known = as_annotated(target.clamp(min=0).long(), is_annotated)
    log_probabilities = logits.log_softmax(dim=1)
    loss = logits.new_zeros(())
    if config.cross_entropy_weight:
        chosen = log_probabilities.gather(1, known[:, None])[:, 0]
        cross_entropy = -torch.where(is_counted, chosen, 0.0).sum() / totals.counts[-1].to(logits.dtype).clamp(min=1)
        loss = loss + config.cross_entropy_weight * cross_entropy
    if config.dice_weight:
        structures = torch.arange(1, logits.shape[1], device=logits.device).view(1, -1, 1, 1, 1)
        truth = (known[:, None] == structures).float()
        loss = loss + config.dice_weight * soft_dice_loss(
            log_probabilities[:, 1:].exp(),
            truth,
            is_counted[:, None].float(),
            is_annotated,
            totals,
            smooth=config.smooth,
            batch_dice=config.batch_dice,
        )
    return loss


def sigmoid_loss(
    logits: Tensor, target: Tensor, is_annotated: Tensor, config: LossConfig, totals: Totals | None = None
) -> Tensor:
    """Dice + binary cross-entropy. logits: (B, S, D, H, W); target: (B, S, D, H, W), 0, 1 or -1 ignored."""
    totals = totals or Totals(voxel_counts(target, is_annotated))
    logits = logits.float()
    is_counted = (target != IGNORED) & is_annotated[:, :, None, None, None]
    truth = (target == 1).float()
    loss = logits.new_zeros(())
    if config.cross_entropy_weight:
        voxelwise = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        cross_entropy = torch.where(is_counted, voxelwise, 0.0).sum() / totals.counts[-1].to(logits.dtype).clamp(min=1)
        loss = loss + config.cross_entropy_weight * cross_entropy
    if config.dice_weight:
        loss = loss + config.dice_weight * soft_dice_loss(
            logits.sigmoid(),
            truth,
            is_counted.float(),
            is_annotated,
            totals,
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
    totals: Totals | None = None,
) -> Tensor:
    """The weighted sum of the losses of the supervised maps, finest first. output: "softmax" or "sigmoid".

    totals: of `supervised_counts`; default: the batch is no part of another.
    """
    if totals is None:
        shapes = [level_logits.shape[-3:] for level_logits in logits]
        totals = Totals(supervised_counts(target, is_annotated, shapes))
    of_level = totals.counts.split(len(totals.counts) // len(logits))
    voxel_loss = softmax_loss if output == "softmax" else sigmoid_loss
    total = logits[0].new_zeros((), dtype=torch.float32)
    with torch.autocast(logits[0].device.type, enabled=False):
        for level_logits, weight, counts in zip(logits, weights, of_level, strict=True):
            level_target = downsample_target(target, level_logits.shape[-3:])
            level_totals = replace(totals, counts=counts)
            total = total + weight * voxel_loss(level_logits, level_target, is_annotated, config, level_totals)
    return total
