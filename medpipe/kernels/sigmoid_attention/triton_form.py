"""The Triton form on the host's side: what is allocated, launched and added up."""

# What stands in a kernel is Triton's language and not Python, and its launches take further options.
# pyright: reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false, reportIndexIssue=false
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false

from dataclasses import replace
from typing import Any

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
    config = config or launch.configuration("forward", q, k, v, terms)
    out = heads_last_empty(q.shape, v.shape[3], q, zero=launch.may_leave_rows(terms))
    tiles = triton.cdiv(q.shape[2], config.queries)
    programs = tiles * q.shape[1] * launch.num_sequences(q, terms)
    if programs == 0:
        return out
    splits = launch.num_splits(programs, k.shape[2], config.keys, q.device)
    make = out.new_zeros if launch.may_leave_rows(terms) else out.new_empty
    parts = out if splits == 1 else make((splits, *out.shape), dtype=torch.float32)
    target = out if splits == 1 else parts[0]
    _give_scratch(config, q.device)
    forward_kernel[(programs * splits,)](
        OUT=parts, **launch.strides("o", "bhnd", target), o_split=parts.stride(0) if splits > 1 else 0,
        q_tiles=tiles, splits=splits, **launch.term_arguments(q, k, v, terms),
        **launch.tile_arguments("forward", config, q.dtype),
    )  # fmt: skip
    return out if splits == 1 else out.copy_(parts.sum(0))


def backward(grad_out: Tensor, q: Tensor, k: Tensor, v: Tensor, terms: Terms, wanted: Wanted) -> Gradients:
    """The gradients of `forward`, from its inputs alone, the same to the bit at every call."""
    if terms.axis_tables is not None:
        return _backward_of_columns(grad_out, q, k, v, terms, wanted)
    zero = launch.may_leave_rows(terms) or 0 in (*q.shape[:3], k.shape[2])
    grads = empty_gradients(q, k, v, terms, wanted, zero=zero)
    sequences = launch.num_sequences(q, terms)
    if 0 in (sequences, q.shape[1], q.shape[2], k.shape[2]):
        return grads
    if launch.is_hopper(q.device) and not launch.has_descriptors(grad_out):
        grad_out = grad_out.contiguous()  # the gradient of a sum has no strides: one copy, and the copy engine reads it
    shared = backward_arguments(grad_out, q, k, v, terms)
    chosen = {name: launch.configuration(name, q, k, v, terms) for name in ("queries", "keys", "additive")}
    wants_bias = wanted.bias and terms.bias is not None
    grad_bias = launch_queries(grads, shared, chosen["queries"], sequences, wants_bias)
    launch_keys(grads, shared, chosen["keys"], sequences)
    if wants_bias and terms.bias is not None:
        broadcast = [axis for axis in range(2) if terms.bias.shape[axis] == 1]
        grads.bias.copy_(grad_bias.sum(broadcast, keepdim=True) if broadcast else grad_bias)
    if wanted.additive_bias and terms.additive_bias is not None:
        launch_additive(grads.additive_bias, shared, chosen["additive"], q.shape[0])
    return grads


def backward_arguments(grad_out: Tensor, q: Tensor, k: Tensor, v: Tensor, terms: Terms) -> dict[str, Any]:
    return launch.term_arguments(q, k, v, terms) | {"GRAD_OUT": grad_out} | launch.strides("g", "bhnd", grad_out)


def _give_scratch(config: Configuration, device: torch.device) -> None:
    """Descriptors are made on the device, in memory that Triton asks for by a function, of each thread its own."""
    if config.reads != "pointers":
        triton.set_allocator(lambda size, align, stream: torch.empty(size, dtype=torch.int8, device=device))


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


def launch_queries(
    grads: Gradients, shared: dict[str, Any], config: Configuration, sequences: int, wants_bias: bool
) -> Tensor:
    """The gradient of q; returned is that of a bias a head and sequence, where wanted."""
    heads, num_queries = grads.q.shape[1:3]
    tiles = triton.cdiv(num_queries, config.queries)
    programs = sequences * heads * tiles
    _give_scratch(config, grads.q.device)
    # Rows past the end of a sequence have no program.
    sums = grads.q.new_zeros((sequences, heads, tiles), dtype=torch.float32) if wants_bias else grads.bias
    queries_kernel[(programs,)](
        GRAD_Q=grads.q, GRAD_BIAS=sums, q_tiles=tiles, WANT_BIAS=wants_bias,
        **launch.strides("dq", "bhnd", grads.q), **shared,
        **launch.tile_arguments("queries", config, grads.q.dtype),
    )  # fmt: skip
    return sums.sum(-1) if wants_bias else sums


def launch_keys(grads: Gradients, shared: dict[str, Any], config: Configuration, sequences: int) -> None:
    tiles = triton.cdiv(grads.k.shape[2], config.keys)
    _give_scratch(config, grads.k.device)
    keys_kernel[(tiles * grads.k.shape[1] * sequences,)](
        GRAD_K=grads.k, GRAD_V=grads.v, k_tiles=tiles, **launch.strides("dk", "bhmd", grads.k),
        **launch.strides("dv", "bhmd", grads.v), **shared, **launch.tile_arguments("keys", config, grads.k.dtype),
    )  # fmt: skip


def launch_additive(grad: Tensor, shared: dict[str, Any], config: Configuration, batch: int) -> None:
    """Where there are few tiles of the bias, what is summed into each is split, in parts of a fixed order."""
    rows, own_heads, own_rows, own_columns = grad.shape
    q_tiles, k_tiles = triton.cdiv(shared["N"], config.queries), triton.cdiv(shared["M"], config.keys)
    over = {
        "OVER_HEADS": own_heads == 1 and shared["H"] > 1,
        "OVER_ROWS": own_rows == 1,
        "OVER_COLUMNS": own_columns == 1,
    }
    own_tiles = (1 if over["OVER_ROWS"] else q_tiles) * (1 if over["OVER_COLUMNS"] else k_tiles)
    programs = rows * own_heads * own_tiles
    turns = (batch // rows) * (shared["H"] // own_heads) * (q_tiles * k_tiles // own_tiles)
    splits = launch.num_splits_of_sums(programs, turns, grad)
    split_turns = triton.cdiv(turns, splits)
    parts = grad if splits == 1 else grad.new_empty((splits, *grad.shape), dtype=torch.float32)
    target = grad if splits == 1 else parts[0]
    additive_kernel[(programs * splits,)](
        GRAD_ADDITIVE=parts, B=batch, q_tiles=q_tiles, k_tiles=k_tiles, splits=splits, split_turns=split_turns,
        da_s=parts.stride(0) if splits > 1 else 0, **launch.strides("da", "rhnm", target), **shared, **over,
        **launch.tile_arguments("additive", config, shared["Q"].dtype),
    )  # fmt: skip
    if splits > 1:
        grad.copy_(parts.sum(0))
