"""Which voxels are visible on each level."""

import pytest
import torch

from medpipe.backbones.masking import Visibility


def random_visibility(*size: int, seed: int = 0) -> Visibility:
    return Visibility(torch.rand(size, generator=torch.Generator().manual_seed(seed)) < 0.6)


def test_a_block_is_repeated_to_its_voxels() -> None:
    is_visible = Visibility(torch.tensor([[[[True, False]]]])).at((2, 3, 4)).is_visible
    assert is_visible.shape == (1, 1, 2, 3, 4)
    assert not is_visible[..., :2].any()
    assert is_visible[..., 2:].all()


def test_the_voxels_of_a_finer_level_are_visible_just_where_their_coarser_voxel_is() -> None:
    visibility = random_visibility(2, 2, 3, 2)
    for level in range(4):
        coarse, fine = (
            visibility.at((2 * step, 3 * step, 2 * step)).is_visible.float() for step in (2**level, 2 ** (level + 1))
        )
        assert torch.equal(torch.nn.functional.max_pool3d(fine, 2), coarse)
        assert torch.equal(-torch.nn.functional.max_pool3d(-fine, 2), coarse)


def test_ratios_may_differ_between_axes() -> None:
    visibility = random_visibility(1, 2, 2, 2)
    is_visible = visibility.at((4, 8, 2)).is_visible
    for voxel in torch.cartesian_prod(torch.arange(4), torch.arange(8), torch.arange(2)).tolist():
        d, h, w = voxel
        assert is_visible[0, 0, d, h, w] == ~visibility.is_hidden[0, d // 2, h // 4, w]


def test_every_sample_has_a_count_of_its_own() -> None:
    is_hidden = torch.zeros(2, 2, 2, 2, dtype=torch.bool)
    is_hidden[1, 0] = True
    assert Visibility(is_hidden).at((4, 4, 4)).count.flatten().tolist() == [64, 32]


def test_hidden_nan_and_infinity_become_zero() -> None:
    visible = Visibility(torch.tensor([[[[True, False]]]])).at((1, 1, 2))
    x = torch.tensor([torch.nan, 3.0]).view(1, 1, 1, 1, 2)
    assert visible.only_visible(x).flatten().tolist() == [0, 3]


@pytest.mark.parametrize("size", [(9, 8, 8), (2, 4, 4)], ids=["no whole ratio", "coarser than the blocks"])
def test_a_level_that_cuts_blocks_is_refused(size: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"no whole multiple of the \(4, 4, 4\) blocks"):
        random_visibility(1, 4, 4, 4).at(size)


@pytest.mark.parametrize("wrong", [torch.zeros(1, 2, 2, 2), torch.zeros(2, 2, 2, dtype=torch.bool)])
def test_anything_but_a_bool_batch_of_grids_is_refused(wrong: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="is_hidden must be bool"):
        Visibility(wrong)
