"""The memory-bounded form as an operator of torch, with its gradients: what torch.compile sees as one node."""

from typing import Any

import torch
from torch import Tensor

from medpipe.kernels.sigmoid_attention import blockwise
from medpipe.kernels.sigmoid_attention.blockwise import Wanted, heads_last_empty
from medpipe.kernels.sigmoid_attention.terms import Terms

NUM_TENSORS = 14  # q, k, v and the eleven tensors of `Terms`, in the order of the operator's arguments


@torch.library.custom_op("medpipe::sigmoid_attention", mutates_args=())
def forward_op(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, additive_bias: Tensor | None, axis_tables: Tensor | None,
    attn_mask: Tensor | None, key_lengths: Tensor | None, query_lengths: Tensor | None, cu_seqlens_q: Tensor | None,
    cu_seqlens_k: Tensor | None, q_regions: Tensor | None, k_regions: Tensor | None, alibi_slopes: Tensor | None,
    axis_sizes: list[int], scale: float, bias_value: float | None, window_left: int, window_right: int,
) -> Tensor:  # fmt: skip
    """(B, H, N, Dv). Arguments as of `Terms`, which an operator's signature cannot hold."""
    terms = Terms(
        scale, bias, bias_value, additive_bias, axis_tables, tuple(axis_sizes), attn_mask, key_lengths, query_lengths,
        cu_seqlens_q, cu_seqlens_k, q_regions, k_regions, alibi_slopes, window_left, window_right,
    )  # fmt: skip
    with torch.autocast(q.device.type, enabled=False):
        return blockwise.forward(q, k, v, terms)


@forward_op.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *_: object) -> Tensor:
    return heads_last_empty(q.shape, v.shape[3], q)


@torch.library.custom_op("medpipe::sigmoid_attention_backward", mutates_args=())
def backward_op(
    wanted: list[bool], grad_out: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None,
    additive_bias: Tensor | None, axis_tables: Tensor | None, attn_mask: Tensor | None, key_lengths: Tensor | None,
    query_lengths: Tensor | None, cu_seqlens_q: Tensor | None, cu_seqlens_k: Tensor | None, q_regions: Tensor | None,
    k_regions: Tensor | None, alibi_slopes: Tensor | None, axis_sizes: list[int], scale: float,
    bias_value: float | None, window_left: int, window_right: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of q, k, v; of bias, additive bias and axis tables, as far as they are wanted, else empty."""
    terms = Terms(
        scale, bias, bias_value, additive_bias, axis_tables, tuple(axis_sizes), attn_mask, key_lengths, query_lengths,
        cu_seqlens_q, cu_seqlens_k, q_regions, k_regions, alibi_slopes, window_left, window_right,
    )  # fmt: skip
    with torch.autocast(q.device.type, enabled=False):
        grads = blockwise.backward(grad_out, q, k, v, terms, Wanted(*wanted))
    of_terms = (
        grad if term is None else grad.to(term.dtype)
        for grad, term in zip(grads[3:], (bias, additive_bias, axis_tables), strict=True)
    )
    return (grads.q, grads.k, grads.v, *of_terms)  # type: ignore[return-value]


@backward_op.register_fake
def _(
    wanted: list[bool], grad_out: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None,
    additive_bias: Tensor | None, axis_tables: Tensor | None, *_: object,
) -> tuple[Tensor, ...]:  # fmt: skip
    terms = zip((bias, additive_bias, axis_tables), wanted, strict=True)
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    return (
        *(heads_last_empty(x.shape, x.shape[3], x) for x in (q, k, v)),
        *(
            q.new_empty(0, dtype=wide if term is None else term.dtype)
            if term is None or not is_wanted
            else term.new_empty(term.shape)
            for term, is_wanted in terms
        ),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """Inputs alone are kept: neither the output nor a statistic of its rows is needed again."""
    ctx.save_for_backward(*inputs[:NUM_TENSORS])
    ctx.numbers = inputs[NUM_TENSORS:]


def _backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
    needed = ctx.needs_input_grad
    tensors = ctx.saved_tensors
    wanted = [bool(needed[place]) for place in (3, 4, 5)]
    grads = backward_op(wanted, grad_out, *tensors, *ctx.numbers)
    given = tuple(grad if is_needed else None for grad, is_needed in zip(grads, needed, strict=False))
    return given + (None,) * (len(tensors) + len(ctx.numbers) - len(given))


def _refuse(ctx: Any, *grads: Tensor | None) -> None:
    raise NotImplementedError(
        "sigmoid attention has no second derivative in its fast form; call it with impl='reference' for that"
    )


forward_op.register_autograd(_backward, setup_context=_save)
backward_op.register_autograd(_refuse, setup_context=lambda ctx, inputs, output: None)
