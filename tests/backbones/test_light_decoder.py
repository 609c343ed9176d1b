"""The light decoder: what it reads, its grids, its widths."""

import pytest
import torch
from torch import nn

from medpipe.backbones.light_decoder import Densify, LightDecoder, UpBlock
from medpipe.backbones.masking import Visibility
from medpipe.backbones.options import LightDecoderOptions
from medpipe.backbones.sparse_map import sparse_input


@pytest.mark.parametrize("is_gathered", [False, True])
def test_a_hidden_voxel_becomes_the_learned_vector_a_visible_one_is_normalised(is_gathered: bool) -> None:
    torch.manual_seed(0)
    densify = Densify(3, 3, kernel_size=1)
    assert isinstance(densify.projection, nn.Identity)
    half = Visibility(torch.tensor([[[[True, False]]]]))
    x = sparse_input(torch.randn(1, 3, 2, 2, 4), half).laid_out(is_gathered=is_gathered)
    dense = densify(x)
    assert torch.equal(dense[0, :, 0, 0, 0], densify.mask_vector)
    assert torch.equal(dense[..., 2:], densify.norm.sparse(x).dense()[..., 2:])
    of_vector = torch.autograd.grad(dense.square().sum(), densify.mask_vector)[0]
    torch.testing.assert_close(of_vector, 2 * 8 * densify.mask_vector)  # eight hidden voxels


@pytest.mark.parametrize(("channels", "width", "kernel"), [(16, 16, None), (16, 8, 1)])
def test_the_coarsest_map_is_projected_only_where_widths_differ(channels: int, width: int, kernel: int | None) -> None:
    decoder = LightDecoder([4, 8, channels], [(1, 1, 1), (2, 2, 2), (4, 4, 4)], LightDecoderOptions(width=width))
    projection = decoder.densify[0].projection
    assert (projection.kernel_size[0] if isinstance(projection, nn.Conv3d) else None) == kernel
    assert decoder.densify[1].projection.kernel_size == (3, 3, 3)


def test_widths_halve_down_to_a_floor() -> None:
    strides = [(2**level,) * 3 for level in range(5)]
    decoder = LightDecoder([4, 8, 16, 32, 64], strides, LightDecoderOptions(width=64, min_width=12))
    assert [block.conv2.out_channels for block in decoder.blocks] == [32, 16, 12, 12]
    assert decoder.head.in_channels == 12


@pytest.mark.parametrize("kernel_size", [2, 4])
@pytest.mark.parametrize("step", [(2, 2, 2), (1, 2, 2)])
def test_a_block_ends_on_the_finer_grid(kernel_size: int, step: tuple[int, int, int]) -> None:
    x = UpBlock(4, 2, step=step, kernel_size=kernel_size)(torch.randn(1, 4, 3, 4, 5))
    assert tuple(x.shape) == (1, 2, 3 * step[0], 8, 10)
