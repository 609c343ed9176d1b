"""benchmarks/attention.py on a CUDA device: what is run in which order, how it is timed, and the verdict on the bars.

All times by CUDA events, the median of as many repeats as fit into `--seconds`:

forward_s, backward_s    one call, as triton.testing.do_bench times it: what lies in L2 is overwritten before each. The
                         backward is timed alone, torch.autograd.grad on one kept graph; both_s is the sum of the two.
                         The overwriting takes some 0.1 ms, in which the host runs ahead: times of the device where a
                         call takes the host no longer than that, else times of the host
graph_forward_s, ...     replays of a CUDA graph of up to 20 calls, which follow one another and may find their operands
                         in L2; graph_both_s is forward and backward captured together, graph_backward_s the difference
called_forward_s, ...    by the host's clock, 50 calls and a wait: with the costs of launching; short calls alone

TFLOP/s: 4 B H N M D operations a forward, 2.5 times that a backward, half where causal; from the times of one call.
Error: as on a CPU; over all heads up to 4096 tokens, over the first head beyond.
"""

import argparse
import gc
import importlib
import json
import math
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from attention_forms import (
    MOST_SCORES,
    Case,
    Form,
    Operands,
    definition,
    flex_form,
    forms,
    installed_forms,
    operands,
    output_and_gradients,
)
from attention_plan import QUICK, Item, judge, plan, show

FLEX_NEEDS = 45.0  # seconds
SHORT = 0.5e-3  # seconds; the host may take as long as such calls
FEW, MANY = 5, 100  # repeats
LOST = "it lost the device"


class DeviceLost(Exception):
    """No call of this process reaches the device any more, as after an illegal access."""


def first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


def check_device() -> None:
    """Raises DeviceLost. Asked twice: the first may still report what a capture or a launch left behind."""
    for turn in range(2):
        try:
            torch.cuda.synchronize()
            torch.ones(1, device="cuda").item()
            return
        except Exception as error:
            if turn == 1:
                raise DeviceLost(first_line(error)) from None


class Clock:
    """Times calls on the current stream, which must not be the default one: graphs are captured on it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.dirt = torch.empty(256 * 2**20, dtype=torch.int8, device="cuda")  # five times the L2 of an H100

    def events(self, call: Callable[[], Any], repeats: int) -> list[float]:
        pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repeats)]
        for start, end in pairs:
            self.dirt.zero_()
            start.record()
            call()
            end.record()
        torch.cuda.synchronize()
        return [start.elapsed_time(end) * 1e-3 for start, end in pairs]

    def eager(self, call: Callable[[], Any]) -> float:
        call()  # compiles, tunes, loads
        torch.cuda.synchronize()
        rough = statistics.median(self.events(call, 3))
        repeats = max(FEW, min(MANY, int(self.seconds / max(rough, 1e-6))))
        self.events(call, repeats // FEW)
        return statistics.median(self.events(call, repeats))

    def graph(self, call: Callable[[], Any], rough: float) -> float:
        """Of a call that has run before. rough: its time, for the number of calls in the graph."""
        copies = max(1, min(20, int(1e-3 / max(rough, 1e-6))))
        recorded = torch.cuda.CUDAGraph()
        stream = torch.cuda.current_stream()
        with torch.cuda.graph(recorded, stream=stream, capture_error_mode="thread_local"):
            for _ in range(copies):
                call()
        self.events(recorded.replay, 2)
        repeats = max(FEW, min(MANY, int(0.6 * self.seconds / (copies * max(rough, 1e-6)))))
        return statistics.median(self.events(recorded.replay, repeats)) / copies

    def called(self, call: Callable[[], Any], calls: int = 50) -> float:
        found = []
        for _ in range(3):
            torch.cuda.synchronize()
            began = time.perf_counter()
            for _ in range(calls):
                call()
            torch.cuda.synchronize()
            found.append((time.perf_counter() - began) / calls)
        return statistics.median(found)


def peak_mib(form: Form, held: Operands) -> float:
    """Of forward and backward, above the operands, with the output and the gradients."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    output_and_gradients(form, held)
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def tokens_first(held: Operands) -> Operands:
    """The same, stored as (B, N, H, D)."""

    def stored(x: torch.Tensor) -> torch.Tensor:
        return x.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_(x.requires_grad)

    return Operands([stored(x) for x in held.leaves], stored(held.grad_out))


def time_form(form: Form, held: Operands, case: Case, clock: Clock) -> dict[str, Any]:
    """Each part on its own: one that fails leaves the first line of its error under `failed`. Raises DeviceLost."""
    found: dict[str, Any] = {}
    failed: dict[str, str] = {}

    def take(key: str, work: Callable[[], float]) -> None:
        try:
            found[key] = work()
        except Exception as error:
            failed[key] = first_line(error)
        if key in failed:  # outside of the handler: what the error's frames held is free
            gc.collect()
            check_device()

    def forward() -> torch.Tensor:
        return form(held.leaves)

    def both() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(forward(), held.leaves, held.grad_out)

    def backward() -> float:
        out = forward()
        return clock.eager(lambda: torch.autograd.grad(out, held.leaves, held.grad_out, retain_graph=True))

    with form.chosen():
        take("forward_s", lambda: clock.eager(forward))
        if "forward_s" in failed:
            return {"not_run": failed["forward_s"]}
        take("backward_s", backward)
        take("graph_forward_s", lambda: clock.graph(forward, found["forward_s"]))
        if "backward_s" in found:
            take("graph_both_s", lambda: clock.graph(both, found["forward_s"] + found["backward_s"]))
        if found["forward_s"] < SHORT:
            take("called_forward_s", lambda: clock.called(forward))
            if "backward_s" in found:
                take("called_both_s", lambda: clock.called(both))
    take("peak_mib", lambda: peak_mib(form, held))
    return found | rates(found, case) | ({"failed": failed} if failed else {})


def rates(found: dict[str, float], case: Case) -> dict[str, float]:
    """What follows from the times."""
    derived = {}
    for key, count in zip(("forward", "backward"), case.operations(), strict=True):
        if f"{key}_s" in found:
            derived[f"{key}_tflops"] = count / found[f"{key}_s"] * 1e-12
    if "backward_s" in found:
        derived["both_s"] = found["forward_s"] + found["backward_s"]
    if "graph_both_s" in found and "graph_forward_s" in found:
        derived["graph_backward_s"] = found["graph_both_s"] - found["graph_forward_s"]
    return derived


def worst_errors(case: Case, named: dict[str, Form], held: Operands) -> dict[str, float]:
    """Relative root mean square, the worst of output and gradients, against float64 in chunks of heads."""
    results = {}
    for name, form in named.items():
        try:
            results[name] = output_and_gradients(form, held)
        except Exception as error:  # as the times of this form will say too
            print(f"  no error of {name}: {first_line(error)}")
    last = case.heads if case.tokens <= 4096 else 1
    chunk = max(1, 2**27 // (case.batch * case.tokens**2))
    sums = {name: torch.zeros(2, len(result), dtype=torch.float64) for name, result in results.items()}
    for first in range(0, last, chunk):
        heads = slice(first, min(first + chunk, last))
        for place, exact in enumerate(definition(case, held, heads, "cuda")):
            for name, result in results.items():
                off = result[place][:, heads].double() - exact
                sums[name][:, place] += torch.stack([off.square().sum(), exact.square().sum()]).cpu()
    return {name: float((off / exact).sqrt().max()) for name, (off, exact) in sums.items()}


def too_large(name: str, case: Case) -> str | None:
    if name in ("plain", "softmax_math") and case.scores > MOST_SCORES:
        return f"its scores would take {case.scores * 4 / 2**30:.0f} GiB"
    return None


def forms_of(item: Item, case: Case, dtype: torch.dtype, quick: bool) -> dict[str, Form]:
    if item.is_flex:
        return {"flex": flex_form(case)}
    found = forms(case, dtype, "cuda")
    if quick:
        return {name: found[name] for name in QUICK}
    try:
        return found | installed_forms(case)
    except Exception as error:  # a package that is there and does not load
        print(f"  other packages: {first_line(error)}")
        return found


def chosen_backend(case: Case, held: Operands) -> str | None:
    """That of softmax where none is forced."""
    q, k, v, *bias = (x.detach().requires_grad_() for x in held.leaves)
    try:
        number = torch.ops.aten._fused_sdp_choice(q, k, v, bias[0] if bias else None, 0.0, case.is_causal)
        return str(torch.nn.attention.SDPBackend(number)).split(".")[-1]
    except Exception:
        return None


def measure(item: Item, options: argparse.Namespace, clock: Clock, found: dict[str, Any]) -> None:
    """Fills `found`, a form at a time, so that a lost device leaves the others' numbers. Raises DeviceLost."""
    dtype = getattr(torch, options.dtype)
    case = Case.parse(item.text)
    held = operands(case, dtype, "cuda")
    named = forms_of(item, case, dtype, options.quick)
    for name, form in named.items():
        reason = f"{LOST} before" if name in options.without else too_large(name, case)
        found[name] = {"not_run": reason or LOST}  # stays where the next line does not return
        if reason is None:
            found[name] = time_form(form, tokens_first(held) if form.tokens_first else held, case, clock)
    if "forward_s" in found.get("softmax", {}):
        found["softmax"]["chose"] = chosen_backend(case, held)
    exact = {name: form for name, form in named.items() if form.is_sigmoid and "backward_s" in found[name]}
    try:
        errors = worst_errors(case, exact, held)
    except Exception as error:
        print(f"  no errors: {first_line(error)}")
        errors = {}
    for name, one in found.items():
        if "forward_s" in one:
            one["error"] = str(errors[name]) if math.isnan(errors.get(name, 0.0)) else errors.get(name)
    check_device()


def versions() -> dict[str, Any]:
    found = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "cuda": torch.version.cuda}
    found["cudnn"] = torch.backends.cudnn.version()
    try:
        found["triton"] = importlib.import_module("triton").__version__
    except Exception as error:
        found["triton"] = first_line(error)
    return found


def restart(options: argparse.Namespace, position: int, lost: str, left: float) -> int:
    """The rest in a new process: this case again without the form that lost the device, or, if '', from the next on."""
    at = position if lost else position + 1
    without = [*options.without, lost] if lost else []
    command = [sys.executable, sys.argv[0], *sys.argv[1:], "--start-at", str(at), "--without", *without]
    if math.isfinite(left):
        command += ["--budget", f"{left:.0f}"]
    print(f"the device is lost; on in a new process, {'without ' + lost if lost else 'with the next case'}", flush=True)
    return subprocess.call(command)


def run(options: argparse.Namespace) -> int:
    """Every case of the plan within the budget, written after each; the exit code."""
    ends = time.perf_counter() + (math.inf if options.budget is None else options.budget)
    warnings.simplefilter("ignore")
    path = Path(options.result)
    result: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    entry = result.setdefault(f"{torch.cuda.get_device_name()} {options.dtype}", {"shapes": {}})
    items, skipped = plan(options.quick, options.shapes), []
    with torch.cuda.stream(torch.cuda.Stream()):
        clock = Clock(options.seconds)
        for position in range(options.start_at, len(items)):
            item = items[position]
            lost = None
            if ends - time.perf_counter() < (FLEX_NEEDS if item.is_flex else 0.0):
                skipped.append(str(item))
            else:
                lost = run_item(item, options, clock, entry)
            entry["bars"] = judge(entry["shapes"])
            entry["not_reached"] = skipped + [str(later) for later in items[position + 1 :]]
            path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
            if lost is not None:
                return restart(options, position, lost, ends - time.perf_counter())
            options.without = []
    for name, one in entry.get("bars", {}).items():
        print(f"  {name}: {one['value']} (bar {one['bar']}, met: {'not run' if one['met'] is None else one['met']})")
    print(f"not reached: {', '.join(entry.get('not_reached', [])) or 'none'}\nwritten: {path.name}")
    return 0


def run_item(item: Item, options: argparse.Namespace, clock: Clock, entry: dict[str, Any]) -> str | None:
    """Into `entry`, and printed. Returns None, or the form that lost the device ('' where it was none of them)."""
    began = time.perf_counter()
    found: dict[str, Any] = {}
    lost = None
    try:
        measure(item, options, clock, found)
    except DeviceLost:
        lost = next((name for name, one in found.items() if one.get("not_run") == LOST), "")
    except Exception as error:  # of the case as a whole: its operands do not fit, say
        print(f"  {item}: {first_line(error)}")
        found.setdefault("flex" if item.is_flex else "sigmoid", {"not_run": first_line(error)})
    gc.collect()
    before = entry["shapes"].get(item.text, {}).get("forms", {}) if item.is_flex else {}
    seconds = {"seconds": options.seconds, "whole_case_s": round(time.perf_counter() - began, 1)}
    entry["shapes"][item.text] = versions() | seconds | {"forms": before | found}
    show(item, found)
    return lost
