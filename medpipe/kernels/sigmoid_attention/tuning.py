"""Measure configurations of the kernels on the GPU that is there, and write the shipped table.

Compiling takes most of the time, so that every candidate is first compiled by processes side by side into Triton's
cache, then checked and timed by one process alone. The table is written after each case.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, final

import torch
import triton
from torch import Tensor

from medpipe.kernels.sigmoid_attention import triton_form, triton_launch
from medpipe.kernels.sigmoid_attention.blockwise import Wanted, empty_gradients
from medpipe.kernels.sigmoid_attention.terms import Terms
from medpipe.kernels.sigmoid_attention.triton_launch import Configuration

TABLE = Path(__file__).with_name("configurations.json")
KERNELS = ("forward", "queries", "keys", "additive")
# What stands for each class of lengths: batch, channels, tokens. Volumes of 96^3 and 128^3 by patches of 16 and 8.
SHAPES = {"tiny": (2, 768, 216), "short": (2, 768, 512), "middle": (2, 768, 1728), "long": (1, 768, 4096),
          "huge": (2, 2048, 8192)}  # fmt: skip
MOST_ERROR = 5e-3  # relative, of bf16 in every test
POINTERS, DESCRIPTORS = "pointers", "descriptors"
# (queries, keys, warps) where an additive bias is read, by pointers
TILES = [(64, 64, 4), (64, 32, 4), (32, 64, 4), (32, 32, 4), (128, 32, 4), (64, 16, 4)]
OF_TILES = {"additive": [(64, 32, 4), (32, 64, 4), (32, 32, 4), (64, 64, 4), (32, 32, 2), (16, 64, 4)]}
# (queries, keys, warps, stages) through the copy engine
OF_QUERIES = [(64, 64, 4, 3), (64, 64, 4, 2), (64, 128, 4, 3), (128, 64, 4, 3), (128, 64, 8, 3), (128, 128, 8, 3)]
OF_KEYS = [(64, 64, 4, 2), (64, 64, 4, 3), (32, 64, 4, 3), (64, 128, 8, 3)]


@final
@dataclass(frozen=True)
class Case:
    """Calls in bf16 that share entries of the table: (batch, heads, tokens, width)."""

    shape: tuple[int, int, int, int]
    kind: str  # full, causal or tiles: an additive bias of all windows is read
    length: str

    @property
    def key(self) -> str:
        return f"{triton_launch.block(self.shape[3])}/2/{self.length}/{self.kind}"

    def operands(self) -> tuple[list[Tensor], Terms]:
        """q, k, v, the output's gradient; the terms."""
        batch, heads, tokens, width = self.shape
        draw = [torch.randn(batch, tokens, heads, width, device="cuda").bfloat16().transpose(1, 2) for _ in range(4)]
        additive = torch.randn(1, heads, tokens, tokens, device="cuda") if self.kind == "tiles" else None
        return draw, Terms(width**-0.5, additive_bias=additive, window_right=0 if self.kind == "causal" else -1)


def cases(widths: list[int]) -> list[Case]:
    """Wide heads as of vision transformers, narrow ones as windows of 7^3 of a Swin transformer."""
    found = []
    for width in widths:
        if width <= 32:  # of Swin transformers alone
            found.append(Case((343, 3, 343, width), "tiles", "short"))
            continue
        for length, (batch, channels, tokens) in SHAPES.items():
            shape = (batch, channels // width, tokens, width)
            found += [Case(shape, kind, length) for kind in ("full", "causal")]
    return found


def candidates(kernel: str, case: Case) -> list[Configuration]:
    """What is worth a try."""
    if case.kind == "tiles":
        return [Configuration(*size, stages) for size in OF_TILES.get(kernel, TILES) for stages in (2, 3)]
    if kernel == "additive":
        return []
    described = [Configuration(*one, DESCRIPTORS) for one in (OF_KEYS if kernel == "keys" else OF_QUERIES)]
    found = [*described, Configuration(64, 64, 4, 2 if kernel == "keys" else 3, POINTERS)]
    if kernel != "forward":
        return found
    forms = ("polynomial", "packed", "tanh") if case.length in ("tiny", "short") else ("polynomial", "packed")
    return [one._replace(weights=form) for form in forms for one in found]


@final
class Trial:
    """One kernel on the operands of a case: to be launched with any configuration."""

    def __init__(self, kernel: str, operands: tuple[list[Tensor], Terms]) -> None:
        (q, k, v, grad_out), self.terms = operands
        self.kernel, self.qkv = kernel, (q, k, v)
        self.shared = triton_form.backward_arguments(grad_out, q, k, v, self.terms)
        self.grads = empty_gradients(q, k, v, self.terms, Wanted(additive_bias=True), zero=False)

    def launch(self, config: Configuration) -> list[Tensor]:
        """What the kernel is there for."""
        grads, sequences = self.grads, self.qkv[0].shape[0]
        if self.kernel == "forward":
            return [triton_form.forward(*self.qkv, self.terms, config=config)]
        if self.kernel == "queries":
            triton_form.launch_queries(grads, self.shared, config, sequences, False)
            return [grads.q]
        if self.kernel == "keys":
            triton_form.launch_keys(grads, self.shared, config, sequences)
            return [grads.k, grads.v]
        triton_form.launch_additive(grads.additive_bias, self.shared, config, sequences)
        return [grads.additive_bias]

    def expected(self) -> list[Tensor]:
        """By the table's entry that every GPU and call can take, which tests hold against the definition in float64."""
        entry = triton_launch.table()[self.kernel][f"{triton_launch.block(self.qkv[0].shape[3])}/2"]
        return [x.double().clone() for x in self.launch(Configuration(*entry))]

    def error(self, config: Configuration, expected: list[Tensor]) -> float:
        """Relative root mean square, the worst; not a number where something was not written."""
        for x in self.grads:
            x.fill_(torch.nan)
        with unwritten_is_nan():
            found = self.launch(config)
        pairs = zip(found, expected, strict=True)
        return float(torch.stack([(x.double() - y).norm() / y.norm() for x, y in pairs]).max())


@contextmanager
def unwritten_is_nan() -> Iterator[None]:
    """New tensors are filled: the memory of an earlier result, handed out again, would look like a right one."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)  # what `fill_uninitialized_memory` (true) needs
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def compile_share(widths: list[int], share: int, shares: int) -> None:
    """Run each share-th candidate once. The lengths of a class differ in nothing that is compiled."""
    jobs = (
        (case, kernel, config) for case in cases(widths) for kernel in KERNELS for config in candidates(kernel, case)
    )
    distinct = {(case.shape[3], case.kind, kernel, config): case for case, kernel, config in jobs}
    for (_, _, kernel, config), case in list(distinct.items())[share::shares]:
        try:
            Trial(kernel, case.operands()).launch(config)
            torch.cuda.synchronize()
        except Exception as error:
            print(f"{case.key} {kernel} {tuple(config)}: {str(error).splitlines()[:1]}", file=sys.stderr)


def seconds(call: Callable[[], Any], calls: int = 10, repeats: int = 5) -> float:
    """Of a call, in a CUDA graph of several, by the device's clock, the median: what the host costs is not in it."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        call()
    stream.synchronize()
    began = time.perf_counter()
    call()
    torch.cuda.synchronize()
    if time.perf_counter() - began > 2e-3:
        calls, repeats = 2, 3
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for _ in range(calls):
            call()
    graph.replay()
    marks = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(repeats)]
    for begin, end in marks:
        begin.record()
        graph.replay()
        end.record()
    torch.cuda.synchronize()
    return median(begin.elapsed_time(end) for begin, end in marks) / 1e3 / calls


def measure(widths: list[int]) -> Iterator[dict[str, Any]]:
    """Each case and kernel with its candidates, the fastest first, and what spoke against the others."""
    for case in cases(widths):
        operands = case.operands()
        for kernel in KERNELS:
            tried = candidates(kernel, case)
            if not tried:
                continue
            trial = Trial(kernel, operands)
            expected, ranked, refused = trial.expected(), [], []
            for config in tried:
                try:
                    error = trial.error(config, expected)
                    if not error <= MOST_ERROR:
                        refused.append({"config": list(config), "reason": f"error {error:.1e}"})
                        continue
                    milliseconds = seconds(lambda c=config, t=trial: t.launch(c)) * 1e3
                    ranked.append({"config": list(config), "ms": round(milliseconds, 4), "error": error})
                except Exception as error:  # it does not compile, or not fit: no candidate on this GPU
                    refused.append({"config": list(config), "reason": str(error).split("\n", 1)[0][:200]})
            ranked.sort(key=lambda one: one["ms"])
            show(case, kernel, ranked, refused)
            yield {"key": case.key, "shape": case.shape, "kernel": kernel, "ranked": ranked, "refused": refused}


def show(case: Case, kernel: str, ranked: list[dict[str, Any]], refused: list[dict[str, Any]]) -> None:
    batch, heads, tokens, width = case.shape
    products = {"forward": 2, "queries": 3, "keys": 4, "additive": 2}[kernel]
    operations = 2 * products * batch * heads * tokens**2 * width / (2 if case.kind == "causal" else 1)
    rate = f"{operations / ranked[0]['ms'] / 1e9:6.0f} TFLOP/s" if ranked else "none was right: the entry stays"
    best = " | ".join(f"{'x'.join(map(str, one['config']))} {one['ms']:.4f}" for one in ranked[:5])
    print(f"{case.key:22} {kernel:8} {rate}  {best}", flush=True)
    for one in refused:
        print(f"  left out: {'x'.join(map(str, one['config']))}: {one['reason'][:90]}", flush=True)


def tune(widths: list[int], *, processes: int = 12, table: Path | None = TABLE, result: Path | None = None) -> None:
    """Time every candidate on this GPU; the fastest of each case goes into the table, all of them into `result`.

    Raises RuntimeError: there is no CUDA device.
    """
    if not torch.cuda.is_available():
        raise RuntimeError("tuning needs a CUDA device, and torch sees none")
    names = [str(width) for width in widths]
    running = [
        subprocess.Popen([sys.executable, "-m", __name__, str(i), str(processes), *names]) for i in range(processes)
    ]
    if any(process.wait() for process in running):
        print("a process that compiles was cut off: what it left is compiled one by one", file=sys.stderr)
    entries: dict[str, dict[str, Any]] = json.loads(TABLE.read_text(encoding="utf-8"))
    found = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "triton": triton.__version__}
    rows: list[dict[str, Any]] = []
    for one in measure(widths):
        rows.append(one)
        if one["ranked"]:
            entries[one["kernel"]][one["key"]] = one["ranked"][0]["config"]
        if table is not None:
            table.write_text(render(entries), encoding="utf-8")
        if result is not None:
            result.write_text(json.dumps(found | {"cases": rows}, indent=1) + "\n", encoding="utf-8")


def render(entries: dict[str, dict[str, Any]]) -> str:
    """An entry a line."""
    kernels = [
        f'  "{kernel}": {{\n' + ",\n".join(f'    "{key}": {json.dumps(value)}' for key, value in rows.items()) + "\n  }"
        for kernel, rows in entries.items()
    ]
    return "{\n" + ",\n".join(kernels) + "\n}\n"


if __name__ == "__main__":
    place, of, *numbers = (int(word) for word in sys.argv[1:])
    compile_share(numbers, place, of)
