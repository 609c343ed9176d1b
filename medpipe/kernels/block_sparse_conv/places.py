"""Which places a block reads, as offsets from its first voxel: the same for every block, and kept between steps."""

from functools import lru_cache
from itertools import product

import torch
from torch import Tensor

Edges = tuple[int, int, int]  # (D, H, W)


@lru_cache(maxsize=256)
def rim_places(block: Edges, low: Edges, high: Edges) -> Tensor:
    """(P, 3) int64: every place from -low to block + high, W fastest."""
    axes = [torch.arange(-before, edge + after) for before, edge, after in zip(low, block, high, strict=True)]
    return torch.cartesian_prod(*axes)


@lru_cache(maxsize=256)
def tap_places(block: Edges, stride: Edges) -> Tensor:
    """(voxels * 27, 3) int64: what each voxel of an output block reads under a kernel of 3, W fastest."""
    first = torch.cartesian_prod(*(torch.arange(edge) for edge in block)) * torch.tensor(stride)
    return (first[:, None] + rim_places((1, 1, 1), (1, 1, 1), (1, 1, 1))).view(-1, 3)


@lru_cache(maxsize=256)
def adjoint_taps(block: Edges, stride: Edges) -> tuple[tuple[Edges, Tensor, Tensor], ...]:
    """What each voxel of an input block is read by: for each remainder of its place by the stride

    (the remainder; (voxels * T, 3) int64, the places of the output block of these edges that read it; (T,) int64, by
    which of the 27 taps). Input voxel i is tap k of output voxel o where o * stride + k - 1 = i.
    """
    parts = []
    for remainder in product(*(range(step) for step in stride)):
        axes = [taps_reading(*pair) for pair in zip(remainder, stride, strict=True)]
        chosen = list(product(*axes))
        shifts = torch.tensor([[shift for shift, _ in taps] for taps in chosen])
        taps = torch.tensor([(z * 3 + y) * 3 + x for (_, z), (_, y), (_, x) in chosen])
        first = torch.cartesian_prod(*(torch.arange(edge) for edge in block))
        parts.append((remainder, (first[:, None] + shifts).view(-1, 3), taps))
    return tuple(parts)


def taps_reading(remainder: int, step: int) -> list[tuple[int, int]]:
    """(output place - i // step, tap) of every tap along one axis that reads input place i, of this remainder."""
    return [((remainder + 1 - tap) // step, tap) for tap in range(3) if (remainder + 1 - tap) % step == 0]
