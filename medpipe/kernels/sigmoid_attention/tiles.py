"""How a call is cut into tiles of scores of a fixed size, and what of each argument belongs to a tile."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from medpipe.kernels.sigmoid_attention.terms import UNLIMITED, Span, Terms

# Scores held at once, whatever the lengths: 1 MiB in float32, so that with its gradient a tile lies in the second
# level caches of two cores. 2^17 and 2^19 were 5 to 10 % slower at (1, 12, 1728, 64).
TILE_ELEMENTS = 2**18
TILE_ROWS = 256
TILE_COLUMNS = 512
SMALLEST_SIDE = 64  # of the tiles of a narrow window: below, what a tile costs to begin outweighs its scores


@final
@dataclass(frozen=True)
class Chunk:
    """Batches and key heads whose scores are computed together. Ranges are half open."""

    span: Span
    batches: slice
    heads: slice  # of k and v
    sequences: slice  # rows of what is given per sequence: the batches, or the packed sequence

    @property
    def num_pairs(self) -> int:
        return (self.batches.stop - self.batches.start) * (self.heads.stop - self.heads.start)

    def take(self, tensor: Tensor, rows: Tensor | slice) -> Tensor:
        """Of (B, Hk, ..., L, D): its batches, heads and rows."""
        return tensor[self.batches, self.heads, ..., rows, :]


@final
@dataclass(frozen=True)
class Tile:
    """A chunk's scores of some queries and some keys, counted from the start of their sequences."""

    chunk: Chunk
    rows: slice
    columns: slice

    def distance(self, device: torch.device) -> Tensor:
        """Place of the key less place of the query, (rows, columns) int64."""
        rows = torch.arange(self.rows.start, self.rows.stop, device=device)
        columns = torch.arange(self.columns.start, self.columns.stop, device=device)
        return columns - (rows[:, None] + self.chunk.span.offset)

    def _extremes(self) -> tuple[int, int]:
        offset = self.chunk.span.offset
        return (
            self.columns.start - (self.rows.stop - 1) - offset,
            self.columns.stop - 1 - self.rows.start - offset,
        )

    def is_beyond(self, terms: Terms) -> bool:
        """Whether the window shows nothing of this tile."""
        least, most = self._extremes()
        return (terms.window_left != UNLIMITED and most < -terms.window_left) or (
            terms.window_right != UNLIMITED and least > terms.window_right
        )

    def is_within(self, terms: Terms) -> bool:
        """Whether the window shows all of this tile."""
        least, most = self._extremes()
        return (terms.window_left == UNLIMITED or least >= -terms.window_left) and (
            terms.window_right == UNLIMITED or most <= terms.window_right
        )

    def view(self, tensor: Tensor, key_heads: int) -> Tensor:
        """Of (R, H or 1, N or 1, M or 1): (batches, key heads, group, rows, columns), each as long or 1."""
        own = _split_heads(tensor, key_heads, self.chunk.heads)[..., _cut(tensor, 2, self.rows), :]
        return take_sequences(own[..., _cut(tensor, 3, self.columns)], self.chunk.sequences)

    def add_to(self, total: Tensor, gradient: Tensor, key_heads: int) -> None:
        """Add a gradient (batches, key heads, group, rows, columns) to a tensor that `view` would read from."""
        target = _split_heads(total, key_heads, self.chunk.heads)[..., _cut(total, 2, self.rows), :]
        target = target[..., _cut(total, 3, self.columns)]
        broadcast = [axis for axis in range(1, 5) if target.shape[axis] == 1 and gradient.shape[axis] > 1]
        gradient = gradient.sum(broadcast, keepdim=True) if broadcast else gradient
        rows = sequence_rows(self.chunk.sequences, total.shape[0], total.device)
        if isinstance(rows, slice):
            target = target[rows]
            target += gradient.sum(0, keepdim=True) if target.shape[0] < gradient.shape[0] else gradient
        else:
            target.index_add_(0, rows, gradient)


def sequence_rows(sequences: slice, num_rows: int, device: torch.device) -> Tensor | slice:
    """Rows that sequences read of a tensor with `num_rows`: row sequence % num_rows."""
    if num_rows == 1:
        return slice(0, 1)
    if sequences.stop <= num_rows:
        return sequences
    return torch.arange(sequences.start, sequences.stop, device=device) % num_rows


def take_sequences(tensor: Tensor, sequences: slice) -> Tensor:
    return tensor[sequence_rows(sequences, tensor.shape[0], tensor.device)]


def chunks(span: Span, terms: Terms, key_heads: int, group: int) -> Iterator[Chunk]:
    """The chunks of a span: whole batches where several fit into a tile, else some heads of one."""
    rows, columns = tile_sides(span, terms, group)
    fitting = max(1, TILE_ELEMENTS // max(1, group * rows * columns))
    num_batches = 1 if span.is_packed else span.last - span.first
    heads = -(-key_heads // -(-key_heads // fitting))  # as even as can be
    step = max(1, fitting // key_heads)
    for first in range(0, num_batches, step):
        last = min(first + step, num_batches)
        batches = slice(first, last) if span.is_packed else slice(span.first + first, span.first + last)
        sequences = slice(span.first, span.last) if span.is_packed else batches
        for head in range(0, key_heads, heads):
            yield Chunk(span, batches, slice(head, min(head + heads, key_heads)), sequences)


def tile_sides(span: Span, terms: Terms, group: int) -> tuple[int, int]:
    """Rows (of each head) and columns of the tiles of a span: even parts, not a full tile and a rest.

    A window closed on both sides is cut into tiles of about twice its width: in larger ones most scores lie outside.
    """
    most_rows, most_columns = TILE_ROWS, TILE_COLUMNS
    if terms.window_left != UNLIMITED and terms.window_right != UNLIMITED:
        side = max(SMALLEST_SIDE, 2 * (terms.window_left + terms.window_right + 1))
        most_rows, most_columns = min(most_rows, side), min(most_columns, side)
    rows = even_part(span.num_queries, max(1, most_rows // group))
    return rows, even_part(span.num_keys, most_columns)


def even_part(length: int, limit: int) -> int:
    return -(-length // max(1, -(-length // limit)))


def ranges(length: int, step: int) -> Iterator[slice]:
    for start in range(0, length, max(1, step)):
        yield slice(start, min(start + step, length))


def _split_heads(tensor: Tensor, key_heads: int, heads: slice) -> Tensor:
    """(R, H or 1, ...) to (R, key heads, group, ...), of which `heads`."""
    if tensor.shape[1] == 1:
        return tensor.unsqueeze(1)
    return tensor.unflatten(1, (key_heads, -1))[:, heads]


def _cut(tensor: Tensor, axis: int, part: slice) -> slice:
    return slice(0, 1) if tensor.shape[axis] == 1 else part
