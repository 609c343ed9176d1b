"""How much faster than monai's is attention in the windows of Swin, forward and backward, on this device?

    python benchmarks/window_attention.py [--shapes 343x3x343x16 ...] [--repeats 40] [--threads 2] [--result FILE]

A shape is windows x heads x tokens x width; "+mask" adds the mask of a shifted volume. Forms, with the gradients of
everything that is trained and of what goes in, the relative bias among them:

module  monai     monai's WindowAttention as it trains
        sigmoid   medpipe's, by its kernel         softmax  medpipe's, by torch's scaled dot product attention
core    the same three between given q, k, v and bias (heads, tokens, tokens), without the linear layers

Same weights and inputs for all. bfloat16 by autocast on CUDA, float32 on a CPU. Milliseconds, the median of the
repeats, the forms taking turns. On CUDA between events on the device, eager and as a CUDA graph where capture works; on
a CPU wall clock and processor time, which a shared machine disturbs less. Error of a core: root mean square against its
definition in float64 over eight windows, relative, the worst of output and gradients.

Bar: the sigmoid module at least twice as fast as monai's at 343x3x343x16 on an H100, eager and as a graph.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from monai.networks.nets.swin_unetr import WindowAttention as MonaiWindowAttention
from monai.networks.nets.swin_unetr import compute_mask
from torch import Tensor

from medpipe.backbones.window_attention import WindowAttention, attend_by_sigmoid, attend_by_softmax
from medpipe.kernels.sigmoid_attention.entry import sigmoid_attention

RESULT = Path(__file__).parent / "results" / "window_attention.json"
# Level 1 of SwinUNETR with 48 features: windows of 96^3 and of 128^3; a padded volume of 3 x 3 x 3 windows for CPUs.
ON_GPU = ["343x3x343x16", "1000x3x343x16", "343x3x343x16+mask"]
ON_CPU = ["27x3x343x16", "27x3x343x16+mask"]
BARRED, BAR, BARRED_DEVICE = "343x3x343x16", 2.0, "H100"
WARM_UP = 5
WINDOWS_OF_ERROR = 8
Core = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor | None], Tensor]


class Case(NamedTuple):
    """One form with its operands: `forward` gives the output, whose gradient `grad_out` goes back to the leaves."""

    forward: Callable[[], Tensor]
    leaves: list[Tensor]
    grad_out: Tensor

    def both(self) -> None:
        torch.autograd.grad(self.forward(), self.leaves, self.grad_out)


def monai_core(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
    """The lines of monai's forward between its linear layers."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1) + bias.unsqueeze(0)
    if mask is not None:
        scores = scores.unflatten(0, (-1, mask.shape[0])) + mask.unsqueeze(1).unsqueeze(0)
        scores = scores.flatten(0, 1)
    return scores.softmax(-1).to(v.dtype) @ v


def sigmoid_reference(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
    visible = None if mask is None else (mask == 0).unsqueeze(1)
    return sigmoid_attention(q, k, v, additive_bias=bias.unsqueeze(0), attn_mask=visible, impl="reference")


CORES: dict[str, tuple[Core, Core]] = {  # the form and its definition
    "monai": (monai_core, monai_core),
    "sigmoid": (attend_by_sigmoid, sigmoid_reference),
    "softmax": (attend_by_softmax, monai_core),
}


def mixed(device: str) -> Any:
    """Autocast without its cache of weights, which a CUDA graph cannot keep."""
    return torch.autocast("cuda", dtype=torch.bfloat16, cache_enabled=False) if device == "cuda" else nullcontext()


def numbers(shape: str) -> tuple[int, int, int, int]:
    windows, heads, tokens, width = map(int, shape.partition("+")[0].split("x"))
    return windows, heads, tokens, width


def root(power: int) -> int:
    side = round(power ** (1 / 3))
    if side**3 != power:
        raise SystemExit(f"{power} is no cube: windows and tokens must each fill one")
    return side


def shift_mask(shape: str, device: str) -> Tensor | None:
    """monai's, (windows, tokens, tokens): one volume, shifted by half a window."""
    if "+mask" not in shape:
        return None
    windows, _, tokens, _ = numbers(shape)
    side = root(tokens)
    return compute_mask([root(windows) * side] * 3, [side] * 3, [side // 2] * 3, device)


def draw(*size: int, seed: int, device: str) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)).to(device)


def modules(shape: str, device: str) -> dict[str, Case]:
    windows, heads, tokens, width = numbers(shape)
    dim, side, mask = heads * width, [root(tokens)] * 3, shift_mask(shape, device)
    torch.manual_seed(0)
    monai = MonaiWindowAttention(dim, heads, side, qkv_bias=True)
    forms: dict[str, torch.nn.Module] = {"monai": monai}
    for name in ("sigmoid", "softmax"):
        forms[name] = WindowAttention(dim, heads, side, True, attention=name)
        forms[name].load_state_dict(monai.state_dict())
    x = draw(windows, tokens, dim, seed=1, device=device).requires_grad_()
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    grad_out = draw(windows, tokens, dim, seed=2, device=device).to(dtype)

    def forward(module: torch.nn.Module) -> Tensor:
        with mixed(device):
            return module(x, mask)

    return {
        name: Case(partial(forward, module.to(device)), [x, *module.parameters()], grad_out)
        for name, module in forms.items()
    }


def cores(shape: str, device: str) -> dict[str, Case]:
    windows, heads, tokens, width = numbers(shape)
    dtype, mask = torch.bfloat16 if device == "cuda" else torch.float32, shift_mask(shape, device)
    *qkv, grad_out = (draw(windows, heads, tokens, width, seed=seed, device=device).to(dtype) for seed in range(4))
    leaves = [*qkv, 0.02 * draw(heads, tokens, tokens, seed=4, device=device)]
    leaves = [leaf.requires_grad_() for leaf in leaves]

    def forward(core: Core) -> Tensor:
        with mixed(device):
            return core(leaves[0], leaves[1], leaves[2], leaves[3], mask)

    return {name: Case(partial(forward, core), leaves, grad_out) for name, (core, _) in CORES.items()}


def core_error(name: str, case: Case, shape: str, device: str) -> float:
    mask = shift_mask(shape, device)
    mask = None if mask is None else mask[-WINDOWS_OF_ERROR:]  # the last windows are those that the shift cuts
    some = [leaf.detach()[-WINDOWS_OF_ERROR:] for leaf in case.leaves[:3]] + [case.leaves[3].detach()]
    grad_out = case.grad_out[-WINDOWS_OF_ERROR:]

    def run(core: Core, leaves: list[Tensor], gradient: Tensor) -> list[Tensor]:
        leaves = [leaf.requires_grad_() for leaf in leaves]
        out = core(leaves[0], leaves[1], leaves[2], leaves[3], mask)
        return [out.detach(), *torch.autograd.grad(out, leaves, gradient)]

    core, definition = CORES[name]
    with mixed(device):
        found = run(core, some, grad_out)
    exact = run(definition, [leaf.detach().double() for leaf in some], grad_out.double())
    pairs = zip(found, exact, strict=True)
    return max(float((x - y).square().mean().sqrt() / y.square().mean().sqrt()) for x, y in pairs)


def time_once(case: Case, device: str) -> dict[str, float]:
    if device == "cuda":
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(3)]
        marks[0].record()
        out = case.forward()
        marks[1].record()
        torch.autograd.grad(out, case.leaves, case.grad_out)
        marks[2].record()
        marks[2].synchronize()
        return {"forward_ms": marks[0].elapsed_time(marks[1]), "both_ms": marks[0].elapsed_time(marks[2])}
    cpu_began, began = time.process_time(), time.perf_counter()
    out = case.forward()
    between = time.perf_counter()
    torch.autograd.grad(out, case.leaves, case.grad_out)
    ended, cpu_ended = time.perf_counter(), time.process_time()
    seconds = {"forward_ms": between - began, "both_ms": ended - began, "cpu_both_ms": cpu_ended - cpu_began}
    return {key: value * 1e3 for key, value in seconds.items()}


def peak_mib(case: Case) -> float:
    """Of forward and backward on the GPU, above the operands."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    case.both()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def time_eager(cases: dict[str, Case], device: str, repeats: int) -> dict[str, dict[str, Any]]:
    times: dict[str, list[dict[str, float]]] = {name: [] for name in cases}
    for turn in range(WARM_UP + repeats):
        for name, case in cases.items():
            once = time_once(case, device)
            if turn >= WARM_UP:
                times[name].append(once)
    found: dict[str, dict[str, Any]] = {
        name: {key: round(statistics.median(one[key] for one in of_form), 4) for key in of_form[0]}
        for name, of_form in times.items()
    }
    if device == "cuda":
        for name, case in cases.items():
            found[name]["peak_mib"] = round(peak_mib(case), 1)
    return found


def capture(case: Case) -> torch.cuda.CUDAGraph:
    """Forward and backward as one graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            case.both()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        case.both()
    return graph


def time_graph(case: Case, repeats: int) -> dict[str, Any]:
    try:
        graph = capture(case)
    except RuntimeError as error:
        return {"graph_not_run": str(error).splitlines()[0]}
    times = []
    for turn in range(WARM_UP + repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        if turn >= WARM_UP:
            times.append(start.elapsed_time(end))
    return {"graph_both_ms": round(statistics.median(times), 4)}


def measure(shape: str, device: str, repeats: int) -> dict[str, dict[str, dict[str, Any]]]:
    """part -> form -> its figures."""
    found = {}
    for part, build in (("module", modules), ("core", cores)):
        cases = build(shape, device)
        found[part] = time_eager(cases, device, repeats)
        for name, case in cases.items():
            if device == "cuda":
                found[part][name] |= time_graph(case, repeats)
            if part == "core":
                found[part][name]["error"] = core_error(name, case, shape, device)
        for one in found[part].values():
            one["times_monai"] = ratios(one, found[part]["monai"])
    return found


def ratios(one: dict[str, Any], monai: dict[str, Any]) -> dict[str, float]:
    """How many times as fast as monai's, forward and backward."""
    keys = [key for key in ("both_ms", "graph_both_ms", "cpu_both_ms") if key in one and key in monai]
    return {key: round(monai[key] / one[key], 2) for key in keys}


def show(shape: str, found: dict[str, dict[str, dict[str, Any]]]) -> None:
    known = ("forward_ms", "both_ms", "graph_both_ms", "cpu_both_ms", "peak_mib")
    columns = [key for key in known if any(key in one for one in found["module"].values())]
    print(f"{shape}\n  {'form':<17}" + "".join(f"{name:>15}" for name in (*columns, "error", "times monai")))
    for part, forms in found.items():
        for name, one in forms.items():
            cells = "".join(f"{one[key]:15.3f}" if key in one else f"{'-':>15}" for key in columns)
            error = f"{one['error']:15.1e}" if "error" in one else f"{'-':>15}"
            faster = " / ".join(f"{value:.2f}" for value in one["times_monai"].values())
            print(f"  {part + ' ' + name:<17}{cells}{error}{faster:>15}")
            if "graph_not_run" in one:
                print(f"    no graph: {one['graph_not_run'][:100]}")


def judge(device_name: str, shapes: dict[str, Any]) -> str:
    """met, not met or not run."""
    if BARRED_DEVICE not in device_name or BARRED not in shapes:
        return "not run"
    found = shapes[BARRED]["forms"]["module"]["sigmoid"]["times_monai"]
    return "met" if min(found.values()) >= BAR else "not met"


def name_of(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    models = [line.split(":")[1].strip() for line in info if "model name" in line]
    return f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores"


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def environment(device: str, options: argparse.Namespace) -> dict[str, Any]:
    return {
        "dtype": "bfloat16 by autocast" if device == "cuda" else "float32",
        "torch": torch.__version__,
        "triton": installed("triton"),
        "monai": installed("monai"),
        "repeats": options.repeats,
        "threads": options.threads,
    }


def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shapes", nargs="+", default=ON_GPU if device == "cuda" else ON_CPU)
    parser.add_argument("--repeats", type=int, default=40 if device == "cuda" else 30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--result", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result: dict[str, Any] = json.loads(options.result.read_text()) if options.result.is_file() else {}
    entry = result.setdefault(name_of(device), {"shapes": {}})
    for shape in options.shapes:
        found = measure(shape, device, options.repeats)
        show(shape, found)
        entry["shapes"][shape] = environment(device, options) | {"load": os.getloadavg()[0], "forms": found}
        entry["bar"] = f"sigmoid module {BAR:.0f} times monai's at {BARRED} on an {BARRED_DEVICE}: "
        entry["bar"] += judge(name_of(device), entry["shapes"])
        options.result.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"{entry['bar']}\nwritten after each shape: {options.result.name}")


if __name__ == "__main__":
    main()
