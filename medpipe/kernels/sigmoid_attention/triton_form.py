"""The Triton form on the host's side: what is allocated, launched and added up."""

# What stands in a kernel is Triton's language and not Python, and its launches take further options.
# pyright: reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false, reportIndexIssue=false
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false

from dataclasses import replace

import torch
import triton
from torch import Tensor
from torch.nn import functional

from medpipe.kernels.sigmoid_attention import triton_launch as launch
from medpipe.kernels.sigmoid_attention.blockwise import Gradients, Wanted, empty_gradients, heads_last_empty
from medpipe.kernels.sigmoid_attention.terms import Terms, places_on_axis
from medpipe.kernels.sigmoid_attention.triton_backward import additive_kernel, keys_kernel, queries_kernel
from medpipe.kernels.sigmoid_attention.triton_forward import forward_kernel
from medpipe.kernels.sigmoid_attention.triton_launch import Configuration


def forward(q: Tensor, k: Tensor, v: Tensor, terms: Terms, *, config: Configuration | None = None) -> Tensor:
    """Shapes as in `reference`. Lengths stay on the device: nothing waits for it."""
    launch.check_lengths(q, k, terms)
    q, k, terms = _with_tables_in_columns(q, k, terms)
    config = config or launch.configuration("forward", max(q.shape[3], v.shape[3]), q.dtype, terms)
    out = heads_last_empty(q.shape, v.shape[3], q, zero=launch.may_leave_rows(terms))
    tiles = triton.cdiv(q.shape[2], config.queries)
    programs = tiles * q.shape[1] * launch.num_sequences(q, terms)
    if programs == 0:
        return out
    splits = launch.num_splits(programs, k.shape[2], config.keys, q.device)
    parts = out if splits == 1 else out.new_zeros((splits, *out.shape), dtype=torch.float32)
    target = out if splits == 1 else parts[0]
    forward_kernel[(programs * splits,)](
        OUT=parts, **launch.strides("o", "bhnd", target), o_split=parts.stride(0) if splits > 1 else 0,
        q_tiles=tiles, splits=splits, **launch.term_arguments(q, k, v, terms), BLOCK_N=config.queries,
        BLOCK_M=config.keys, num_warps=config.warps, num_stages=config.stages,
    )  # fmt: skip
    return out if splits == 1 else out.copy_(parts.sum(0))


def backward(grad_out: Tensor, q: Tensor, k: Tensor, v: Tensor, terms: Terms, wanted: Wanted) -> Gradients:
    """The gradients of `forward`, from its inputs alone, the same to the bit at every call."""
    if terms.axis_tables is not None:
        return _backward_of_columns(grad_out, q, k, v, terms, wanted)
    grads = empty_gradients(q, k, v, terms, wanted)
    sequences = launch.num_sequences(q, terms)
    if 0 in (sequences, q.shape[1], q.shape[2], k.shape[2]):
        return grads
    shared = launch.term_arguments(q, k, v, terms) | {"GRAD_OUT": grad_out} | launch.strides("g", "bhnd", grad_out)
    width = max(q.shape[3], v.shape[3])
    grad_bias = _queries(grads, shared, launch.configuration("queries", width, q.dtype, terms), sequences)
    _keys(grads, shared, launch.configuration("keys", width, q.dtype, terms), sequences)
    if wanted.bias and terms.bias is not None:
        broadcast = [axis for axis in range(2) if terms.bias.shape[axis] == 1]
        grads.bias.copy_(grad_bias.sum(broadcast, keepdim=True) if broadcast else grad_bias)
    if wanted.additive_bias and terms.additive_bias is not None:
        _additive(grads.additive_bias, shared, launch.configuration("additive", width, q.dtype, terms), q.shape[0])
    return grads


def _with_tables_in_columns(q: Tensor, k: Tensor, terms: Terms) -> tuple[Tensor, Tensor, Terms]:
    """Axis tables as further columns of q, which the scale is then in, against columns of k that mark a key's place.

    The columns have q's dtype: a table of 32 bits is rounded where q has 16.
    """
    if terms.axis_tables is None:
        return q, k, terms
    queries = torch.cat((q.float() * terms.scale, terms.axis_tables), dim=-1).to(q.dtype)
    at = torch.arange(k.shape[2], device=k.device)
    marks = [
        functional.one_hot(places_on_axis(terms.axis_sizes, axis, at), size).to(k.dtype)
        for axis, size in enumerate(terms.axis_sizes)
    ]
    keys = torch.cat((k, torch.cat(marks, dim=-1).expand(*k.shape[:2], -1, -1)), dim=-1)
    return queries, keys, replace(terms, scale=1.0, axis_tables=None, axis_sizes=())


def _backward_of_columns(
    grad_out: Tensor, q: Tensor, k: Tensor, v: Tensor, terms: Terms, wanted: Wanted
) -> Gradients:  # fmt: skip
    queries, keys, joined = _with_tables_in_columns(q, k, terms)
    of_columns = backward(grad_out, queries, keys, v, joined, replace(wanted, axis_tables=False))
    grads = empty_gradients(q, k, v, terms, Wanted(axis_tables=wanted.axis_tables))
    width = q.shape[3]
    grads.q.copy_(of_columns.q[..., :width] * terms.scale)
    grads.k.copy_(of_columns.k[..., :width])
    if wanted.axis_tables:
        grads.axis_tables.copy_(of_columns.q[..., width:])
    return of_columns._replace(q=grads.q, k=grads.k, axis_tables=grads.axis_tables)


def _queries(grads: Gradients, shared: dict[str, object], config: Configuration, sequences: int) -> Tensor:
    """The gradient of q; returned is that of a bias a head and sequence."""
    heads, num_queries = grads.q.shape[1:3]
    tiles = triton.cdiv(num_queries, config.queries)
    sums = grads.q.new_zeros((sequences, heads, tiles), dtype=torch.float32)
    queries_kernel[(sums.numel(),)](
        GRAD_Q=grads.q, GRAD_BIAS=sums, q_tiles=tiles, **launch.strides("dq", "bhnd", grads.q), **shared,
        BLOCK_N=config.queries, BLOCK_M=config.keys, num_warps=config.warps, num_stages=config.stages,
    )  # fmt: skip
    return sums.sum(-1)


def _keys(grads: Gradients, shared: dict[str, object], config: Configuration, sequences: int) -> None:
    tiles = triton.cdiv(grads.k.shape[2], config.keys)
    keys_kernel[(tiles * grads.k.shape[1] * sequences,)](
        GRAD_K=grads.k, GRAD_V=grads.v, k_tiles=tiles, **launch.strides("dk", "bhmd", grads.k),
        **launch.strides("dv", "bhmd", grads.v), **shared, BLOCK_N=config.queries, BLOCK_M=config.keys,
        num_warps=config.warps, num_stages=config.stages,
    )  # fmt: skip


def _additive(grad: Tensor, shared: dict[str, object], config: Configuration, batch: int) -> None:
    rows, own_heads, own_rows, own_columns = grad.shape
    heads, num_queries, num_keys = shared["H"], shared["N"], shared["M"]
    assert isinstance(heads, int) and isinstance(num_queries, int) and isinstance(num_keys, int)  # noqa: PT018
    q_tiles, k_tiles = triton.cdiv(num_queries, config.queries), triton.cdiv(num_keys, config.keys)
    programs = rows * own_heads * (q_tiles if own_rows > 1 else 1) * (k_tiles if own_columns > 1 else 1)
    additive_kernel[(programs,)](
        GRAD_ADDITIVE=grad, B=batch, q_tiles=q_tiles, k_tiles=k_tiles, **launch.strides("da", "rhnm", grad), **shared,
        OVER_HEADS=own_heads == 1 and heads > 1, OVER_ROWS=own_rows == 1, OVER_COLUMNS=own_columns == 1,
        BLOCK_N=config.queries, BLOCK_M=config.keys, num_warps=config.warps, num_stages=config.stages,
    )  # fmt: skip
