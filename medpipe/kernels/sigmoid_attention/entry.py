"""The call: `sigmoid_attention`, with the argument habits of torch's `scaled_dot_product_attention`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from medpipe.kernels.sigmoid_attention.arguments import (
    Additions,
    Sequences,
    Visible,
    check_operands,
    make_terms,
    under_autocast,
    without_padded_keys,
)
from medpipe.kernels.sigmoid_attention.reference import reference
from medpipe.kernels.sigmoid_attention.terms import Terms

IMPLEMENTATIONS = ("torch", "reference")


def sigmoid_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    bias: float | Tensor | None = None,
    scale: float | Tensor | None = None,
    is_causal: bool = False,
    key_lengths: Tensor | None = None,
    query_lengths: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    cu_seqlens_k: Tensor | None = None,
    additive_bias: Tensor | None = None,
    axis_tables: Sequence[Tensor] | None = None,
    attn_mask: Tensor | None = None,
    regions: Tensor | tuple[Tensor, Tensor] | None = None,
    alibi_slopes: Tensor | None = None,
    window: tuple[int, int] | None = None,
    impl: str | None = None,
) -> Tensor:
    """out_i = sum over visible keys j of sigmoid(scale * q_i . k_j + bias + ...) v_j, (B, H, N, Dv).

    q (B, H, N, D), k (B, Hk, M, D), v (B, Hk, M, Dv) of any strides, H a multiple of Hk; float16, bfloat16, float32 or
    float64, one for all three. Rows are not normalised; a query that sees no key is exactly zero. Ramapuram et al.,
    2024, arXiv:2409.04431. Gradients reach q, k, v, bias, scale, additive_bias and axis_tables.

    bias           a number; or a tensor that broadcasts to (B, H): 0 axes, (H,), (B, 1), (B, H). Not given:
                   -log(valid keys) of each sequence, by key_lengths, cu_seqlens or a mask of keys; M otherwise
    scale          a number or a tensor of one entry; D^-1/2
    is_causal      query i sees keys up to i + M - N: the last query stands beside the last key
    key_lengths    (B,): keys from there on do not exist, whatever is stored there; query_lengths alike, their output 0
    cu_seqlens     (S + 1,): S packed sequences in a batch of one; cu_seqlens_k where keys have other lengths
    additive_bias  broadcasts to (B, H, N, M); or has R batches where R divides B: batch b reads b mod R. Packed: to
                   (S, H, longest N, longest M)
    axis_tables    one (B, H, N, size) an axis (B and H may be 1), sizes multiplying to M: key (x, y, ...), counted row
                   by row, adds table_x[i, x] + table_y[i, y] + ... to the score of query i
    attn_mask      bool, True is visible, in the shapes of additive_bias. With one row (B, 1, 1, M) it is a mask of
                   keys: hidden ones may hold NaN, and the bias counts the others
    regions        integers (N,) or (R, N), or a pair of those of queries and of keys: seen where they agree
    alibi_slopes   (H,) or (B, H): slope * |i + M - N - j| is taken off the score
    window         (left, right): keys so far before and after the query's own place; -1 is no limit
    impl           'torch' is memory-bounded and the default; 'reference' holds all scores, and has second derivatives

    Under autocast the operands are cast as those of a matrix product; biases keep their dtype. Raises ValueError:
    shapes, dtypes or options that do not fit together.
    """
    if impl not in (None, *IMPLEMENTATIONS):
        raise ValueError(f"impl={impl!r}: there are {', '.join(repr(name) for name in IMPLEMENTATIONS)} and None")
    q, k, v = under_autocast(q, k, v)
    check_operands(q, k, v)
    sequences = Sequences(key_lengths, query_lengths, cu_seqlens, cu_seqlens_k)
    if attn_mask is not None and attn_mask.ndim == 4 and attn_mask.shape[1] == attn_mask.shape[2] == 1:
        k, v, bias = without_padded_keys(k, v, bias, attn_mask)
    if isinstance(scale, Tensor):
        q, scale = _scaled(q, scale), 1.0
    number = q.shape[-1] ** -0.5 if scale is None else float(scale)
    terms = make_terms(
        q, k, number, sequences, Additions(bias, additive_bias, axis_tables, alibi_slopes),
        Visible(is_causal, attn_mask, regions, window),
    )  # fmt: skip
    if impl == "reference":
        return reference(q, k, v, terms)
    return call_operator(q, k, v, terms)


def call_operator(q: Tensor, k: Tensor, v: Tensor, terms: Terms) -> Tensor:
    from medpipe.kernels.sigmoid_attention.op import forward_op

    return forward_op(
        q, k, v, terms.bias, terms.additive_bias, terms.axis_tables, terms.attn_mask, terms.key_lengths,
        terms.query_lengths, terms.cu_seqlens_q, terms.cu_seqlens_k, terms.q_regions, terms.k_regions,
        terms.alibi_slopes, list(terms.axis_sizes), terms.scale, terms.bias_value, terms.window_left,
        terms.window_right,
    )  # fmt: skip


def _scaled(q: Tensor, scale: Tensor) -> Tensor:
    if scale.numel() != 1:
        raise ValueError(f"scale has shape {tuple(scale.shape)}: one number for the whole call is needed")
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    return (q.to(wide) * scale.to(wide).reshape(())).to(q.dtype)
