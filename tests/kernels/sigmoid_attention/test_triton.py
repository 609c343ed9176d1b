"""The kernels without a GPU: run in the interpreter, compiled for two generations; and with one, where there is one."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medpipe.kernels.sigmoid_attention.entry import sigmoid_attention
from medpipe.kernels.sigmoid_attention.terms import Terms

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no triton: Linux alone has it")


@pytest.mark.slow
def test_the_interpreter_agrees_with_the_definition() -> None:
    program = Path(__file__).with_name("triton_program.py")
    run = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=500)
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr[-2000:]}"
    assert run.stdout.count("ok  ") >= 25


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("the interpreter does not compile")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from medpipe.kernels.sigmoid_attention.offline import compile_kernel

    return compile_kernel


@pytest.mark.parametrize(
    ("kernel", "width", "capability"),
    [
        ("forward", 16, 90), ("forward", 64, 90), ("forward", 128, 80), ("queries", 64, 90), ("keys", 64, 90),
        ("additive", 16, 90),
    ],
)  # fmt: skip
def test_shipped_configurations_compile_without_spilling(
    kernel: str, width: int, capability: int, compiled: Callable[..., Any]
) -> None:
    found = compiled(kernel, width, torch.bfloat16, capability=capability)
    assert found.spilled_bytes == 0
    assert found.tensor_core == ("HGMMA" if capability == 90 else "HMMA")
    if kernel == "forward":  # two loops, whole tiles and the rest: one exponential a score in each, and the bias
        assert found.special_functions <= 2 * found.scores_per_thread + 4


# Shared memory of a block on an A100, in bytes: CUDA C++ programming guide, technical specifications, 8.0.
A100_SHARED = 163 * 1024


@pytest.mark.parametrize("kernel", ["forward", "queries", "keys", "additive"])
def test_every_kernel_compiles_with_every_term(kernel: str, compiled: Callable[..., Any]) -> None:
    def empty(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    lengths, regions = empty(2, dtype=torch.int32), empty(2, 512, dtype=torch.int64)
    terms = Terms(
        0.1, bias=empty(2, 4), bias_value=0.0, additive_bias=empty(1, 4, 512, 512),
        attn_mask=empty(2, 1, 512, 512, dtype=torch.bool), key_lengths=lengths, query_lengths=lengths,
        q_regions=regions, k_regions=regions, alibi_slopes=empty(1, 4), window_left=3, window_right=0,
    )  # fmt: skip
    assert compiled(kernel, 128, torch.float16, capability=80, terms=terms).shared_bytes <= A100_SHARED


def test_a_call_is_compiled_packed(compiled: Callable[..., Any]) -> None:
    ends = torch.empty(3, dtype=torch.int32, device="meta")
    compiled("forward", 64, torch.bfloat16, terms=Terms(0.1, cu_seqlens_q=ends, cu_seqlens_k=ends, window_right=0))


def test_the_polynomials_are_as_accurate_as_they_say() -> None:
    from medpipe.kernels.sigmoid_attention import triton_scores

    e = np.linspace(0, 1, 10001, dtype=np.float32)
    for degree, bound in ((4, 3.0e-4), (5, 5.2e-5)):
        r = triton_scores.reciprocal_of_one_plus.fn(e, degree)
        assert np.abs(r * (1 + e.astype(np.float64)) - 1).max() < bound


def test_the_kernels_are_refused_where_they_cannot_run() -> None:
    q = torch.zeros(1, 1, 2, 8)
    with pytest.raises(ValueError, match="tensors on cpu outside Triton's interpreter"):
        sigmoid_attention(q, q, q, impl="triton")


def test_triton_is_imported_only_by_a_call_that_it_runs() -> None:
    program = (
        "import sys; sys.modules['triton'] = None; import torch\n"
        "from medpipe.kernels.sigmoid_attention.entry import sigmoid_attention\n"
        "q = torch.ones(1, 2, 5, 8, requires_grad=True); sigmoid_attention(q, q, q).sum().backward()\n"
        "try: sigmoid_attention(q, q, q, impl='triton')\n"
        "except ValueError as refused: print(refused)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert "install medpipe[triton]" in run.stdout, run.stderr[-2000:]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("width", [16, 64, 80, 128, 256])
@pytest.mark.parametrize("is_causal", [False, True])
def test_the_gpu_agrees_with_the_definition(dtype: torch.dtype, width: int, is_causal: bool) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    generator = torch.Generator("cuda").manual_seed(0)
    shape = (2, 3, 1025, width)
    leaves = [torch.randn(shape, generator=generator, device="cuda").to(dtype).requires_grad_() for _ in range(3)]
    truths = [x.detach().double().requires_grad_() for x in leaves]
    out = sigmoid_attention(*leaves, is_causal=is_causal, impl="triton")
    truth = sigmoid_attention(*truths, is_causal=is_causal, impl="reference")
    grad_out = torch.randn(shape, generator=generator, device="cuda").to(dtype)
    grads = torch.autograd.grad(out, leaves, grad_out)
    expected = torch.autograd.grad(truth, truths, grad_out.double())
    bound = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 5e-3}[dtype]
    for actual, exact in zip((out, *grads), (truth, *expected), strict=True):
        assert (actual.double() - exact).norm() <= bound * exact.norm()
