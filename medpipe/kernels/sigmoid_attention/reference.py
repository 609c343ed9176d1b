"""The definition of sigmoid attention, written to be read and to be differentiated by torch, in any dtype."""

import torch
from torch import Tensor

from medpipe.kernels.sigmoid_attention.terms import UNLIMITED, Span, Terms, places_on_axis, spans


def reference(q: Tensor, k: Tensor, v: Tensor, terms: Terms) -> Tensor:
    """out_i = sum over visible j of sigmoid(score_ij) v_j; rows are not normalised.

    q (B, H, N, D), k (B, Hk, M, D), v (B, Hk, M, Dv), H a multiple of Hk; out (B, H, N, Dv). The whole score matrix is
    held: for tests, for second derivatives and for reading. Ramapuram et al., 2024, arXiv:2409.04431.
    """
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    out = q.new_zeros(*q.shape[:3], v.shape[3])
    for span in spans(terms, q.shape[0], q.shape[2], k.shape[2]):
        batches = slice(0, 1) if span.is_packed else slice(span.first, span.last)
        queries = slice(span.q_start, span.q_start + span.num_queries)
        keys = slice(span.k_start, span.k_start + span.num_keys)
        scores = reference_scores(q[batches, :, queries], k[batches, :, keys], terms, span)
        out[batches, :, queries] = torch.sigmoid(scores).to(v.dtype) @ v[batches, :, keys]
    return out


def reference_scores(q: Tensor, k: Tensor, terms: Terms, span: Span) -> Tensor:
    """The scores of the sequences of a span (B, H, N, M), -inf where a pair is not visible."""
    sequences = torch.arange(span.first, span.last, device=q.device)
    rows = torch.arange(span.num_queries, device=q.device)[:, None]
    columns = torch.arange(span.num_keys, device=q.device)
    distance = columns - (rows + span.offset)

    scores = q @ k.transpose(-2, -1) * terms.scale + terms.constant_bias(span.num_keys)
    if terms.bias is not None:
        scores = scores + _rows_of(terms.bias, sequences)[:, :, None, None]
    if terms.alibi_slopes is not None:
        slopes = _rows_of(terms.alibi_slopes, sequences)[:, :, None, None].to(q.dtype)
        scores = scores - slopes * distance.abs()
    if terms.additive_bias is not None:
        additive = _rows_of(terms.additive_bias, sequences)
        scores = scores + additive[:, :, : span.num_queries, : span.num_keys]
    if terms.axis_tables is not None:
        tables = terms.axis_tables[span.first : span.last, :, : span.num_queries].split(terms.axis_sizes, dim=-1)
        for axis, table in enumerate(tables):
            scores = scores + table[..., places_on_axis(terms.axis_sizes, axis, columns)]

    visible = torch.ones_like(distance, dtype=torch.bool)
    if terms.window_left != UNLIMITED:
        visible = visible & (distance >= -terms.window_left)
    if terms.window_right != UNLIMITED:
        visible = visible & (distance <= terms.window_right)
    if terms.q_regions is not None and terms.k_regions is not None:
        q_region = _rows_of(terms.q_regions, sequences)[:, None, : span.num_queries, None]
        visible = visible & (q_region == _rows_of(terms.k_regions, sequences)[:, None, None, : span.num_keys])
    if terms.attn_mask is not None:
        visible = visible & _rows_of(terms.attn_mask, sequences)[:, :, : span.num_queries, : span.num_keys]
    return scores.masked_fill(~visible, -torch.inf)


def _rows_of(tensor: Tensor, sequences: Tensor) -> Tensor:
    return tensor[sequences % tensor.shape[0]]
