"""Sigmoid attention against its definition in float64, output and every gradient."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from medpipe.kernels.sigmoid_attention.entry import sigmoid_attention

# Root mean square of the error over that of the reference: of a 16-bit form, little more than its output's rounding.
TOLERANCE = {torch.bfloat16: 5e-3, torch.float16: 1e-3, torch.float32: 1e-5, torch.float64: 1e-12}


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Root mean square, relative; infinite where either is not finite or something stands in place of exact zeros."""
    if actual.numel() == 0:
        return 0.0
    error, size = (actual.double() - expected.double()).square().mean().sqrt(), expected.double().square().mean().sqrt()
    if size == 0:
        return 0.0 if error == 0 else math.inf
    return float((error / size).nan_to_num(math.inf))


def run(leaves: dict[str, Any], grad_out: Tensor, **options: Any) -> dict[str, Tensor]:
    """The output and the gradient of each floating leaf; lists of tensors are leaves too."""
    named = {name: leaf for name, leaf in leaves.items() if isinstance(leaf, Tensor)}
    named |= {f"{name}_{i}": x for name, leaf in leaves.items() if isinstance(leaf, list) for i, x in enumerate(leaf)}
    out = sigmoid_attention(**leaves, **options)
    grads = torch.autograd.grad(out, list(named.values()), grad_out.to(out.dtype))
    return {"out": out.detach(), **dict(zip(named, grads, strict=True))}


def in_double(value: Any) -> Any:
    if isinstance(value, list):
        return [in_double(one) for one in value]
    return value.detach().double().requires_grad_() if isinstance(value, Tensor) else value


def errors(leaves: dict[str, Any], **options: Any) -> dict[str, float]:
    """Relative errors of output and gradients against the definition in float64, on the same rounded values."""
    q, v = leaves["q"], leaves["v"]
    grad_out = torch.randn(*q.shape[:3], v.shape[3], generator=torch.Generator().manual_seed(7)).to(q.dtype)
    exact = {name: in_double(leaf) for name, leaf in leaves.items()}
    expected = run(exact, grad_out, **options, impl="reference")
    actual = run(leaves, grad_out, **options)
    assert actual["out"].dtype == q.dtype
    return {name: relative_error(value, expected[name]) for name, value in actual.items()}


@pytest.fixture
def draw() -> Callable[..., Tensor]:
    """Normal numbers that are repeatable within a test, as a leaf."""
    generator = torch.Generator().manual_seed(0)

    def one(*shape: int, dtype: torch.dtype = torch.float32, sd: float = 1.0) -> Tensor:
        return (torch.randn(shape, generator=generator) * sd).to(dtype).requires_grad_()

    return one


@pytest.fixture
def check() -> Callable[..., None]:
    def one(leaves: dict[str, Any], **options: Any) -> None:
        found = errors(leaves, **options)
        limit = TOLERANCE[leaves["q"].dtype]
        assert max(found.values()) <= limit, found

    return one
