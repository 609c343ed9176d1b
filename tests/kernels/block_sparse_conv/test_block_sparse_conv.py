"""Operations on visible blocks against the dense operation and a mask."""

import itertools
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from medpipe.kernels.block_sparse_conv import convolution, reference
from medpipe.kernels.block_sparse_conv.convolution import block_conv3d, block_pointwise
from medpipe.kernels.block_sparse_conv.layout import to_blocks, to_volume
from medpipe.kernels.block_sparse_conv.normalisation import block_instance_norm
from medpipe.kernels.block_sparse_conv.visible_blocks import BlockGrid, BlockLevel

Size = tuple[int, int, int]
STRIDES = list(itertools.product((1, 2), repeat=3))


class Setting(NamedTuple):
    grid: BlockGrid
    block: Size
    size: Size

    @property
    def level(self) -> BlockLevel:
        return self.grid.level(self.block, self.size)

    def visible(self, stride: Size = (1, 1, 1)) -> Tensor:
        block, size = (divided(edges, stride) for edges in (self.block, self.size))
        return reference.visible_voxels(self.grid.is_hidden, block, size)


def divided(edges: Size, stride: Size) -> Size:
    d, h, w = (-(-edge // step) for edge, step in zip(edges, stride, strict=True))
    return d, h, w


def setting(block: Size, short: Size = (0, 0, 0)) -> Setting:
    """Three samples with unequal counts: some hidden, all but one hidden, none visible. `short`: voxels missing."""
    torch.manual_seed(sum(block))
    is_hidden = torch.rand(3, 2, 3, 2) < 0.5
    is_hidden[1:] = True
    is_hidden[1, 1, 1, 0] = False
    d, h, w = (edge * count - less for edge, count, less in zip(block, (2, 3, 2), short, strict=True))
    return Setting(BlockGrid(is_hidden), block, (d, h, w))


SETTINGS = [
    setting((2, 2, 2)),
    setting((2, 4, 8)),
    setting((4, 4, 4), (1, 3, 2)),
    setting((6, 2, 4), (5, 0, 1)),
]
BY_SETTING = pytest.mark.parametrize("at", SETTINGS, ids=lambda at: f"{at.block}-{at.size}")


def random(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def assert_same(actual: Tensor, expected: Tensor, leaves: list[Tensor]) -> None:
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=1e-12)
    direction = torch.randn_like(expected)
    gradients = [torch.autograd.grad(y, leaves, direction) for y in (actual, expected)]
    torch.testing.assert_close(*gradients, atol=1e-11, rtol=1e-11)


@BY_SETTING
@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("most", [0, 10**9], ids=["rims", "laid out"])
def test_a_convolution_is_the_dense_one_masked(
    at: Setting, stride: Size, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "MAX_LAID_OUT", most)
    x, weight, bias = random(3, 5, *at.size), random(4, 5, 3, 3, 3), random(4)
    blocks, target = block_conv3d(to_blocks(x, at.level), weight, bias, at.level, stride=stride)
    expected = reference.conv3d(x, weight, bias, at.visible(), at.visible(stride))
    assert_same(to_volume(blocks, target), expected, [x, weight, bias])


@BY_SETTING
@pytest.mark.parametrize("stride", STRIDES)
def test_a_pointwise_convolution_is_the_dense_one_masked(at: Setting, stride: Size) -> None:
    x, weight, bias = random(3, 5, *at.size), random(4, 5, 1, 1, 1), random(4)
    blocks, target = block_pointwise(to_blocks(x, at.level), weight, bias, at.level, stride=stride)
    expected = reference.conv3d(x, weight, bias, at.visible(), at.visible(stride))
    assert_same(to_volume(blocks, target), expected, [x, weight, bias])


@BY_SETTING
def test_a_normalisation_is_that_of_the_visible_voxels_of_each_sample(at: Setting) -> None:
    at = Setting(BlockGrid(at.grid.is_hidden[:2]), at.block, at.size)  # without a voxel the definition is 0 / 0
    x, weight, bias = random(2, 4, *at.size), random(4), random(4)
    blocks = block_instance_norm(to_blocks(x, at.level), weight, bias, at.level)
    expected = reference.instance_norm(x, weight, bias, at.visible())
    assert_same(to_volume(blocks, at.level), expected, [x, weight, bias])


@BY_SETTING
def test_volumes_come_back_with_what_is_asked_for_where_they_are_hidden(at: Setting) -> None:
    x, fill = random(3, 4, *at.size), random(4)
    expected = torch.where(at.visible(), x, fill.view(1, -1, 1, 1, 1))
    assert_same(to_volume(to_blocks(x, at.level), at.level, fill), expected, [x, fill])


def test_blocks_of_a_single_voxel_and_of_thirty_two() -> None:
    for edge, side in ((1, 5), (32, 64)):
        grid = BlockGrid(torch.rand(1, *(side // edge,) * 3) < 0.5)
        at = Setting(grid, (edge, edge, edge), (side, side, side))
        x, weight = random(1, 2, *at.size), random(2, 2, 3, 3, 3)
        blocks, target = block_conv3d(to_blocks(x, at.level), weight, None, at.level)
        expected = reference.conv3d(x, weight, None, at.visible(), at.visible())
        assert_same(to_volume(blocks, target), expected, [x, weight])


def test_with_every_block_hidden_all_is_zero_and_gradients_exist() -> None:
    level = BlockGrid(torch.ones(2, 1, 2, 1, dtype=torch.bool)).level((4, 4, 4))
    x, weight, norm = random(2, 3, 4, 8, 4), random(3, 3, 3, 3, 3), random(3)
    blocks, target = block_conv3d(to_blocks(x, level), weight, None, level, stride=(2, 2, 2))
    y = to_volume(block_instance_norm(blocks, norm, norm, target), target)
    y.sum().backward()
    assert not y.any()
    assert all(leaf.grad is not None and not leaf.grad.any() for leaf in (x, weight, norm))


def test_what_hidden_voxels_hold_has_no_influence_bit_for_bit() -> None:
    at = SETTINGS[1]
    x, weight = torch.randn(3, 4, *at.size), torch.randn(4, 4, 3, 3, 3)
    results = []
    for value in (0.0, 1e30, float("inf"), float("nan")):
        blocks = to_blocks(torch.where(at.visible(), x, value), at.level)
        results.append(block_conv3d(blocks, weight, None, at.level)[0])
    assert all(torch.equal(result, results[0]) for result in results)


def test_a_second_run_gives_the_same_gradients_bit_for_bit() -> None:
    at = SETTINGS[0]
    x, weight = torch.randn(3, 8, *at.size, requires_grad=True), torch.randn(8, 8, 3, 3, 3, requires_grad=True)
    runs = []
    for _ in range(2):
        blocks, target = block_conv3d(to_blocks(x, at.level), weight, None, at.level)
        runs.append(torch.autograd.grad(to_volume(blocks, target).square().sum(), (x, weight)))
    assert all(torch.equal(*pair) for pair in zip(*runs, strict=True))


def test_autocast_computes_in_its_type() -> None:
    at = SETTINGS[2]
    x, weight = torch.randn(3, 4, *at.size, requires_grad=True), torch.randn(4, 4, 3, 3, 3, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = block_conv3d(to_blocks(x, at.level), weight, None, at.level)
    exact, _ = block_conv3d(to_blocks(x, at.level), weight, None, at.level)
    assert y.dtype == torch.bfloat16
    # Both operands are rounded to 8 bits.
    torch.testing.assert_close(y.float(), exact, atol=2**-7 * float(exact.detach().abs().max()), rtol=0)
    assert [leaf.dtype for leaf in torch.autograd.grad(y.float().sum(), (x, weight))] == [torch.float32] * 2


@pytest.mark.parametrize(
    ("block", "size", "message"),
    [((0, 2, 2), None, "at least 1 voxel"), ((4, 4, 4), (8, 8, 8), "is not .* blocks of")],
)
def test_a_level_that_is_no_such_number_of_blocks_is_refused(block: Size, size: Size | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SETTINGS[0].grid.level(block, size)


def test_wrong_kernels_strides_and_masks_are_refused() -> None:
    level = SETTINGS[0].level
    x, weight = random(level.grid.num_blocks, 2, 2, 2, 2), random(2, 2, 3, 3, 3)
    with pytest.raises(ValueError, match="3 x 3 x 3"):
        block_conv3d(x, weight[..., :1], None, level)
    with pytest.raises(ValueError, match="1 x 1 x 1"):
        block_pointwise(x, weight, None, level)
    with pytest.raises(ValueError, match="strides are 1 or 2"):
        block_conv3d(x, weight, None, level, stride=(3, 1, 1))
    with pytest.raises(ValueError, match="do not divide"):
        block_conv3d(x, weight, None, level.coarser((2, 2, 2)), stride=(2, 1, 1))
    with pytest.raises(ValueError, match="is_hidden must be bool"):
        BlockGrid(torch.zeros(1, 2, 2))


def test_a_second_derivative_is_refused() -> None:
    at = SETTINGS[0]
    weight = random(2, 2, 3, 3, 3)
    blocks, _ = block_conv3d(to_blocks(random(3, 2, *at.size), at.level), weight, None, at.level)
    (gradient,) = torch.autograd.grad(blocks.square().sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
