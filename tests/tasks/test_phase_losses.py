"""Losses along time: padding and unnamed frames count for nothing, weights are capped and 1 on average."""

import numpy as np
import pytest
import torch

from medpipe.metrics.phases import IGNORED
from medpipe.tasks.phase_losses import class_weights, phase_loss, smoothness_loss
from medpipe.tasks.phase_options import PhaseLossConfig

COUNTS = np.array([270, 2890, 790, 110, 1270, 2530, 750, 1170, 220])


@pytest.mark.parametrize("kind", ["sqrt_inverse", "inverse"])
def test_a_random_frame_has_weight_one(kind: str) -> None:
    weights = class_weights(COUNTS, PhaseLossConfig(class_weights=kind))  # type: ignore[arg-type]
    assert (weights * COUNTS).sum() / COUNTS.sum() == pytest.approx(1)
    assert weights[3] == weights.max()


def test_weights_are_capped() -> None:
    weights = class_weights(np.array([10_000, 1]), PhaseLossConfig(class_weights="inverse", largest_weight=5))
    assert weights[1] <= 5 / ((0.5 * 10_001 / 10_000 * 10_000 + 5) / 10_001) + 1e-6


def test_a_phase_without_training_frames_moves_no_other_weight() -> None:
    config = PhaseLossConfig()
    with_gap, without = class_weights(np.array([30, 0, 60]), config), class_weights(np.array([30, 60]), config)
    np.testing.assert_allclose(with_gap[[0, 2]], without)
    assert with_gap[1] == 1


def test_loss_is_the_same_alone_and_padded() -> None:
    logits, labels = torch.randn(1, 7, 9), torch.randint(0, 9, (1, 7))
    labels[0, 3] = IGNORED
    is_frame, weights, config = torch.ones(1, 7, dtype=torch.bool), torch.rand(9) + 0.5, PhaseLossConfig()
    alone = phase_loss([logits], labels, is_frame, weights, config)
    padded = torch.cat([logits, 50 * torch.randn(1, 20, 9)], dim=1)
    longer = torch.cat([labels, torch.randint(0, 9, (1, 20))], dim=1)
    frames = torch.arange(27)[None] < 7
    torch.testing.assert_close(phase_loss([padded], longer, frames, weights, config), alone)


def test_smoothness_by_hand_over_every_video_of_the_batch() -> None:
    logits = torch.randn(2, 5, 3)
    frames = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    log_p = logits.log_softmax(-1)
    steps = [(log_p[b, t] - log_p[b, t - 1]).square().clamp(max=0.5) for b, n in ((0, 5), (1, 3)) for t in range(1, n)]
    torch.testing.assert_close(smoothness_loss(logits, frames, clamp=0.5), torch.stack(steps).mean())


def test_nothing_named_costs_only_smoothness_and_is_no_nan() -> None:
    labels, frames = torch.full((1, 4), IGNORED), torch.ones(1, 4, dtype=torch.bool)
    loss = phase_loss([torch.randn(1, 4, 9)], labels, frames, torch.ones(9), PhaseLossConfig())
    assert torch.isfinite(loss)
