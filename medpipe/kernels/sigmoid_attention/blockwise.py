"""Sigmoid attention in plain torch, tile by tile: the extra memory does not grow with the number of keys.

Each tile of scores is computed, used and overwritten; the backward pass computes it again. The bias rides along as one
more column of q (its value) and of k (ones): the product adds it at no cost, and the gradient of that column is the
gradient of the bias. Axis tables ride along in the same way, against columns of k that mark the place of a key.
Products are taken in float32, or float64 where the operands are; 16-bit operands are widened.
"""

from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor
from torch.nn import functional

from medpipe.kernels.sigmoid_attention import tiles
from medpipe.kernels.sigmoid_attention.terms import Terms, places_on_axis, spans
from medpipe.kernels.sigmoid_attention.tiles import Chunk, Tile

# sigmoid_backward takes 1 - p from p: at a score of 4 its relative error is 2^-24 / (1 - p) = 3e-6, beyond it more.
SATURATION = 4.0


class Gradients(NamedTuple):
    """Of q, k, v; of the bias (sequences or 1, H or 1), additive bias and axis tables, empty where not asked for."""

    q: Tensor
    k: Tensor
    v: Tensor
    bias: Tensor
    additive_bias: Tensor
    axis_tables: Tensor


@final
@dataclass(frozen=True)
class Wanted:
    """Which gradients are asked for beside those of q, k and v."""

    bias: bool = False
    additive_bias: bool = False
    axis_tables: bool = False


@final
@dataclass(frozen=True)
class _Queries:
    """What is prepared once for a chunk: (pairs, group, N, D + A + 1): scaled queries, their axis tables, the bias."""

    chunk: Chunk
    augmented: Tensor
    width: int  # D
    longest: float  # of the scaled queries' lengths


def forward(q: Tensor, k: Tensor, v: Tensor, terms: Terms) -> Tensor:
    """Shapes as in `reference`."""
    key_heads, group = k.shape[1], q.shape[1] // k.shape[1]
    out = heads_last_empty(q.shape, v.shape[3], q, zero=True)
    scores = Scores(q, terms, key_heads)
    for span in spans(terms, q.shape[0], q.shape[2], k.shape[2]):
        if span.num_queries == 0 or span.num_keys == 0:
            continue
        rows, columns = tiles.tile_sides(span, terms, group)
        for chunk in tiles.chunks(span, terms, key_heads, group):
            queries = _queries(q, chunk, terms, key_heads)
            total = scores.zeros(*queries.augmented.shape[:3], v.shape[3])
            for cols in tiles.ranges(span.num_keys, columns):
                keys, values = scores.keys(k, chunk, cols), _rows(v, chunk, cols, scores.dtype)
                for part in tiles.ranges(span.num_queries, rows):
                    tile = Tile(chunk, part, cols)
                    if not tile.is_beyond(terms):
                        weights = scores.of(queries, keys, tile).sigmoid_()
                        _accumulate(total, part, weights, values)
            _store(out, chunk, total, key_heads)
    return out


def backward(grad_out: Tensor, q: Tensor, k: Tensor, v: Tensor, terms: Terms, wanted: Wanted) -> Gradients:
    """The gradients of `forward`, from its inputs alone."""
    key_heads, group = k.shape[1], q.shape[1] // k.shape[1]
    grads = empty_gradients(q, k, v, terms, wanted)
    scores = Scores(q, terms, key_heads)
    for span in spans(terms, q.shape[0], q.shape[2], k.shape[2]):
        if span.num_queries == 0 or span.num_keys == 0:
            continue
        rows, columns = tiles.tile_sides(span, terms, group)
        for chunk in tiles.chunks(span, terms, key_heads, group):
            queries = _queries(q, chunk, terms, key_heads)
            grad_rows = _query_rows(grad_out, chunk, key_heads, scores.dtype)
            grad_q = torch.zeros_like(queries.augmented)
            for cols in tiles.ranges(span.num_keys, columns):
                _backward_of_keys(grads, grad_q, grad_rows, queries, k, v, cols, rows, scores)
            _store(grads.q, chunk, grad_q[..., : queries.width].mul_(terms.scale), key_heads)
            if wanted.axis_tables:
                _store(grads.axis_tables, chunk, grad_q[..., queries.width : -1], key_heads)
            if wanted.bias:
                _add_bias_gradient(grads.bias, grad_q[..., -1], chunk, key_heads)
    return grads


def _backward_of_keys(
    grads: Gradients, grad_q: Tensor, grad_rows: Tensor, queries: _Queries, k: Tensor, v: Tensor, cols: slice,
    rows: int, scores: "Scores",
) -> None:  # fmt: skip
    """The share of some keys in every gradient; theirs is then whole."""
    chunk, span = queries.chunk, queries.chunk.span
    keys, values = scores.keys(k, chunk, cols), _rows(v, chunk, cols, scores.dtype)
    grad_k, grad_v = torch.zeros_like(keys), scores.zeros(*values.shape)
    for part in tiles.ranges(span.num_queries, rows):
        tile = Tile(chunk, part, cols)
        if tile.is_beyond(scores.terms):
            continue
        grad_part = grad_rows[:, :, part].flatten(1, 2)
        scores.of(queries, keys, tile)
        slope = scores.sigmoid_and_slope(queries, keys)
        grad_v.baddbmm_(scores.buffer.transpose(1, 2), grad_part)
        grad_scores = scores.gradient(torch.bmm(grad_part, values.transpose(1, 2), out=scores.second), slope)
        if grads.additive_bias.numel():
            tile.add_to(grads.additive_bias, scores.in_five(grad_scores, tile), scores.key_heads)
        grad_k.baddbmm_(grad_scores.transpose(1, 2), queries.augmented[:, :, part].flatten(1, 2))
        _accumulate(grad_q, part, grad_scores, keys)
    keys_at = slice(span.k_start + cols.start, span.k_start + cols.stop)
    chunk.take(grads.k, keys_at).copy_(_by_batch(grad_k[..., : queries.width], chunk))
    chunk.take(grads.v, keys_at).copy_(_by_batch(grad_v, chunk))


@final
class Scores:
    """Buffers of one tile each, and the terms of a score applied in place."""

    def __init__(self, q: Tensor, terms: Terms, key_heads: int) -> None:
        self.terms = terms
        self.key_heads = key_heads
        self.dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
        self.device = q.device
        self._storage = [q.new_empty(0, dtype=self.dtype) for _ in range(3)]

    def zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def keys(self, k: Tensor, chunk: Chunk, cols: slice) -> Tensor:
        """Some keys (pairs, columns, D + A + 1), with the columns that meet the axis tables and the bias."""
        keys = _rows(k, chunk, cols, self.dtype)
        parts = [keys]
        if self.terms.axis_tables is not None:
            places = torch.arange(cols.start, cols.stop, device=self.device)
            parts += [
                functional.one_hot(places_on_axis(self.terms.axis_sizes, axis, places), size)
                .to(self.dtype)
                .expand(*keys.shape[:2], -1)
                for axis, size in enumerate(self.terms.axis_sizes)
            ]
        return torch.cat((*parts, keys.new_ones(*keys.shape[:2], 1)), dim=-1)

    def of(self, queries: _Queries, keys: Tensor, tile: Tile) -> Tensor:
        """The scores of a tile (pairs, group * rows, columns), in `buffer`; -inf where a pair is not visible."""
        rows = queries.augmented[:, :, tile.rows].flatten(1, 2)
        self._shape = (rows.shape[0], rows.shape[1], keys.shape[1])
        scores = torch.bmm(rows, keys.transpose(1, 2), out=self.buffer)
        terms, in_five = self.terms, self.in_five(scores, tile)
        if terms.alibi_slopes is not None:
            slopes = tile.view(terms.alibi_slopes[:, :, None, None].to(self.dtype), self.key_heads)
            in_five.sub_(slopes * tile.distance(self.device).abs())
        if terms.additive_bias is not None:
            in_five.add_(tile.view(terms.additive_bias, self.key_heads))
        visible = self._visible(tile)
        if visible is not None:
            in_five.masked_fill_(~visible, -torch.inf)
        return scores

    @property
    def buffer(self) -> Tensor:
        return self._buffer(0)

    @property
    def second(self) -> Tensor:
        return self._buffer(1)

    def _buffer(self, index: int) -> Tensor:
        size = self._shape[0] * self._shape[1] * self._shape[2]
        if self._storage[index].numel() < size:
            self._storage[index] = self._storage[index].new_empty(size)
        return self._storage[index][:size].view(self._shape)

    def in_five(self, scores: Tensor, tile: Tile) -> Tensor:
        """(pairs, group * rows, columns) as (batches, key heads, group, rows, columns)."""
        batches = tile.chunk.batches.stop - tile.chunk.batches.start
        num_rows = tile.rows.stop - tile.rows.start
        return scores.unflatten(1, (-1, num_rows)).unflatten(0, (batches, -1))

    def _visible(self, tile: Tile) -> Tensor | None:
        """Which pairs of a tile are visible, in a shape that broadcasts to five axes; None is all."""
        terms, visible = self.terms, None
        if terms.has_band and not tile.is_within(terms):
            distance = tile.distance(self.device)
            visible = torch.ones_like(distance, dtype=torch.bool)
            if terms.window_left >= 0:
                visible &= distance >= -terms.window_left
            if terms.window_right >= 0:
                visible &= distance <= terms.window_right
        if terms.q_regions is not None and terms.k_regions is not None:
            q_region = tile.view(terms.q_regions[:, None, :, None], 1)
            same = q_region == tile.view(terms.k_regions[:, None, None, :], 1)
            visible = same if visible is None else visible & same
        if terms.attn_mask is not None:
            mask = tile.view(terms.attn_mask, self.key_heads)
            visible = mask if visible is None else visible & mask
        return visible

    def sigmoid_and_slope(self, queries: _Queries, keys: Tensor) -> Tensor | None:
        """Turn `buffer` from scores into weights p. Returned: 1 - p without cancellation where that needs care."""
        weights = self.buffer
        slope = torch.neg(weights, out=self._buffer(2)).sigmoid_() if self._may_saturate(queries, keys) else None
        weights.sigmoid_()
        return slope

    def _may_saturate(self, queries: _Queries, keys: Tensor) -> bool:
        if self.device.type != "cpu":
            return True  # reading a bound from the device would wait for it
        terms = self.terms
        if terms.additive_bias is None and terms.axis_tables is None and terms.alibi_slopes is None:
            bias = float(queries.augmented[..., -1].amax())
            if queries.longest * float(keys[..., : queries.width].norm(dim=-1).amax()) + bias < SATURATION:
                return False
        return not float(self.buffer.amax()) < SATURATION  # true of NaN too

    def gradient(self, grad_weights: Tensor, slope: Tensor | None) -> Tensor:
        """grad_weights * p (1 - p), in place."""
        if slope is not None:
            return grad_weights.mul_(self.buffer).mul_(slope)
        return torch.ops.aten.sigmoid_backward.grad_input(grad_weights, self.buffer, grad_input=grad_weights)


def heads_last_empty(shape: torch.Size, width: int, like: Tensor, *, zero: bool = False) -> Tensor:
    """A tensor (B, H, N, width) that lies in memory as (B, N, H, width): joining its heads costs no copy."""
    make = like.new_zeros if zero else like.new_empty
    return make(shape[0], shape[2], shape[1], width).transpose(1, 2)


def _queries(q: Tensor, chunk: Chunk, terms: Terms, key_heads: int) -> _Queries:
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    scaled = _query_rows(q, chunk, key_heads, dtype) * terms.scale
    bias = scaled.new_full(scaled.shape[:-1], terms.constant_bias(chunk.span.num_keys))
    if terms.bias is not None:
        own = tiles.take_sequences(terms.bias.to(dtype), chunk.sequences)
        own = own.unflatten(1, (key_heads, -1))[:, chunk.heads] if own.shape[1] > 1 else own[:, :, None]
        batches = chunk.batches.stop - chunk.batches.start
        bias.unflatten(0, (batches, -1)).add_(own[..., None])
    longest = float(scaled.norm(dim=-1).amax()) if scaled.device.type == "cpu" else float("inf")
    parts = [scaled, bias.unsqueeze(-1)]
    if terms.axis_tables is not None:
        parts.insert(1, _query_rows(terms.axis_tables, chunk, key_heads, dtype))
    return _Queries(chunk, torch.cat(parts, dim=-1), q.shape[3], longest)


def _query_rows(x: Tensor, chunk: Chunk, key_heads: int, dtype: torch.dtype) -> Tensor:
    """Of (B, H, N, D), the queries of a chunk: (pairs, group, N, D)."""
    span = chunk.span
    rows = slice(span.q_start, span.q_start + span.num_queries)
    return chunk.take(x.unflatten(1, (key_heads, -1)), rows).to(dtype).flatten(0, 1)


def _rows(x: Tensor, chunk: Chunk, cols: slice, dtype: torch.dtype) -> Tensor:
    """Of (B, Hk, M, D), some keys of a chunk: (pairs, columns, D)."""
    start = chunk.span.k_start
    return chunk.take(x, slice(start + cols.start, start + cols.stop)).to(dtype).flatten(0, 1)


def _accumulate(total: Tensor, part: slice, left: Tensor, right: Tensor) -> None:
    """total (pairs, group, N, D) += left (pairs, group * rows, columns) @ right, at some rows."""
    target = total[:, :, part]
    if total.shape[1] == 1:
        target.squeeze(1).baddbmm_(left, right)
    else:
        target += torch.bmm(left, right).unflatten(1, target.shape[1:3])


def _store(out: Tensor, chunk: Chunk, total: Tensor, key_heads: int) -> None:
    """Write (pairs, group, N, D) to the chunk's place in (B, H, N, D)."""
    span = chunk.span
    rows = slice(span.q_start, span.q_start + span.num_queries)
    chunk.take(out.unflatten(1, (key_heads, -1)), rows).copy_(_by_batch(total, chunk))


def _by_batch(x: Tensor, chunk: Chunk) -> Tensor:
    return x.unflatten(0, (chunk.batches.stop - chunk.batches.start, -1))


def _add_bias_gradient(total: Tensor, grad_rows: Tensor, chunk: Chunk, key_heads: int) -> None:
    """Add the sums over queries of (pairs, group, N) to (sequences or 1, H or 1)."""
    grad = _by_batch(grad_rows.sum(-1), chunk)[..., None, None]
    Tile(chunk, slice(0, 1), slice(0, 1)).add_to(total[:, :, None, None], grad, key_heads)


def empty_gradients(
    q: Tensor, k: Tensor, v: Tensor, terms: Terms, wanted: Wanted, *, zero: bool = True
) -> Gradients:  # fmt: skip
    """Zero everywhere, since what no tile reaches has no gradient; of q, k, v only if `zero`."""
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32

    def of(term: Tensor | None, is_wanted: bool) -> Tensor:
        return q.new_zeros(term.shape if is_wanted and term is not None else (0,), dtype=dtype)

    return Gradients(
        heads_last_empty(q.shape, q.shape[3], q, zero=zero),
        heads_last_empty(k.shape, k.shape[3], k, zero=zero),
        heads_last_empty(v.shape, v.shape[3], v, zero=zero),
        of(terms.bias, wanted.bias),
        of(terms.additive_bias, wanted.additive_bias),
        of(terms.axis_tables, wanted.axis_tables),
    )
