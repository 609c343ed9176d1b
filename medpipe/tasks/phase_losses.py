"""Losses of phases along a video: only frames that are there and named count, whoever shares the batch."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from medpipe.metrics.phases import IGNORED
from medpipe.tasks.phase_options import PhaseLossConfig
from medpipe.tasks.totals import Totals


def class_weights(counts: np.ndarray, config: PhaseLossConfig) -> np.ndarray:
    """Weights (phases,) from the training frames of each phase: capped, 1 on average over the frames.

    A phase without a training frame has weight 1 (the published weights crash or shift there).
    """
    weights = np.ones(len(counts))
    if config.class_weights == "none" or not counts.any():
        return weights
    power = 0.5 if config.class_weights == "sqrt_inverse" else 1.0
    seen = counts > 0
    share = counts[seen] / counts.sum()
    raw = share**-power
    raw = np.minimum(raw / (raw * share).sum(), config.largest_weight)
    weights[seen] = raw / (raw * share).sum()
    return weights


def phase_counts(labels: Tensor, is_frame: Tensor, weights: Tensor) -> Tensor:
    """(2,) the weights of all frames with a label, and the pairs of neighbouring frames: what the loss is a mean over.

    labels: (B, T), IGNORED where nothing is known; is_frame: (B, T) bool.
    """
    targets = torch.where(is_frame, labels, IGNORED)
    of_frame = weights.to(labels.device).double()[targets.clamp(min=0)]
    pairs = is_frame[:, 1:] & is_frame[:, :-1]
    return torch.stack([of_frame[targets != IGNORED].sum(), pairs.sum().double()])


def phase_loss(
    stages: Sequence[Tensor],
    labels: Tensor,
    is_frame: Tensor,
    weights: Tensor,
    config: PhaseLossConfig,
    totals: Totals | None = None,
) -> Tensor:
    """The sum over stages of cross-entropy and smoothness, each a mean over the frames of the whole batch.

    stages: logits (B, T, phases); labels: (B, T), IGNORED where nothing is known; is_frame: (B, T) bool; totals: of
    `phase_counts`, where the batch is a part of another.
    """
    of_labels, of_pairs = totals.counts if totals is not None else phase_counts(labels, is_frame, weights)
    targets = torch.where(is_frame, labels, IGNORED)
    total = stages[0].new_zeros((), dtype=torch.float32)
    for logits in stages:
        summed = F.cross_entropy(
            logits.flatten(0, 1).float(),
            targets.flatten(),
            weight=weights.to(logits.device),
            ignore_index=IGNORED,
            label_smoothing=config.label_smoothing,
            reduction="sum",
        )
        total = total + summed / torch.where(of_labels > 0, of_labels, 1.0).float()
        if config.smoothness:
            smooth = smoothness_loss(logits, is_frame, clamp=config.smoothness_clamp, pairs=of_pairs)
            total = total + config.smoothness * smooth
    return total


def smoothness_loss(logits: Tensor, is_frame: Tensor, *, clamp: float, pairs: Tensor | None = None) -> Tensor:
    """Mean squared step of the log-probabilities between neighbouring frames, truncated; the earlier frame is fixed.

    Farha and Gall, 2019, arXiv:1903.01945. Every video of the batch counts, padding does not. pairs: how many pairs of
    frames the mean is over; default: those of this batch.
    """
    log_p = logits.float().log_softmax(dim=-1)
    steps = (log_p[:, 1:] - log_p[:, :-1].detach()).square().clamp(max=clamp)
    both = (is_frame[:, 1:] & is_frame[:, :-1]).unsqueeze(-1).to(steps.dtype)
    count = both.sum() if pairs is None else pairs.to(steps.dtype)
    return (steps * both).sum() / (count * steps.shape[-1]).clamp(min=1)
