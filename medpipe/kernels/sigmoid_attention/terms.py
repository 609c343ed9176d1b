"""What turns the product of a query and a key into a score, and which pairs are visible: arguments made uniform."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import final

from torch import Tensor

UNLIMITED = -1  # of a side of the window


@final
@dataclass(frozen=True, eq=False)
class Terms:
    """Score of query i and key j of head h: scale * q_i . k_j + bias + additive_bias_ij - slope * |i + offset - j|.

    offset = keys - queries of the sequence, so that the last query stands beside the last key. With axis_tables, a key
    at place (x, y, ...) of its grid adds table_x[i, x] + table_y[i, y] + ...: the decomposed relative position of Li et
    al., 2021, arXiv:2112.01526. Tensors with a batch axis R may have fewer rows than there are batches: batch b reads
    row b % R, which serves both broadcasting (R = 1) and the windows of a Swin transformer (R windows a volume).
    """

    scale: float
    bias: Tensor | None = None  # (sequences or 1, H or 1) float32
    bias_value: float | None = None  # added to `bias`; None: -log(keys of the sequence), or 0 where `bias` is given
    additive_bias: Tensor | None = None  # (R, H or 1, N or 1, M or 1), floating
    axis_tables: Tensor | None = (
        None  # (B, H, N, sum of axis_sizes), floating: read by each key at its place on each axis
    )
    axis_sizes: tuple[int, ...] = ()  # of the grid that the keys fill, row by row
    attn_mask: Tensor | None = None  # as additive_bias, bool: True is visible
    key_lengths: Tensor | None = None  # (B,) int32: keys from there on do not exist
    query_lengths: Tensor | None = None  # (B,) int32: outputs from there on are zero
    cu_seqlens_q: Tensor | None = None  # (S + 1,) int32: S packed sequences in a batch of one
    cu_seqlens_k: Tensor | None = None
    q_regions: Tensor | None = None  # (R, N) int32: a pair is visible where the regions agree
    k_regions: Tensor | None = None  # (R, M) int32
    alibi_slopes: Tensor | None = None  # (sequences or 1, H) float32
    window_left: int = UNLIMITED  # keys before the query's own place that are visible
    window_right: int = UNLIMITED  # keys after it; 0 is causal

    @property
    def has_band(self) -> bool:
        return self.window_left != UNLIMITED or self.window_right != UNLIMITED

    @property
    def is_packed(self) -> bool:
        return self.cu_seqlens_q is not None

    def constant_bias(self, num_keys: int) -> float:
        """The part of the bias that is a number, for a sequence of so many keys."""
        if self.bias_value is not None:
            return self.bias_value
        return 0.0 if self.bias is not None or num_keys == 0 else -math.log(num_keys)


@final
@dataclass(frozen=True)
class Span:
    """Sequences of equal lengths: batches `first` to `last` (packed: one sequence, all of them in batch 0)."""

    first: int
    last: int
    q_start: int
    num_queries: int
    k_start: int
    num_keys: int
    is_packed: bool = False

    @property
    def offset(self) -> int:
        """Place of query 0 among the keys."""
        return self.num_keys - self.num_queries


def spans(terms: Terms, batch: int, num_queries: int, num_keys: int) -> Iterator[Span]:
    """The sequences of a call, neighbours of equal lengths together. Reads lengths from the device."""
    if terms.cu_seqlens_q is not None and terms.cu_seqlens_k is not None:
        q_ends, k_ends = terms.cu_seqlens_q.tolist(), terms.cu_seqlens_k.tolist()
        check_ends("cu_seqlens", q_ends, num_queries)
        check_ends("cu_seqlens_k", k_ends, num_keys)
        for i in range(len(q_ends) - 1):
            yield Span(i, i + 1, q_ends[i], q_ends[i + 1] - q_ends[i], k_ends[i], k_ends[i + 1] - k_ends[i], True)
        return
    k_lengths = [num_keys] * batch if terms.key_lengths is None else terms.key_lengths.tolist()
    q_lengths = [num_queries] * batch if terms.query_lengths is None else terms.query_lengths.tolist()
    for name, lengths, most in (("key", k_lengths, num_keys), ("query", q_lengths, num_queries)):
        if any(length < 0 or length > most for length in lengths):
            raise ValueError(f"{name}_lengths {lengths} must lie between 0 and the {most} rows that are stored")
    first = 0
    for (queries, keys), run in groupby(zip(q_lengths, k_lengths, strict=True)):
        last = first + len(list(run))
        yield Span(first, last, 0, queries, 0, keys)
        first = last


def check_ends(name: str, ends: list[int], length: int) -> None:
    if ends[0] != 0 or ends[-1] != length or any(after < before for before, after in pairwise(ends)):
        raise ValueError(f"{name} {ends} must begin with 0, never fall and end with the {length} rows that are stored")


def places_on_axis(sizes: tuple[int, ...], axis: int, keys: Tensor) -> Tensor:
    """Place along an axis of keys counted row by row through a grid."""
    return keys // math.prod(sizes[axis + 1 :]) % sizes[axis]
