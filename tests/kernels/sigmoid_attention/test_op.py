"""The operator within torch: compiled, under autocast, checkpointed; its memory; the algebra that it must obey."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from medpipe.kernels.sigmoid_attention.entry import sigmoid_attention
from medpipe.kernels.sigmoid_attention.op import backward_op, forward_op

Draw = Callable[..., Tensor]
NOTHING = (None,) * 8


def sliced(draw: Draw) -> list[Tensor]:
    """Operands of a permuted, packed tensor."""
    packed = draw(2, 17, 3, 4, 8).detach()
    return [x.requires_grad_() for x in packed.permute(2, 0, 3, 1, 4)]


def test_opcheck(draw: Draw) -> None:
    q, k, v = sliced(draw)
    bias, additive, table = draw(1, 4), draw(2, 4, 17, 17), draw(2, 4, 17, 17)
    torch.library.opcheck(forward_op, (q, k, v, bias, additive, table, *NOTHING, [17], 0.3, None, -1, 0))
    torch.library.opcheck(forward_op, (q, k, v, None, None, None, *NOTHING, [], 0.3, -1.0, -1, -1))
    terms = [x.detach() for x in (torch.ones_like(q), q, k, v, bias, additive)]
    arguments = ([True, False, False], *terms, None, *NOTHING, [], 0.3, None, -1, -1)
    torch.library.opcheck(backward_op, arguments)


def test_compiled_whole_and_once_for_all_lengths(draw: Draw) -> None:
    from torch._dynamo.testing import CompileCounter

    counter = CompileCounter()
    torch._dynamo.reset()
    compiled = torch.compile(sigmoid_attention, fullgraph=True, backend=counter)
    for length in (16, 19, 33, 64, 100):
        q, k, v = (draw(2, 2, length, 8) for _ in range(3))
        torch.testing.assert_close(compiled(q, k, v, is_causal=True), sigmoid_attention(q, k, v, is_causal=True))
    assert counter.frame_count <= 2  # the first length, then any


def test_gradients_of_the_compiled_call(draw: Draw) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(sigmoid_attention, fullgraph=True, backend="aot_eager")
    leaves = [draw(2, 2, 19, 8) for _ in range(3)]
    bias = draw(2)
    expected = torch.autograd.grad(sigmoid_attention(*leaves, bias=bias).square().sum(), [*leaves, bias])
    actual = torch.autograd.grad(compiled(*leaves, bias=bias).square().sum(), [*leaves, bias])
    torch.testing.assert_close(actual, expected)


def test_autocast_casts_operands_and_keeps_the_bias(draw: Draw) -> None:
    q, k, v = (draw(1, 2, 300, 8) for _ in range(3))
    bias = draw(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = sigmoid_attention(q, k.to(torch.bfloat16), v, bias=bias)
    assert out.dtype == torch.bfloat16
    rounded = [x.to(torch.bfloat16) for x in (q, k, v)]
    assert torch.equal(out, sigmoid_attention(*rounded, bias=bias))
    grads = torch.autograd.grad(out.float().sum(), (q, k, v, bias))
    assert all(grad.dtype == torch.float32 for grad in grads)


def test_a_second_derivative_is_refused_and_the_reference_has_it(draw: Draw) -> None:
    q, k, v = (draw(1, 1, 5, 4) for _ in range(3))
    (grad,) = torch.autograd.grad(sigmoid_attention(q, k, v).square().sum(), q, create_graph=True)
    with pytest.raises(NotImplementedError, match="impl='reference'"):
        grad.sum().backward()
    (grad,) = torch.autograd.grad(sigmoid_attention(q, k, v, impl="reference").square().sum(), q, create_graph=True)
    grad.sum().backward()
    assert k.grad is not None
    assert k.grad.any()


def test_checkpointing_and_inference_mode(draw: Draw) -> None:
    q, k, v = (draw(1, 2, 40, 8) for _ in range(3))
    expected = torch.autograd.grad(sigmoid_attention(q, k, v).square().sum(), (q, k, v))
    again: Any = checkpoint(sigmoid_attention, q, k, v, use_reentrant=False)
    assert all(
        torch.equal(*pair) for pair in zip(torch.autograd.grad(again.square().sum(), (q, k, v)), expected, strict=True)
    )
    with torch.inference_mode():
        assert torch.equal(sigmoid_attention(q, k, v), again)


def test_reruns_are_equal_to_the_bit(draw: Draw) -> None:
    q, k, v, additive = draw(2, 2, 300, 16), draw(2, 2, 700, 16), draw(2, 2, 700, 16), draw(1, 2, 300, 700)

    def once() -> tuple[Tensor, ...]:
        out = sigmoid_attention(q, k, v, additive_bias=additive)
        return out, *torch.autograd.grad(out.square().sum(), (q, k, v, additive))

    first = once()
    for _ in range(3):
        assert all(torch.equal(*pair) for pair in zip(once(), first, strict=True))


def test_keys_are_a_set_and_their_shares_add_up(draw: Draw) -> None:
    q, k, v = draw(1, 2, 33, 8), draw(1, 2, 600, 8), draw(1, 2, 600, 8)
    whole = sigmoid_attention(q, k, v, bias=-6.0)
    order = torch.randperm(600, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(sigmoid_attention(q, k[:, :, order], v[:, :, order], bias=-6.0), whole)
    parts = [sigmoid_attention(q, k[:, :, part], v[:, :, part], bias=-6.0) for part in (slice(0, 77), slice(77, 600))]
    torch.testing.assert_close(parts[0] + parts[1], whole)


def test_inputs_alone_are_saved(draw: Draw) -> None:
    saved: list[Tensor] = []
    q, k, v = (draw(1, 2, 40, 8) for _ in range(3))
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
        sigmoid_attention(q, k, v)
    assert sorted(x.data_ptr() for x in saved) == sorted(x.data_ptr() for x in (q, k, v))


MEMORY = """
import sys
from pathlib import Path
import torch
from medpipe.kernels.sigmoid_attention.entry import sigmoid_attention

def peak_kib():
    return int(next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line).split()[1])

torch.set_num_threads(1)
def once(num_keys):
    q, k, v = torch.randn(1, 2, 512, 16), torch.randn(1, 2, num_keys, 16), torch.randn(1, 2, num_keys, 16)
    leaves = [x.requires_grad_() for x in (q, k, v)]
    grads = [torch.zeros_like(x) for x in leaves]
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_kib()
    out = sigmoid_attention(*leaves)
    torch.autograd.grad(out, leaves, torch.ones_like(out))
    return peak_kib() - before - 2 * num_keys * 16 * 4 * 2 // 1024  # less the gradients of k and v

once(512)
print(once(2048), once(65536))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
def test_extra_memory_does_not_grow_with_the_keys() -> None:
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True, timeout=300)
    few, many = map(int, done.stdout.split())
    # All scores of 65,536 keys would be 268 MB.
    assert many < few + 8 * 1024, done.stdout


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_on_a_gpu_it_is_what_it_is_on_a_cpu(dtype: torch.dtype, draw: Draw) -> None:
    leaves = [draw(2, 3, 343, 16, dtype=dtype).detach().requires_grad_() for _ in range(3)]
    additive = draw(1, 3, 343, 343)
    there = [x.detach().cuda().requires_grad_() for x in (*leaves, additive)]
    expected = sigmoid_attention(*leaves, additive_bias=additive)
    actual = sigmoid_attention(*there[:3], additive_bias=there[3])
    pairs = [(actual, expected)]
    grads = torch.autograd.grad(expected.sum(), [*leaves, additive])
    pairs += zip(torch.autograd.grad(actual.sum(), there), grads, strict=True)
    tolerance = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 5e-3}[dtype]
    for one, other in pairs:
        error = (one.cpu().double() - other.double()).square().mean().sqrt()
        assert error <= tolerance * other.double().square().mean().sqrt()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_graphs_capture_forward_and_backward(draw: Draw) -> None:
    leaves = [draw(2, 3, 64, 16).detach().cuda().requires_grad_() for _ in range(3)]
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        expected = torch.autograd.grad(sigmoid_attention(*leaves).sum(), leaves)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = torch.autograd.grad(sigmoid_attention(*leaves).sum(), leaves)
    graph.replay()
    torch.cuda.synchronize()
    assert all(torch.equal(*pair) for pair in zip(captured, expected, strict=True))
