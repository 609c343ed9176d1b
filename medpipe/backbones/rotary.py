"""Places of tokens on a grid by rotation of queries and keys, axis by axis (Su et al., 2021, arXiv:2104.09864)."""

from collections.abc import Sequence

import torch
from torch import Tensor

BASE = 100.0  # the slowest pair turns once in 2 pi BASE tokens: grids of volumes are short


def axial_angles(grid: Sequence[int], head_width: int, device: torch.device) -> Tensor:
    """Angles (N, pairs) of the tokens of a grid (D, H, W), row by row: a third of the pairs turn along each axis.

    pairs = 3 * (head_width // 6); channels beyond two a pair are not turned. Raises ValueError: fewer than 6 channels.
    """
    pairs = head_width // 6
    if pairs == 0:
        raise ValueError(f"rotary positions along three axes need heads of 6 channels at least, got {head_width}")
    speeds = BASE ** -(torch.arange(pairs, device=device) / pairs)
    axes = [torch.arange(size, device=device)[:, None] * speeds for size in grid]
    d, h, w = (len(axis) for axis in axes)
    turned = (
        axes[0][:, None, None].expand(d, h, w, pairs),
        axes[1][None, :, None].expand(d, h, w, pairs),
        axes[2][None, None].expand(d, h, w, pairs),
    )
    return torch.cat(turned, dim=-1).flatten(0, 2)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """x (B, heads, N, D), its channels turned in pairs by angles (N, pairs), or (B, N, pairs) where tokens differ."""
    pairs = angles.shape[-1]
    angles = angles[:, None] if angles.ndim == 3 else angles
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second, rest = x[..., :pairs], x[..., pairs : 2 * pairs], x[..., 2 * pairs :]
    return torch.cat((first * cos - second * sin, first * sin + second * cos, rest), dim=-1)
