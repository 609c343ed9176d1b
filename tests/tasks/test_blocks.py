import pytest
import torch

from medpipe.tasks.blocks import (
    block_grid,
    block_losses,
    hide_hard,
    hide_highest,
    join_blocks,
    keyed_scores,
    mean_over,
    normalised_target,
    num_hidden_blocks,
    plain_target,
    split_blocks,
)

BLOCK = (2, 4, 3)


def some_volume() -> torch.Tensor:
    return torch.randn(2, 1, 4, 8, 9, generator=torch.Generator().manual_seed(0)) * 3 + 1


def test_joining_undoes_splitting_and_blocks_are_in_the_order_of_the_grid() -> None:
    volume = some_volume()
    blocks = split_blocks(volume, BLOCK)
    assert torch.equal(join_blocks(blocks, (4, 8, 9), BLOCK), volume)
    d, h, w = block_grid((4, 8, 9), BLOCK)
    number = (1 * h + 0) * w + 2  # block (1, 0, 2)
    assert torch.equal(blocks[1, number], volume[1, 0, 2:4, 0:4, 6:9].flatten())
    assert (d, h, w) == (2, 2, 3)


def test_patches_that_cannot_be_masked_are_refused() -> None:
    with pytest.raises(ValueError, match="no whole number of blocks"):
        block_grid((5, 8, 9), BLOCK)
    with pytest.raises(ValueError, match="single block"):
        block_grid(BLOCK, BLOCK)


def test_every_sample_hides_the_same_number_at_least_one_and_not_all() -> None:
    assert [num_hidden_blocks(8, ratio) for ratio in (0.01, 0.6, 0.99)] == [1, 5, 7]
    hidden = hide_highest(keyed_scores(5, 8, seed=0, first_sample=0, draw=0), 5)
    assert hidden.sum(1).tolist() == [5] * 5
    assert not torch.equal(hidden[0], hidden[1])


def test_a_mask_depends_on_seed_and_sample_alone() -> None:
    whole = keyed_scores(4, 8, seed=3, first_sample=10, draw=0)
    assert torch.equal(keyed_scores(1, 8, seed=3, first_sample=12, draw=0)[0], whole[2])
    assert not torch.equal(keyed_scores(4, 8, seed=4, first_sample=10, draw=0), whole)
    assert not torch.equal(keyed_scores(4, 8, seed=3, first_sample=10, draw=1), whole)


def test_hard_blocks_are_hidden_and_the_rest_is_drawn() -> None:
    losses = torch.tensor([[0.1, 5.0, 0.2, 4.0, -torch.inf, -torch.inf]])
    scores = torch.tensor([[0.9, 0.1, 0.8, 0.2, 0.95, 0.3]], dtype=torch.float64)
    assert hide_hard(losses, scores, num_hard=2, num_hidden=4).tolist() == [[True, True, False, True, True, False]]
    assert torch.equal(hide_hard(losses, scores, num_hard=0, num_hidden=4), hide_highest(scores, 4))


def test_a_target_has_mean_zero_and_sd_one_in_each_block_and_turns_back_into_the_image() -> None:
    volume = some_volume()
    target = normalised_target(volume, BLOCK, floor=1e-3)
    torch.testing.assert_close(target.blocks.mean(2), torch.zeros(2, 12), atol=1e-6, rtol=0)
    torch.testing.assert_close(target.blocks.std(2, correction=0), torch.ones(2, 12))
    torch.testing.assert_close(target.to_image(target.blocks), split_blocks(volume, BLOCK))


def test_noise_in_air_is_not_blown_up() -> None:
    volume = some_volume() * 1e-4  # a hundredth of the floor
    target = normalised_target(volume, BLOCK, floor=0.1)
    assert target.blocks.abs().max() < 0.02
    assert target.is_flat.all()
    assert not normalised_target(some_volume(), BLOCK, floor=0.1).is_flat.any()


def test_the_loss_is_the_mean_over_counted_blocks() -> None:
    volume = some_volume()
    target = plain_target(volume, BLOCK, floor=0.1)
    reconstruction = join_blocks(target.blocks + torch.arange(12.0)[None, :, None], (4, 8, 9), BLOCK)
    losses = block_losses(reconstruction, target, BLOCK)
    torch.testing.assert_close(losses, torch.arange(12.0).square().expand(2, 12), atol=1e-4, rtol=1e-5)
    counted = torch.zeros(2, 12, dtype=torch.bool)
    counted[:, 3] = counted[0, 5] = True
    assert mean_over(losses, counted).item() == pytest.approx((9 + 9 + 25) / 3, rel=1e-5)
    assert mean_over(losses, torch.zeros_like(counted)).item() == 0
