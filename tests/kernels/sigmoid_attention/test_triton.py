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
    if kernel == "forward":  # one exponential a score, and the bias
        assert found.special_functions <= found.scores_per_thread + 4


@pytest.mark.parametrize(
    ("kernel", "key", "weights"),
    [
        ("forward", "64/2/long/full", "polynomial"), ("forward", "64/2/huge/full", "packed"),
        ("forward", "64/2/short/full", "tanh"), ("queries", "128/2/long/full", "polynomial"),
        ("keys", "128/2/long/full", "polynomial"),
    ],
)  # fmt: skip
def test_entries_of_the_table_compile_for_hopper(
    kernel: str, key: str, weights: str, compiled: Callable[..., Any]
) -> None:
    from medpipe.kernels.sigmoid_attention.triton_launch import Configuration, table

    config = Configuration(*table()[kernel][key])._replace(weights=weights)
    found = compiled(kernel, int(key.split("/")[0]), torch.bfloat16, config=config)
    assert found.spilled_bytes == 0
    assert found.tensor_core == "HGMMA"
    if kernel == "forward":
        assert found.special_functions <= found.scores_per_thread + 4


def test_a_configuration_is_looked_up_by_what_a_call_is() -> None:
    from medpipe.kernels.sigmoid_attention.triton_launch import configuration, table

    def of(kernel: str, tokens: int, *, stride: int = 64, device: str = "meta", **terms: Any) -> list[Any]:
        rows = torch.empty(1, tokens, 2, stride, dtype=torch.bfloat16, device=device)
        q = rows.transpose(1, 2)[..., :64]
        found = configuration(kernel, q, q, q, Terms(0.1, **terms))
        return list(found)[: len(table()[kernel]["64/2"])]

    rows = table()["forward"]
    assert of("forward", 512) == rows["64/2/short/full"][:4]
    assert of("forward", 513, window_right=0) == rows["64/2/middle/causal"][:4]
    assert of("forward", 9000) == rows["64/2/huge/full"][:4]
    assert of("forward", 9000, stride=65) == rows["64/2"], "rows of 130 bytes are none for the copy engine"
    bias = torch.empty(1, 1, 9000, 9000, device="meta")
    assert max(of("forward", 9000, additive_bias=bias)[:2]) <= 64
    assert of("forward", 512, device="cpu") == rows["64/2"], "what was tuned on Hopper is used there alone"
    assert max(of("forward", 512, device="cpu", additive_bias=bias)[:2]) <= 64


def test_the_tangent_stands_for_no_other_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    from medpipe.kernels.sigmoid_attention import triton_launch

    table = {"forward": {"64/2": [64, 64, 4, 3, "pointers", "tanh"]}}
    monkeypatch.setattr(triton_launch, "table", lambda: table)
    q = torch.empty(1, 2, 400, 64, dtype=torch.bfloat16, device="meta")
    assert triton_launch.configuration("forward", q, q, q, Terms(0.1)).weights == "tanh"
    for terms in (Terms(0.1, bias_value=-20.0), Terms(0.1, bias=torch.zeros(1, 2))):
        assert triton_launch.configuration("forward", q, q, q, terms).weights == "polynomial"


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
    for degree, bound in ((3, 2.8e-3), (4, 3.0e-4), (5, 5.2e-5)):
        r = triton_scores.reciprocal_of_one_plus.fn(e, degree)
        assert np.abs(r * (1 + e.astype(np.float64)) - 1).max() < bound
    low = e[e < 0.02]
    r = triton_scores.reciprocal_of_one_plus.fn(low, 3)
    assert np.abs(r * (1 + low.astype(np.float64)) - 1).max() < 4.2e-4


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
def test_every_case_of_the_interpreter_and_more_on_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    program = Path(__file__).with_name("triton_program.py")
    shares = [[sys.executable, str(program), "cuda", str(share), "8"] for share in range(8)]
    running = [subprocess.Popen(one, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for one in shares]
    outputs = [process.communicate(timeout=600)[0] for process in running]
    assert all(process.returncode == 0 for process in running), "\n".join(outputs)[-4000:]


@pytest.mark.gpu
@pytest.mark.parametrize("weights", ["packed", "tanh"])
@pytest.mark.parametrize("tokens", [97, 512])
def test_faster_weights_on_a_gpu(weights: str, tokens: int) -> None:
    if not torch.cuda.is_available() or torch.cuda.get_device_capability() < (9, 0):
        pytest.skip("no CUDA device of compute capability 9.0")
    from medpipe.kernels.sigmoid_attention import triton_form
    from medpipe.kernels.sigmoid_attention.reference import reference
    from medpipe.kernels.sigmoid_attention.triton_launch import Configuration

    generator = torch.Generator("cuda").manual_seed(0)
    shape = (2, 3, tokens, 64)
    q, k, v = (torch.randn(shape, generator=generator, device="cuda").bfloat16() for _ in range(3))
    v += 1
    out = triton_form.forward(q, k, v, Terms(0.125), config=Configuration(64, 64, 4, 3, "descriptors", weights))
    truth = reference(q.double(), k.double(), v.double(), Terms(0.125))
    assert (out.double() - truth).norm() <= 5e-3 * truth.norm()


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
