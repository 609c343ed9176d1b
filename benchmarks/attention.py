"""How fast, in how much memory and how exact is sigmoid attention, beside softmax and plain torch, on this device?

    python benchmarks/attention.py [--shapes 1x12x1728x64 ...] [--dtype float32] [--rounds 8] [--threads 2]
    python benchmarks/attention.py [--budget 200] [--quick] [--dtype float16]          on a CUDA device

Forms, all with gradients of q, k, v (and of the additive bias where a shape has one):

sigmoid          medpipe's, in its default form
plain            torch.sigmoid over the whole score matrix
softmax          scaled_dot_product_attention as torch chooses
softmax_NAME     the same with one backend forced, where the device has it
flex             FlexAttention, softmax of log p times the sum of p; on CUDA, where compiling it is worth the time
flash_sigmoid, triton_sigmoid    on CUDA, where they are installed

On a CPU the forms take turns, so that whatever else the machine does hits all alike, and the least of all rounds
counts; `load` is the machine's load average at the end. Seconds of wall clock and of processor time, which a shared
machine disturbs less. Memory: the peak above the operands, in a process of its own on a CPU. Error: root mean square
against the definition in float64, relative, the worst of output and gradients. Softmax is another function: no error.

On a CUDA device times and order are those of attention_cuda.py and attention_plan.py, the key of the result is the
device's name, and `bars` in it says which bars are met.

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
from pathlib import Path
from typing import Any

import torch
from attention_forms import NAMES, Case, Form, Operands, definition, forms, operands, output_and_gradients

RESULT = Path(__file__).parent / "results" / "attention.json"
# (batch, heads, tokens, width): UNETR of 96^3 and 128^3 by patches of 16 and of 8; windows of Swin with its bias.
ON_CPU = ["2x12x216x64", "2x12x512x64", "1x12x1728x64", "1x12x4096x64", "64x6x343x16+bias"]
BARRED = "1x12x1728x64"


def time_once(form: Form, held: Operands) -> dict[str, float]:
    with form.chosen():
        marks = [(time.perf_counter(), time.process_time())]
        out = form(held.leaves)
        marks.append((time.perf_counter(), time.process_time()))
        torch.autograd.grad(out, held.leaves, held.grad_out)
        marks.append((time.perf_counter(), time.process_time()))
    (began, cpu_began), (between, _), (ended, cpu_ended) = marks
    return {
        "forward_s": between - began,
        "backward_s": ended - between,
        "both_s": ended - began,
        "both_cpu_s": cpu_ended - cpu_began,
    }


def worst_error(form: Form, case: Case, dtype: torch.dtype) -> float | None:
    """None for softmax, which is another function, and where the definition would not fit into memory."""
    if not form.is_sigmoid or case.scores > 2**27:
        return None
    held = operands(case, dtype, "cpu")
    pairs = zip(output_and_gradients(form, held), definition(case, held, slice(None), "cpu"), strict=True)
    return max(float((x - y).square().mean().sqrt() / y.square().mean().sqrt()) for x, y in pairs)


def status_kib(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


def peak_mib(name: str, text: str, dtype: torch.dtype) -> float:
    """Of forward and backward, above the operands, with the output and the gradients."""
    small = Case.parse("+".join(["1x1x8x8", *text.split("+")[1:]]))
    time_once(forms(small, dtype, "cpu")[name], operands(small, dtype, "cpu"))  # libraries load and make their room
    case = Case.parse(text)
    form, held = forms(case, dtype, "cpu")[name], operands(case, dtype, "cpu")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before_kib = status_kib("VmRSS")
    time_once(form, held)
    return (status_kib("VmHWM") - before_kib) / 1024


def peak_in_a_process(name: str, shape: str, dtype: str) -> float | None:
    command = [sys.executable, __file__, "--peak-of", name, "--shapes", shape, "--dtype", dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return float(done.stdout) if done.returncode == 0 else None


def measure(text: str, dtype_name: str, rounds: int) -> dict[str, dict[str, Any]]:
    case, dtype = Case.parse(text), getattr(torch, dtype_name)
    held = operands(case, dtype, "cpu")
    found: dict[str, dict[str, Any]] = {}
    running = forms(case, dtype, "cpu")
    for turn in range(rounds + 1):
        for name, form in list(running.items()):
            try:
                once = time_once(form, held)
            except RuntimeError as error:  # no such backend here, or no room
                found[name] = {"not_run": str(error).splitlines()[0]}
                del running[name]
                continue
            if turn > 0:  # the first warms up
                best = found.setdefault(name, {})
                found[name] = {key: min(value, best.get(key, math.inf)) for key, value in once.items()}
    for name, form in running.items():
        found[name]["peak_mib"] = peak_in_a_process(name, text, dtype_name)
        found[name]["error"] = worst_error(form, case, dtype)
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


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    has_cuda = torch.cuda.is_available()
    parser.add_argument("--shapes", nargs="+", help="default: all of the device's")
    parser.add_argument("--dtype", default="bfloat16" if has_cuda else "float32")
    parser.add_argument("--result", default=str(RESULT), help="the file that is added to")
    on_cpu = parser.add_argument_group("on a CPU")
    on_cpu.add_argument("--rounds", type=int, default=8)
    on_cpu.add_argument("--threads", type=int, default=2)
    on_cpu.add_argument("--peak-of", choices=NAMES, help=argparse.SUPPRESS)
    on_cuda = parser.add_argument_group("on a CUDA device")
    on_cuda.add_argument("--budget", type=float, help="seconds after which no further shape is started")
    on_cuda.add_argument("--seconds", type=float, default=0.15, help="of each time that is taken")
    on_cuda.add_argument("--quick", action="store_true", help="the shapes of the bars alone, few forms")
    on_cuda.add_argument("--start-at", type=int, default=0, help=argparse.SUPPRESS)
    on_cuda.add_argument("--without", nargs="*", default=[], help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    options = arguments()
    torch.set_num_threads(options.threads)
    if torch.cuda.is_available():
        import attention_cuda

        return attention_cuda.run(options)
    if options.peak_of:
        print(peak_mib(options.peak_of, options.shapes[0], getattr(torch, options.dtype)))
        return 0
    path, key = Path(options.result), f"cpu {options.dtype}"
    result: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    entry = result.setdefault(key, {"shapes": {}})
    for shape in options.shapes or ON_CPU:
        found = measure(shape, options.dtype, options.rounds)
        show(shape, found)
        entry["shapes"][shape] = environment(options.threads, options.rounds) | {"forms": found}
        if shape == BARRED and key == "cpu float32":
            entry["bar"] = judge(found)
            print(f"  {entry['bar']}")
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written after each shape: {path.name}")
    return 0


def environment(threads: int, rounds: int) -> dict[str, Any]:
    info = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":")[1].strip() for line in info if "model name" in line]
    return {
        "device": f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores",
        "torch": torch.__version__,
        "threads": threads,
        "rounds": rounds,
        "load": os.getloadavg()[0],
    }


if __name__ == "__main__":
    sys.exit(main())
