"""Rotary positions along three axes."""

import pytest
import torch

from medpipe.backbones.rotary import axial_angles, rotate

CPU = torch.device("cpu")


def turned(grid: tuple[int, int, int], place: tuple[int, int, int], x: torch.Tensor) -> torch.Tensor:
    """A vector (D,) turned to a place of a grid."""
    index = (place[0] * grid[1] + place[1]) * grid[2] + place[2]
    return rotate(x[None, None, None], axial_angles(grid, len(x), CPU)[index : index + 1].double())[0, 0, 0]


def test_products_depend_on_the_distance_along_each_axis_alone() -> None:
    q, k = torch.randn(2, 20, generator=torch.Generator().manual_seed(0)).double()
    grid = (4, 5, 6)
    near = turned(grid, (0, 1, 2), q) @ turned(grid, (1, 3, 2), k)
    moved = turned(grid, (2, 2, 5), q) @ turned(grid, (3, 4, 5), k)
    torch.testing.assert_close(near, moved, atol=1e-6, rtol=1e-6)
    for place in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
        assert not torch.allclose(turned(grid, place, q) @ turned(grid, (0, 0, 0), k), q @ k)


def test_lengths_stay_and_the_origin_does_not_turn() -> None:
    x = torch.randn(2, 3, 24, 16, generator=torch.Generator().manual_seed(0))
    out = rotate(x, axial_angles((2, 3, 4), 16, CPU))
    torch.testing.assert_close(out.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(out[:, :, 0], x[:, :, 0])
    assert torch.equal(out[..., 12:], x[..., 12:])  # beyond three axes of two pairs


def test_heads_that_are_too_narrow_are_refused() -> None:
    with pytest.raises(ValueError, match="6 channels at least, got 4"):
        axial_angles((2, 2, 2), 4, CPU)
