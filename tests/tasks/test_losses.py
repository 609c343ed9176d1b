import math

import pytest
import torch

from medpipe.tasks.losses import (
    deep_supervision_loss,
    downsample_target,
    merge_unannotated,
    sigmoid_loss,
    softmax_loss,
    supervision_weights,
)
from medpipe.tasks.options import LossConfig

CROSS_ENTROPY = LossConfig(dice_weight=0)
DICE = LossConfig(cross_entropy_weight=0)
ALL = torch.ones(1, 2, dtype=torch.bool)


def some_logits(outputs: int = 3, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, outputs, 3, 4, 5, generator=generator, requires_grad=True)


def some_labels(batch: int = 1, num: int = 3) -> torch.Tensor:
    return torch.randint(0, num, (batch, 3, 4, 5), generator=torch.Generator().manual_seed(2))


def test_uniform_logits_cost_the_logarithm_of_the_number_of_outputs() -> None:
    loss = softmax_loss(torch.zeros(1, 3, 3, 4, 5), some_labels(), ALL, CROSS_ENTROPY)
    assert loss.item() == pytest.approx(math.log(3), abs=1e-6)


def test_softmax_dice_by_hand() -> None:
    logits, labels = some_logits(), some_labels()
    p = logits.softmax(1)
    dice = [(2 * (p[:, s] * (labels == s)).sum() + 1e-5) / (p[:, s].sum() + (labels == s).sum() + 1e-5) for s in (1, 2)]
    assert softmax_loss(logits, labels, ALL, DICE).item() == pytest.approx(1 - sum(dice).item() / 2, abs=1e-6)


def test_dice_of_a_perfect_prediction_is_zero_also_for_an_absent_structure() -> None:
    labels = some_labels(num=2)  # structure 2 is annotated and absent
    logits = torch.nn.functional.one_hot(labels, 3).permute(0, 4, 1, 2, 3) * 200.0
    assert softmax_loss(logits, labels, ALL, DICE).item() == pytest.approx(0, abs=1e-6)


def test_batch_dice_pools_samples() -> None:
    logits, labels = some_logits(batch=2), some_labels(batch=2)
    pooled = softmax_loss(logits, labels, ALL.expand(2, 2), LossConfig(cross_entropy_weight=0, batch_dice=True))
    joined = softmax_loss(
        torch.cat(list(logits), dim=1)[None], torch.cat(list(labels))[None], ALL, DICE
    )  # two samples stacked along depth are one
    assert pooled.item() == pytest.approx(joined.item(), abs=1e-6)


@pytest.mark.parametrize("config", [CROSS_ENTROPY, DICE, LossConfig()])
def test_ignored_voxels_have_no_gradient_and_no_influence(config: LossConfig) -> None:
    logits, labels = some_logits(), some_labels()
    labels[:, 1] = -1
    loss = softmax_loss(logits, labels, ALL, config)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.equal(gradient[:, :, 1], torch.zeros_like(gradient[:, :, 1]))
    assert gradient[:, :, 0].abs().min() > 0
    changed = logits.detach().clone()
    changed[:, :, 1] = 50.0
    assert torch.equal(softmax_loss(changed, labels, ALL, config), loss)


def test_background_takes_over_the_probability_of_structures_without_annotation() -> None:
    logits = some_logits(outputs=4)
    merged = merge_unannotated(logits, torch.tensor([[True, False, False]])).softmax(1)
    p = logits.softmax(1)
    torch.testing.assert_close(merged[:, 0], p[:, 0] + p[:, 2] + p[:, 3])
    torch.testing.assert_close(merged[:, 1], p[:, 1])
    assert torch.equal(merged[:, 2:], torch.zeros_like(merged[:, 2:]))


@pytest.mark.parametrize("config", [CROSS_ENTROPY, DICE])
def test_moving_probability_between_background_and_an_unannotated_structure_costs_nothing(config: LossConfig) -> None:
    labels = some_labels(num=2)
    p = some_logits().detach().softmax(1)
    moved = p.clone()
    moved[:, 0] += 0.9 * p[:, 2]
    moved[:, 2] *= 0.1
    known = torch.tensor([[True, False]])
    assert softmax_loss(moved.log(), labels, known, config).item() == pytest.approx(
        softmax_loss(p.log(), labels, known, config).item(), abs=1e-6
    )


def test_labels_of_a_structure_without_annotation_are_background() -> None:
    logits, labels = some_logits(), some_labels()
    known = torch.tensor([[True, False]])
    loss = softmax_loss(logits, labels, known, LossConfig())
    assert torch.equal(loss, softmax_loss(logits, labels.where(labels != 2, 0), known, LossConfig()))
    assert torch.isfinite(torch.autograd.grad(loss, logits)[0]).all()


@pytest.mark.parametrize("config", [CROSS_ENTROPY, DICE, LossConfig()])
def test_sigmoid_outputs_without_annotation_have_no_gradient(config: LossConfig) -> None:
    logits = some_logits(outputs=2, batch=2)
    target = (some_logits(outputs=2, batch=2) > 0).to(torch.uint8)
    known = torch.tensor([[True, False], [True, True]])
    (gradient,) = torch.autograd.grad(sigmoid_loss(logits, target, known, config), logits)
    assert torch.equal(gradient[0, 1], torch.zeros_like(gradient[0, 1]))
    assert gradient[1, 1].abs().min() > 0


def test_sigmoid_loss_by_hand() -> None:
    logits = some_logits(outputs=2)
    target = (some_logits(outputs=2) > 0.3).to(torch.uint8)
    p, t = logits.sigmoid(), target.float()
    cross_entropy = -(t * p.log() + (1 - t) * (1 - p).log()).mean()
    sums = (0, 2, 3, 4)
    dice = (2 * (p * t).sum(sums) + 1e-5) / (p.sum(sums) + t.sum(sums) + 1e-5)
    expected = cross_entropy + 1 - dice.mean()
    assert sigmoid_loss(logits, target, ALL, LossConfig()).item() == pytest.approx(expected.item(), abs=1e-6)


def test_nothing_annotated_costs_nothing() -> None:
    logits = some_logits(outputs=2)
    nothing = torch.zeros(1, 2, dtype=torch.bool)
    loss = sigmoid_loss(logits, torch.ones(1, 2, 3, 4, 5, dtype=torch.uint8), nothing, LossConfig())
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == 0
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_supervision_weights_halve_and_leave_out_the_lowest_map() -> None:
    assert supervision_weights(5) == pytest.approx((8 / 15, 4 / 15, 2 / 15, 1 / 15))
    assert supervision_weights(1) == (1.0,)


def test_a_target_is_downsampled_to_the_voxel_at_the_centre() -> None:
    target = torch.arange(8).view(1, 1, 1, 8).expand(1, 4, 4, 8)
    assert downsample_target(target, (2, 2, 4))[0, 0, 0].tolist() == [1, 3, 5, 7]
    assert downsample_target(target, (4, 4, 8)) is target


def test_deep_supervision_is_the_weighted_sum_and_runs_in_float32_below_autocast() -> None:
    fine, coarse = some_logits(), some_logits()[:, :, :1, :2, :2]
    labels = some_labels()
    weights = (2 / 3, 1 / 3)
    expected = weights[0] * softmax_loss(fine, labels, ALL, LossConfig()) + weights[1] * softmax_loss(
        coarse, downsample_target(labels, (1, 2, 2)), ALL, LossConfig()
    )
    with torch.autocast("cpu", torch.bfloat16):
        loss = deep_supervision_loss((fine, coarse), weights, labels, ALL, output="softmax", config=LossConfig())
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected)
    half = deep_supervision_loss((fine.bfloat16(),), (1.0,), labels, ALL, output="softmax", config=LossConfig())
    assert half.dtype == torch.float32
