"""Run the kernels against the definition in float64: a line a case, exit status 1 for a miss.

    python triton_program.py            in Triton's interpreter
    python triton_program.py cuda 3 12  on a GPU, each 12th case from the third on

A program of its own: the interpreter is chosen when triton is first imported, for the whole process.
"""

# ruff: noqa: E402  # after the interpreter is chosen
import os
import sys

DEVICE = sys.argv[1] if len(sys.argv) > 1 else "cpu"
SHARE, SHARES = (int(word) for word in sys.argv[2:4]) if len(sys.argv) > 3 else (0, 1)
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"
os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from medpipe.kernels.sigmoid_attention import triton_form, triton_launch
from medpipe.kernels.sigmoid_attention.blockwise import Wanted
from medpipe.kernels.sigmoid_attention.entry import sigmoid_attention
from medpipe.kernels.sigmoid_attention.reference import reference
from medpipe.kernels.sigmoid_attention.terms import Terms
from medpipe.kernels.sigmoid_attention.triton_launch import Configuration

SHIPPED = triton_launch.configuration

# No bf16 in the interpreter, which cuts its mantissa off where the hardware rounds.
RELATIVE = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 5e-3}

# Memory that no kernel wrote shows up as NaN.
torch.utils.deterministic.fill_uninitialized_memory = True
torch.use_deterministic_algorithms(True)


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def error(actual: Tensor, truth: Tensor) -> float:
    if not actual.isfinite().all():
        return math.inf
    return float((actual.double() - truth).norm() / truth.norm().clamp(min=1e-300))


def check(
    name: str, q_shape: tuple[int, ...], k_shape: tuple[int, ...], *, dv: int | None = None, size: float = 1.0,
    dtype: torch.dtype = torch.float32, config: Configuration | None = None, **given: Any,
) -> bool:  # fmt: skip
    triton_launch.configuration = SHIPPED if config is None else lambda *_: config
    q, k = randn(*q_shape, seed=0).to(dtype), randn(*k_shape, seed=1).to(dtype)
    v = randn(*k_shape[:3], dv or k_shape[3], seed=2).add(0.5).to(dtype)
    grad_out = (randn(*q_shape[:3], v.shape[3], seed=3) * size).to(dtype)
    given = {field: x.to(DEVICE) if isinstance(x, Tensor) else x for field, x in given.items()}
    terms = Terms(scale=given.pop("scale", q.shape[3] ** -0.5), **given)
    inputs = [x.double().requires_grad_() for x in (q, k, v)]
    trained = {
        field: getattr(terms, field).double().requires_grad_()
        for field in ("bias", "additive_bias", "axis_tables")
        if getattr(terms, field) is not None
    }
    exact = Terms(**{field: trained.get(field, getattr(terms, field)) for field in terms.__dataclass_fields__})
    truth = reference(*inputs, exact)
    expected = torch.autograd.grad(truth, [*inputs, *trained.values()], grad_out.double())
    out = triton_form.forward(q, k, v, terms)
    grads = triton_form.backward(grad_out, q, k, v, terms, Wanted(**dict.fromkeys(trained, True)))
    actual = [grads.q, grads.k, grads.v] + [getattr(grads, field) for field in trained]
    errors = {"out": error(out, truth.detach())}
    errors |= {n: error(a, e) for n, a, e in zip(["q", "k", "v", *trained], actual, expected, strict=True)}
    good = all(value <= RELATIVE[dtype] for value in errors.values())
    print("ok  " if good else "MISS", name, *(f"{key} {value:.1e}" for key, value in errors.items()), flush=True)
    return good


def cases() -> list[Callable[[], bool]]:
    ends = torch.tensor([0, 5, 5, 40, 41], dtype=torch.int32), torch.tensor([0, 9, 12, 12, 50], dtype=torch.int32)
    lengths = torch.tensor([0, 1, 47], dtype=torch.int32)
    results = [
        partial(check, "one", (1, 1, 1, 8), (1, 1, 1, 8)),
        partial(check, "odd", (1, 2, 97, 40), (1, 2, 113, 40), dv=24),
        partial(check, "causal", (1, 2, 70, 16), (1, 2, 99, 16), window_right=0),
        partial(check, "causal, more queries", (1, 1, 99, 16), (1, 1, 70, 16), window_right=0),
        partial(check, "window", (1, 1, 80, 16), (1, 1, 90, 16), window_left=11, window_right=3),
        partial(check, "grouped", (2, 6, 33, 16), (2, 2, 70, 16), bias=randn(2, 6, seed=4) - 3, window_right=5),
        partial(check, "lengths", (3, 2, 47, 16), (3, 2, 47, 16), key_lengths=lengths, query_lengths=lengths,
              window_right=0),
        partial(check, "packed", (1, 4, 41, 16), (1, 2, 50, 16), cu_seqlens_q=ends[0], cu_seqlens_k=ends[1],
              bias=randn(4, 1, seed=4) - 2, bias_value=0.0, alibi_slopes=torch.rand(1, 4)),
        partial(check, "regions", (4, 2, 27, 8), (4, 2, 27, 8),
              q_regions=torch.arange(54, dtype=torch.int32).view(2, 27) % 3,
              k_regions=torch.arange(54, dtype=torch.int32).view(2, 27) % 3),
        partial(check, "axis tables", (2, 4, 33, 16), (2, 2, 30, 16), axis_tables=randn(2, 4, 33, 11, seed=5),
              axis_sizes=(5, 6), bias=randn(1, 4, seed=4) - 2, key_lengths=torch.tensor([30, 17])),
        partial(check, "mask", (2, 2, 40, 8), (2, 2, 45, 8), attn_mask=randn(2, 1, 40, 45, seed=5) > 0),
        partial(check, "split", (1, 1, 20, 16), (1, 1, 700, 16)),
        partial(check, "fp16", (1, 2, 65, 64), (1, 2, 130, 64), dtype=torch.float16),
        partial(check, "fp16, small", (1, 1, 64, 16), (1, 1, 512, 16), dtype=torch.float16, size=8.0, bias_value=-14.0),
        partial(check, "upper tail", (1, 1, 33, 16), (1, 1, 40, 16), bias_value=20.0),
        partial(check, "no scale", (1, 1, 33, 16), (1, 1, 40, 16), scale=0.0, window_right=0),
    ]  # fmt: skip
    for shape in [(1, 2, 33, 47), (2, 1, 33, 47), (1, 2, 1, 47), (1, 1, 33, 1), (1, 1, 1, 1)]:
        additive = randn(*shape, seed=6)
        results.append(
            partial(check, f"additive {shape}", (2, 2, 33, 8), (2, 2, 47, 8), additive_bias=additive, bias_value=-3.0)
        )
    windows = randn(2, 1, 9, 9, seed=6)  # two windows a volume, two volumes
    results.append(partial(check, "additive, windows", (4, 2, 9, 8), (4, 2, 9, 8), additive_bias=windows))
    return results if DEVICE == "cpu" else results + on_a_gpu()


def on_a_gpu() -> list[Callable[[], bool]]:
    """What the interpreter cannot show: bf16, and tiles that the copy engine reads."""
    results: list[Callable[[], bool]] = []
    for width in (16, 40, 64, 80, 128, 256):
        for dtype in (torch.bfloat16, torch.float16, torch.float32):
            shape = (2, 4, 343, width)
            results.append(partial(check, f"{dtype} {width}", shape, shape, dtype=dtype))
    for reads in ("pointers", "descriptors"):
        for width in (64, 128):
            config = Configuration(64, 64, 4, 2, reads)
            for right in (-1, 0):
                for queries, keys in ((1025, 1025), (300, 1023)):
                    name = f"{reads} {width} {queries} x {keys}, {'causal' if right == 0 else 'full'}"
                    shapes = (1, 4, queries, width), (1, 2, keys, width)
                    results.append(
                        partial(check, name, *shapes, dtype=torch.bfloat16, window_right=right, config=config)
                    )
    long = (1, 2, 8192, 64)
    results.append(partial(check, "long", long, long, dtype=torch.bfloat16))
    results.append(partial(check, "long, causal", long, long, dtype=torch.bfloat16, window_right=0))
    results.append(partial(check, "long, fp16", long, long, dtype=torch.float16, size=1e-2))
    windows, bias = (54, 3, 343, 16), randn(1, 3, 343, 343, seed=6)
    for width in (64, 128):  # whatever the shipped table says of every class
        for tokens in (216, 512, 2048, 4096, 5000):
            for right in (-1, 0):
                shape = (1, 2, tokens, width)
                name = f"shipped {width} {tokens} {right}"
                results.append(partial(check, name, shape, shape, dtype=torch.bfloat16, window_right=right))
    results.append(partial(check, "windows", windows, windows, dtype=torch.bfloat16, additive_bias=bias))
    return results


def padding_is_not_read() -> bool:
    triton_launch.configuration = SHIPPED
    lengths = torch.tensor([9, 30], dtype=torch.int32, device=DEVICE)
    q, k, v = (randn(2, 1, 30, 8, seed=seed) for seed in range(3))
    terms = Terms(0.3, key_lengths=lengths, query_lengths=lengths)
    expected = triton_form.forward(q, k, v, terms)
    for x in (q, k, v):
        x[0, :, 9:] = math.nan
    out = triton_form.forward(q, k, v, terms)
    grads = triton_form.backward(torch.ones_like(out), q, k, v, terms, Wanted())
    again = triton_form.backward(torch.ones_like(out), q, k, v, terms, Wanted())
    good = torch.equal(out, expected) and all(
        bool(grad.isfinite().all()) and torch.equal(grad, other)
        for grad, other in zip(grads[:3], again[:3], strict=True)
    )
    print("ok  " if good else "MISS", "padding, and again to the bit")
    return good


def called_by_name() -> bool:
    """The whole way from the call to every gradient, with what a backbone gives."""
    shapes = {
        "q": (2, 4, 40, 16),
        "k": (2, 2, 30, 16),
        "v": (2, 2, 30, 8),
        "bias": (4,),
        "additive_bias": (1, 4, 40, 1),
    }
    shapes |= {"first": (1, 4, 40, 5), "second": (2, 1, 40, 6)}
    found = {}
    for impl, dtype in (("triton", torch.float32), ("reference", torch.float64)):
        leaves = {
            name: randn(*shape, seed=seed).to(dtype).requires_grad_()
            for seed, (name, shape) in enumerate(shapes.items())
        }
        given = dict(leaves)
        given["axis_tables"] = [given.pop("first"), given.pop("second")]
        out = sigmoid_attention(**given, key_lengths=torch.tensor([30, 9], device=DEVICE), impl=impl)
        found[impl] = [out, *torch.autograd.grad(out.square().sum(), list(leaves.values()))]
    errors = [error(a.detach(), e.detach()) for a, e in zip(found["triton"], found["reference"], strict=True)]
    good = max(errors) <= RELATIVE[torch.float32]
    print("ok  " if good else "MISS", f"called by name, {max(errors):.1e}")
    return good


def refusals() -> bool:
    """What the kernels do not take is refused by name, with what to do."""
    q = randn(1, 2, 8, 16, seed=0)
    ends = torch.tensor([0, 3, 8])
    calls: dict[str, dict[str, Any]] = {
        "float64": {"q": q.double(), "k": q.double(), "v": q.double()},
        "wider than 256": {"q": q, "k": q, "v": randn(1, 2, 8, 300, seed=1)},
        "cu_seqlens together": {"q": q, "k": q, "v": q, "cu_seqlens": ends, "additive_bias": q[:, :, :, :8]},
        "key_lengths": {"q": q, "k": q, "v": q, "key_lengths": torch.tensor([9])},
    }
    messages = {}
    for what, given in calls.items():
        try:
            sigmoid_attention(**given, impl="triton")
        except ValueError as refused:
            messages[what] = str(refused)
    good = all(what in messages.get(what, "") for what in calls)
    print("ok  " if good else "MISS", "refusals", "" if good else messages)
    return good


if __name__ == "__main__":
    assert triton_launch.interprets() == (DEVICE == "cpu")
    everything = [*cases(), padding_is_not_read, called_by_name, refusals]
    results = [case() for case in everything[SHARE::SHARES]]  # all are run, whatever fails
    sys.exit(0 if all(results) else 1)
