"""The memory-bounded forms as an operator of torch, with its gradients: what torch.compile sees as one node.

Registered by `torch.library.Library` and not by `custom_op` and `register_autograd`: for an operator of twenty
arguments those take 0.1 to 0.3 ms more a call with gradients (torch 2.11 on a CPU, mostly filling in defaults that are
not missing), ten times what a short call computes on a GPU.
"""

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor
from torch.autograd import Function

from medpipe.kernels.sigmoid_attention import dispatch
from medpipe.kernels.sigmoid_attention.blockwise import Wanted, heads_last_empty
from medpipe.kernels.sigmoid_attention.terms import Terms

NUM_TENSORS = 14  # q, k, v and the eleven tensors of `Terms`, in the order of the operator's arguments


def _forward(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, additive_bias: Tensor | None, axis_tables: Tensor | None,
    attn_mask: Tensor | None, key_lengths: Tensor | None, query_lengths: Tensor | None, cu_seqlens_q: Tensor | None,
    cu_seqlens_k: Tensor | None, q_regions: Tensor | None, k_regions: Tensor | None, alibi_slopes: Tensor | None,
    axis_sizes: list[int], scale: float, bias_value: float | None, window_left: int, window_right: int,
    impl: str = dispatch.BY_DEVICE,
) -> Tensor:  # fmt: skip
    """(B, H, N, Dv). Arguments as of `Terms`, which an operator's signature cannot hold; impl as in `dispatch`."""
    terms = Terms(
        scale, bias, bias_value, additive_bias, axis_tables, tuple(axis_sizes), attn_mask, key_lengths, query_lengths,
        cu_seqlens_q, cu_seqlens_k, q_regions, k_regions, alibi_slopes, window_left, window_right,
    )  # fmt: skip
    with torch.autocast(q.device.type, enabled=False):
        return dispatch.forward(impl, q, k, v, terms)


def _fake(q: Tensor, k: Tensor, v: Tensor, *_: object) -> Tensor:
    return heads_last_empty(q.shape, v.shape[3], q)


def _backward(
    wanted: list[bool], grad_out: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None,
    additive_bias: Tensor | None, axis_tables: Tensor | None, attn_mask: Tensor | None, key_lengths: Tensor | None,
    query_lengths: Tensor | None, cu_seqlens_q: Tensor | None, cu_seqlens_k: Tensor | None, q_regions: Tensor | None,
    k_regions: Tensor | None, alibi_slopes: Tensor | None, axis_sizes: list[int], scale: float,
    bias_value: float | None, window_left: int, window_right: int, impl: str = dispatch.BY_DEVICE,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of q, k, v; of bias, additive bias and axis tables, as far as they are wanted, else empty."""
    terms = Terms(
        scale, bias, bias_value, additive_bias, axis_tables, tuple(axis_sizes), attn_mask, key_lengths, query_lengths,
        cu_seqlens_q, cu_seqlens_k, q_regions, k_regions, alibi_slopes, window_left, window_right,
    )  # fmt: skip
    with torch.autocast(q.device.type, enabled=False):
        grads = dispatch.backward(impl, grad_out, q, k, v, terms, Wanted(*wanted))
    of_terms = (
        grad if term is None else grad.to(term.dtype)
        for grad, term in zip(grads[3:], (bias, additive_bias, axis_tables), strict=True)
    )
    return (grads.q, grads.k, grads.v, *of_terms)  # type: ignore[return-value]


def _fake_backward(
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


LIBRARY = torch.library.Library("medpipe", "FRAGMENT")


def _operator(name: str, function: Callable[..., Any], fake: Callable[..., Any]) -> Any:
    """`torch.ops.medpipe.<name>` for every device; its signature is that of the function."""
    schema = torch.library.infer_schema(function, mutates_args=())
    torch.library.define(f"medpipe::{name}", schema, lib=LIBRARY, tags=(torch.Tag.pt2_compliant_tag,))
    LIBRARY.impl(name, function, "CompositeExplicitAutograd")
    torch.library.register_fake(f"medpipe::{name}", fake, lib=LIBRARY)
    return getattr(torch.ops.medpipe, name).default


forward_op = _operator("sigmoid_attention", _forward, _fake)
backward_op = _operator("sigmoid_attention_backward", _backward, _fake_backward)


def _below_autograd(operator: Any, arguments: tuple[Any, ...]) -> Any:
    with torch._C._AutoDispatchBelowAutograd():
        return operator(*arguments)


@final
class _Differentiable(Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        """Inputs alone are kept: neither the output nor a statistic of its rows is needed again."""
        ctx.save_for_backward(*arguments[:NUM_TENSORS])
        ctx.numbers = arguments[NUM_TENSORS:]
        return _below_autograd(forward_op, arguments)

    @staticmethod
    def backward(ctx: Any, *grads_out: Tensor) -> tuple[Tensor | None, ...]:
        needed, tensors = ctx.needs_input_grad, ctx.saved_tensors
        wanted = [bool(needed[place]) for place in (3, 4, 5)]
        grads = backward_op(wanted, grads_out[0], *tensors, *ctx.numbers)
        given = tuple(grad if is_needed else None for grad, is_needed in zip(grads, needed, strict=False))
        return given + (None,) * (len(tensors) + len(ctx.numbers) - len(given))


@final
class _TwiceRefused(Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, ...]:
        return tuple(_below_autograd(backward_op, arguments))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> None:
        raise NotImplementedError(
            "sigmoid attention has no second derivative in its fast form; call it with impl='reference' for that"
        )


def _with_gradients(operator: Any, function: type[Function]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        tensors = (x for x in arguments if isinstance(x, Tensor))
        if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
            return function.apply(*arguments)
        return _below_autograd(operator, arguments)

    return call


LIBRARY.impl("sigmoid_attention", _with_gradients(forward_op, _Differentiable), "Autograd")
LIBRARY.impl("sigmoid_attention_backward", _with_gradients(backward_op, _TwiceRefused), "Autograd")
