"""Attention inside the windows of a Swin transformer, with monai's parameters, by sigmoid or by softmax.

Needs torch and medpipe.kernels alone.
"""

from collections.abc import Sequence
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from medpipe.kernels.sigmoid_attention.entry import sigmoid_attention


@final
class WindowAttention(nn.Module):
    """Self-attention of tokens within windows, with a learned number for each relative place and head.

    Parameters, their names and `forward` are those of monai.networks.nets.swin_unetr.WindowAttention, without dropout,
    so that weights move from one to the other by name. Liu et al., 2021, arXiv:2103.14030.

    softmax: the same function as monai's, by torch's scaled dot product attention.
    sigmoid: every visible pair weighs sigmoid(q k / sqrt(D) + relative bias - log N), rows not normalised
    (arXiv:2409.04431). N counts all tokens of a window, those that a shift mask hides as well: a row that sees 27 of
    343, the fewest in a shifted volume of windows of 7^3, begins with a sum of a thirteenth. Padded tokens count, as in
    monai.
    """

    relative_position_index: Tensor
    readers: Tensor

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window_size: Sequence[int],
        qkv_bias: bool = False,
        *,
        attention: Literal["sigmoid", "softmax"] = "sigmoid",
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"a width of {dim} does not divide into {num_heads} heads")
        if attention not in ("sigmoid", "softmax"):
            raise ValueError(f"attention is {attention!r}: there are 'sigmoid' and 'softmax'")
        self.num_heads = num_heads
        self.attention = attention
        index = relative_places(window_size)
        self.relative_position_bias_table = nn.Parameter(torch.empty(int(index.max()) + 1, num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", index)
        self.register_buffer("readers", readers_of_rows(index), persistent=False)
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x (B, N, dim), the windows of a volume one after the other; mask as monai's compute_mask, see `attend`."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        attend = attend_by_sigmoid if self.attention == "sigmoid" else attend_by_softmax
        found = attend(q, k, v, self.relative_bias(x.shape[1]), mask)
        return self.proj(found.transpose(1, 2).flatten(2))

    def relative_bias(self, num_tokens: int) -> Tensor:
        """(H, N, N). A window of fewer tokens than the table is for has the bias of its first ones, as in monai."""
        side = self.relative_position_index.shape[0]
        bias = _ReadTable.apply(self.relative_position_bias_table, self.relative_position_index, self.readers)
        return bias if num_tokens == side else bias[:, :num_tokens, :num_tokens]


def attend_by_sigmoid(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
    """(B, H, N, D) of q, k, v of that shape and bias (H, N, N).

    mask (W, N, N), W the windows of a volume: a pair is seen where it is 0, and window b of the batch reads row b % W.
    """
    visible = None if mask is None else (mask == 0).unsqueeze(1)
    return sigmoid_attention(q, k, v, additive_bias=bias.unsqueeze(0), attn_mask=visible)


def attend_by_softmax(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
    """As `attend_by_sigmoid`, but the mask is added to the scores, so that hidden pairs keep exp(-100) as in monai."""
    attend = functional.scaled_dot_product_attention
    if mask is None:
        return attend(q, k, v, attn_mask=bias.unsqueeze(0).to(q.dtype))
    # The windows of a volume stand among the heads: the sum of bias and mask is then held once, not once a volume.
    q, k, v = (x.unflatten(0, (-1, mask.shape[0])).flatten(1, 2) for x in (q, k, v))
    added = (bias + mask.unsqueeze(1)).flatten(0, 1)
    found = attend(q, k, v, attn_mask=added.unsqueeze(0).to(q.dtype))
    return found.unflatten(1, (mask.shape[0], -1)).flatten(0, 1)


def relative_places(window_size: Sequence[int]) -> Tensor:
    """Row of the table that each pair of query and key of a window reads: (N, N) int64, monai's order."""
    axes = torch.meshgrid(*(torch.arange(side) for side in window_size), indexing="ij")
    index = torch.zeros((), dtype=torch.int64)
    for side, axis in zip(window_size, axes, strict=True):
        places = axis.flatten()
        index = index * (2 * side - 1) + places[:, None] - places[None, :] + side - 1
    return index


def readers_of_rows(index: Tensor) -> Tensor:
    """The pairs that read each row of the table: (rows, most readers) int32, filled up with the number of pairs."""
    order, counts = index.flatten().argsort(stable=True), index.flatten().bincount()
    at = torch.arange(int(counts.max()))
    places = (counts.cumsum(0) - counts)[:, None] + at
    readers = order[places.clamp(max=len(order) - 1)].masked_fill(at >= counts[:, None], len(order))
    return readers.to(torch.int32)


class _ReadTable(torch.autograd.Function):
    """table (rows, H) at index (N, N): (H, N, N).

    Its own gradient, since that of table[index] sorts 117,649 pairs at every step of a window of 7^3.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor, readers: Tensor) -> Tensor:
        ctx.save_for_backward(index, readers)
        return table.t().index_select(1, index.flatten()).unflatten(1, index.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        index, readers = ctx.saved_tensors
        # On a GPU index_add adds in any order; on a CPU gathering the padded readers takes sixty times as long.
        total = sum_by_gathering(grad, readers) if grad.is_cuda else sum_by_adding(grad, index, len(readers))
        return total, None, None


def sum_by_gathering(grad: Tensor, readers: Tensor) -> Tensor:
    """grad (H, N, N) summed over the readers of each row, (rows, H), the same to the bit at every call."""
    padded = functional.pad(grad.flatten(1), (0, 1))
    return padded.index_select(1, readers.flatten()).unflatten(1, readers.shape).sum(-1).t()


def sum_by_adding(grad: Tensor, index: Tensor, num_rows: int) -> Tensor:
    """As `sum_by_gathering`, pair by pair."""
    return grad.new_zeros(len(grad), num_rows).index_add_(1, index.flatten(), grad.flatten(1)).t()
