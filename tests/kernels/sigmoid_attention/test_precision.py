"""Tolerances with teeth: relative, at the bias -log n that models start from, and at the edges of each dtype."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from medpipe.kernels.sigmoid_attention.entry import sigmoid_attention

Draw = Callable[..., Tensor]
Check = Callable[..., None]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("num_keys", [1, 2, 17, 343, 1728, 4096, 16384, 65536])
def test_relative_error_at_bias_minus_log_n(num_keys: int, dtype: torch.dtype, draw: Draw, check: Check) -> None:
    q = draw(1, 1, 3, 64, dtype=dtype)
    k = draw(1, 1, num_keys, 64, dtype=dtype)
    v = (draw(1, 1, num_keys, 64) + 1).to(dtype).detach().requires_grad_()  # its mean is not 0
    check({"q": q, "k": k, "v": v})


def test_single_scores_far_out_keep_their_relative_accuracy() -> None:
    scores = torch.tensor([-80.0, -40.0, -17.0, -9.7, -1.0, 0.0, 3.9, 4.1, 9.0, 17.0, 40.0])
    q = scores[None, None, :, None].clone().requires_grad_()
    one = torch.ones(1, 1, 1, 1)
    out = sigmoid_attention(q, one, one, scale=1.0, bias=0.0)
    (slope,) = torch.autograd.grad(out.sum(), q)
    exact = scores.double()
    torch.testing.assert_close(out.double().flatten(), exact.sigmoid(), atol=0, rtol=2e-6)
    # p (1 - p) from p alone would be 0 from 17 on.
    torch.testing.assert_close(slope.double().flatten(), exact.sigmoid() * (-exact).sigmoid(), atol=0, rtol=6e-6)


@pytest.mark.parametrize("score", [-200.0, -1e4, 200.0, 1e4, -math.inf, math.inf])
def test_scores_beyond_the_exponential(score: float) -> None:
    q = torch.full((1, 1, 2, 1), score, requires_grad=True)
    k, v = torch.ones(1, 1, 1, 1, requires_grad=True), torch.full((1, 1, 1, 1), 3.0, requires_grad=True)
    out = sigmoid_attention(q, k, v, scale=1.0, bias=0.0)
    grad_q, grad_v = torch.autograd.grad(out.sum(), (q, v))
    assert torch.equal(out, torch.full_like(out, 3.0 if score > 0 else 0.0))
    assert not grad_q.any()
    assert float(grad_v) == (2.0 if score > 0 else 0.0)


@pytest.mark.parametrize("size", [1e-4, 1e4])
@pytest.mark.parametrize("num_keys", [4096, 16384])
def test_no_gradient_in_float16_is_flushed(num_keys: int, size: float, draw: Draw) -> None:
    q, k, v = (draw(1, 1, rows, 64, dtype=torch.float16) for rows in (16, num_keys, num_keys))
    exact = [x.detach().double().requires_grad_() for x in (q, k, v)]
    grad_out = torch.randn(1, 1, 16, 64, generator=torch.Generator().manual_seed(1)).to(torch.float16) * size
    expected = torch.autograd.grad(sigmoid_attention(*exact, impl="reference"), exact, grad_out.double())
    actual = torch.autograd.grad(sigmoid_attention(q, k, v), (q, k, v), grad_out)
    for one, other in zip(actual, expected, strict=True):
        # Against the exact gradient as float16 holds it; where that is a number, nothing is flushed to zero.
        held = other.to(torch.float16).double()
        assert not (one.double() == 0)[held.abs() > 6e-8].any()
        assert (one.double() - held).square().mean().sqrt() <= 1e-3 * held.square().mean().sqrt()


def test_large_operands_in_float16(draw: Draw, check: Check) -> None:
    check({"q": draw(1, 2, 100, 64, dtype=torch.float16, sd=5), "k": draw(1, 2, 120, 64, dtype=torch.float16, sd=3),
           "v": draw(1, 2, 120, 64, dtype=torch.float16, sd=3)})  # fmt: skip


def test_an_output_beyond_float16_is_infinite_not_nan() -> None:
    q = torch.zeros(1, 1, 1, 8, dtype=torch.float16)
    k = torch.zeros(1, 1, 20000, 8, dtype=torch.float16)
    assert torch.isposinf(sigmoid_attention(q, k, torch.full_like(k, 10), bias=0.0)).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_error_is_at_most_twice_that_of_torch_in_the_same_dtype(dtype: torch.dtype, draw: Draw) -> None:
    q, k, v = (draw(1, 2, 343, 16, dtype=dtype) for _ in range(3))
    exact = sigmoid_attention(q.double(), k.double(), v.double(), impl="reference")
    plain, ours = sigmoid_attention(q, k, v, impl="reference"), sigmoid_attention(q, k, v)
    assert (ours - exact).square().mean().sqrt() <= 2 * (plain - exact).square().mean().sqrt()


def test_gradients_against_finite_differences(draw: Draw) -> None:
    q, k, v, bias, additive, table = (
        draw(*shape, dtype=torch.float64)
        for shape in ((2, 2, 3, 4), (2, 1, 6, 4), (2, 1, 6, 3), (2, 2), (1, 2, 3, 6), (2, 2, 3, 2))
    )

    def call(*leaves: Tensor) -> Tensor:
        q, k, v, bias, additive, table = leaves
        tables = [table, table.flip(-1).repeat(1, 1, 1, 2)[..., :3]]
        return sigmoid_attention(q, k, v, bias=bias, additive_bias=additive, axis_tables=tables)

    assert torch.autograd.gradcheck(call, (q, k, v, bias, additive, table))
