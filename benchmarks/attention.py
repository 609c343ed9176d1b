"""How fast, in how much memory and how exact is sigmoid attention, beside softmax and plain torch, on this device?

    python benchmarks/attention.py [--shapes 1x12x1728x64 ...] [--dtype float32] [--rounds 8] [--threads 2]

Forms, all with gradients of q, k, v (and of the additive bias where a shape has one):

sigmoid          medpipe's, in its default form
plain            torch.sigmoid over the whole score matrix
softmax          scaled_dot_product_attention as torch chooses
softmax_NAME     the same with one backend forced, where the device has it

The forms take turns, so that whatever else the machine does hits all alike, and the least of all rounds counts; `load`
is the machine's load average at the end. Seconds of wall clock; on a CPU also seconds of processor time, which a shared
machine disturbs less. Memory: the peak above the operands, in a process of its own on a CPU. Error: root mean square
against the definition in float64, relative, the worst of output and gradients.

Bar on two CPU cores: forward and backward of 1x12x1728x64 in float32 at least 1.3 times as fast as softmax.
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from medpipe.kernels.sigmoid_attention.entry import sigmoid_attention

RESULT = Path(__file__).parent / "results" / "attention.json"
# (batch, heads, tokens, width): UNETR of 96^3 and 128^3 by patches of 16 and of 8; windows of Swin with its bias.
ON_CPU = ["2x12x216x64", "2x12x512x64", "1x12x1728x64", "1x12x4096x64", "64x6x343x16+bias"]
ON_GPU = [
    *("2x12x216x64", "2x12x512x64", "2x12x1728x64", "1x12x4096x64", "343x3x343x16+bias", "1000x3x343x16+bias"),
    *("32x16x512x80", "8x16x1568x64", "4x16x4096x128", "1x16x16384x128"),
    *(f"{16384 // n}x{2048 // d}x{n}x{d}" for d in (64, 128) for n in (512, 1024, 2048, 4096, 8192, 16384)),
]
BARRED = "1x12x1728x64"
Form = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]


def sigmoid(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    return sigmoid_attention(q, k, v, additive_bias=bias)


def plain(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5 - math.log(k.shape[2])
    return torch.sigmoid(scores if bias is None else scores + bias) @ v


def softmax(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    return scaled_dot_product_attention(q, k, v, attn_mask=bias)


def forced(backend: SDPBackend) -> Form:
    def form(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        with sdpa_kernel(backend):
            return softmax(q, k, v, bias)

    return form


FORMS: dict[str, Form] = {
    "sigmoid": sigmoid,
    "plain": plain,
    "softmax": softmax,
    "softmax_flash": forced(SDPBackend.FLASH_ATTENTION),
    "softmax_efficient": forced(SDPBackend.EFFICIENT_ATTENTION),
    "softmax_cudnn": forced(SDPBackend.CUDNN_ATTENTION),
    "softmax_math": forced(SDPBackend.MATH),
}


def operands(shape: str, dtype: torch.dtype, device: str) -> tuple[list[Tensor], Tensor | None, Tensor]:
    """q, k, v; the additive bias; the gradient of the output. Repeatable."""
    sizes, _, extra = shape.partition("+")
    batch, heads, tokens, width = map(int, sizes.split("x"))
    generator = torch.Generator().manual_seed(0)

    def draw(*size: int) -> Tensor:
        return torch.randn(size, generator=generator).to(device, dtype)

    qkv = [draw(batch, heads, tokens, width).requires_grad_() for _ in range(3)]
    bias = draw(1, heads, tokens, tokens).requires_grad_() if extra else None
    return qkv, bias, draw(batch, heads, tokens, width)


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def time_once(form: Form, shape_operands: tuple[list[Tensor], Tensor | None, Tensor], device: str) -> dict[str, float]:
    (q, k, v), bias, grad_out = shape_operands
    leaves = [q, k, v] if bias is None else [q, k, v, bias]
    marks = [(time.perf_counter(), time.process_time())]
    out = form(q, k, v, bias)
    synchronize(device)
    marks.append((time.perf_counter(), time.process_time()))
    torch.autograd.grad(out, leaves, grad_out)
    synchronize(device)
    marks.append((time.perf_counter(), time.process_time()))
    (began, cpu_began), (between, _), (ended, cpu_ended) = marks
    found = {"forward_s": between - began, "backward_s": ended - between, "both_s": ended - began}
    return found if device == "cuda" else found | {"both_cpu_s": cpu_ended - cpu_began}


def worst_error(name: str, shape: str, dtype: torch.dtype, device: str) -> float | None:
    """None for softmax, which is another function, and where the definition would not fit into memory."""
    qkv, bias, grad_out = operands(shape, dtype, device)
    if name not in ("sigmoid", "plain") or qkv[0].shape[:3].numel() * qkv[0].shape[2] > 2**27:
        return None

    def run(form: Form, leaves: list[Tensor]) -> list[Tensor]:
        out = form(leaves[0], leaves[1], leaves[2], leaves[3] if len(leaves) > 3 else None)
        return [out, *torch.autograd.grad(out, leaves, grad_out.to(out.dtype))]

    leaves = qkv if bias is None else [*qkv, bias]
    exact = [x.detach().double().requires_grad_() for x in leaves]
    expected = run(lambda q, k, v, b: sigmoid_attention(q, k, v, additive_bias=b, impl="reference"), exact)
    pairs = zip(run(FORMS[name], leaves), expected, strict=True)
    return max(float(((x - y).square().mean().sqrt() / y.square().mean().sqrt()).detach()) for x, y in pairs)


def status_kib(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


def peak_mib(name: str, shape: str, dtype: torch.dtype, device: str) -> float:
    """Of forward and backward, above the operands, with the output and the gradients."""
    small = operands("1x1x8x8" + shape.partition("+")[1] + shape.partition("+")[2], dtype, device)
    time_once(FORMS[name], small, device)  # libraries load and make their own room
    held = operands(shape, dtype, device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        time_once(FORMS[name], held, device)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before_kib = status_kib("VmRSS")
    time_once(FORMS[name], held, device)
    return (status_kib("VmHWM") - before_kib) / 1024


def peak_in_a_process(name: str, shape: str, dtype: str) -> float | None:
    command = [sys.executable, __file__, "--peak-of", name, "--shapes", shape, "--dtype", dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return float(done.stdout) if done.returncode == 0 else None


def measure(shape: str, dtype_name: str, device: str, rounds: int) -> dict[str, dict[str, Any]]:
    dtype = getattr(torch, dtype_name)
    held = operands(shape, dtype, device)
    found: dict[str, dict[str, Any]] = {}
    forms = dict(FORMS)
    for turn in range(rounds + 1):
        for name, form in list(forms.items()):
            try:
                once = time_once(form, held, device)
            except RuntimeError as error:  # no such backend here, or no room
                found[name] = {"not_run": str(error).splitlines()[0]}
                del forms[name]
                continue
            if turn > 0:  # the first warms up
                best = found.setdefault(name, {})
                found[name] = {key: min(value, best.get(key, math.inf)) for key, value in once.items()}
    for name in forms:
        on_gpu = device == "cuda"
        found[name]["peak_mib"] = (
            peak_mib(name, shape, dtype, device) if on_gpu else peak_in_a_process(name, shape, dtype_name)
        )
        found[name]["error"] = worst_error(name, shape, dtype, device)
    return found


def show(shape: str, found: dict[str, dict[str, Any]]) -> None:
    print(f"{shape}\n  {'form':<19}{'forward':>10}{'backward':>10}{'both':>10}{'peak MiB':>10}{'error':>10}")
    for name, one in found.items():
        if "not_run" in one:
            print(f"  {name:<19}not run: {one['not_run'][:80]}")
            continue
        times = "".join(f"{one[key] * 1e3:8.2f}ms" for key in ("forward_s", "backward_s", "both_s"))
        peak = "-" if one["peak_mib"] is None else f"{one['peak_mib']:.1f}"
        error = "-" if one["error"] is None else f"{one['error']:.1e}"
        print(f"  {name:<19}{times}{peak:>10}{error:>10}")


def judge(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Times as fast as the fastest softmax, by each clock. Met by both: on a shared machine one alone may be chance."""

    def ratio(key: str) -> float:
        others = [one[key] for name, one in found.items() if name.startswith("softmax") and key in one]
        return min(others) / found["sigmoid"][key]

    ratios = {"times_softmax": ratio("both_s"), "times_softmax_by_cpu_time": ratio("both_cpu_s")}
    return {name: round(value, 2) for name, value in ratios.items()} | {"bar_1.3_met": min(ratios.values()) >= 1.3}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--shapes", nargs="+", default=ON_GPU if device == "cuda" else ON_CPU)
    parser.add_argument("--dtype", default="bfloat16" if device == "cuda" else "float32")
    parser.add_argument("--rounds", type=int, default=20 if device == "cuda" else 8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peak-of", choices=list(FORMS))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak_of:
        print(peak_mib(options.peak_of, options.shapes[0], getattr(torch, options.dtype), device))
        return
    key = f"{device} {options.dtype}"
    result: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    entry = result.setdefault(key, {"shapes": {}})
    for shape in options.shapes:
        found = measure(shape, options.dtype, device, options.rounds)
        show(shape, found)
        entry["shapes"][shape] = environment(device, options.threads, options.rounds) | {"forms": found}
        if shape == BARRED and key == "cpu float32":
            entry["bar"] = judge(found)
            print(f"  {entry['bar']}")
        RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written after each shape: {RESULT.name}")


def environment(device: str, threads: int, rounds: int) -> dict[str, Any]:
    if device == "cuda":
        name = torch.cuda.get_device_name()
    else:
        info = Path("/proc/cpuinfo").read_text().splitlines()
        models = [line.split(":")[1].strip() for line in info if "model name" in line]
        name = f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores"
    return {
        "device": name,
        "torch": torch.__version__,
        "threads": threads,
        "rounds": rounds,
        "load": os.getloadavg()[0],
    }


if __name__ == "__main__":
    main()
