"""What benchmarks/attention.py runs on a CUDA device and in which order, its table, the verdict on the bars."""

import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

FULL = {64: "1x32x16384x64", 128: "1x16x16384x128"}
SMALL = ("2x12x216x64", "2x12x512x64", "2x12x1728x64", "1x12x4096x64")
WINDOWS = ("343x3x343x16+bias", "64x6x343x16+bias+regions", "1000x3x343x16+bias")
COMPILED = ("1x12x4096x64", "1x16x16384x128")  # by FlexAttention, which compiles each for 10 to 20 s
OTHERS = ("32x16x512x80", "8x16x1568x64", "4x16x4096x128")
GRID = tuple(f"{16384 // n}x{2048 // d}x{n}x{d}" for n in (4096, 1024, 8192, 2048, 512, 16384) for d in (64, 128))
QUICK = ("sigmoid", "softmax_flash", "softmax_cudnn")
RATES = {("forward", 64): 450, ("forward", 128): 520, ("backward", 64): 330, ("backward", 128): 375}  # TFLOP/s
CAUSAL = 0.85  # of the rate of the full one


class Item(NamedTuple):
    text: str
    is_flex: bool = False

    def __str__(self) -> str:
        return f"{self.text}, FlexAttention" if self.is_flex else self.text


def plan(quick: bool = False, shapes: Iterable[str] | None = None) -> list[Item]:
    """By importance: a budget cuts off the end."""
    if shapes is not None:
        return [Item(text) for text in shapes]
    barred = [*FULL.values(), *(text + "+causal" for text in FULL.values()), *SMALL]
    if quick:
        return [Item(text) for text in barred]
    grid = [text + causal for text in GRID for causal in ("", "+causal")]
    first = [Item(text) for text in (*barred, *WINDOWS)]
    rest = [Item(text) for text in (*OTHERS, *grid)]
    return list(dict.fromkeys([*first, *(Item(text, is_flex=True) for text in COMPILED), *rest]))


def verdict(value: float | None, bar: float) -> dict[str, Any]:
    """met is None where something was not run."""
    if value is None:
        return {"value": None, "bar": bar, "met": None}
    return {"value": round(value, 3), "bar": bar, "met": value >= bar}


def judge(shapes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The bars by what is stored: rates by single calls, short cases by CUDA graphs."""

    def number(text: str, key: str, form: str = "sigmoid") -> float | None:
        return shapes.get(text, {}).get("forms", {}).get(form, {}).get(key)

    def ratio(over: float | None, under: float | None) -> float | None:
        return over / under if over is not None and under else None

    bars = {}
    for (way, width), bar in RATES.items():
        full = number(FULL[width], f"{way}_tflops")
        causal = number(FULL[width] + "+causal", f"{way}_tflops")
        bars[f"{way}, full, {FULL[width]}: TFLOP/s"] = verdict(full, bar)
        bars[f"{way}, {FULL[width]}: rate of causal over that of full"] = verdict(ratio(causal, full), CAUSAL)
    for text in SMALL:
        for key, way in (("graph_forward_s", "forward"), ("graph_both_s", "forward and backward")):
            names = [name for name in shapes.get(text, {}).get("forms", {}) if name.startswith("softmax")]
            times = {name: found for name in names if (found := number(text, key, name)) is not None}
            fastest = min(times, key=times.__getitem__, default=None)
            found = verdict(ratio(times[fastest], number(text, key)) if fastest else None, 1.0)
            bars[f"{way}, {text}: times as fast as the fastest softmax, CUDA graphs"] = found | {"fastest": fastest}
    return bars


def show(item: Item, found: dict[str, Any]) -> None:
    """Milliseconds, TFLOP/s, MiB."""
    heads = (
        "forward",
        "TF/s",
        "backward",
        "TF/s",
        "graph fwd",
        "graph f+b",
        "called fwd",
        "called f+b",
        "MiB",
        "error",
    )
    print(f"{item}\n  {'form':<18}" + "".join(f"{head:>11}" for head in heads))
    keys = ("forward_s", "forward_tflops", "backward_s", "backward_tflops", "graph_forward_s", "graph_both_s")
    for name, one in found.items():
        if "not_run" in one:
            print(f"  {name:<18} not run: {one['not_run'][:110]}")
            continue
        cells = []
        for key in (*keys, "called_forward_s", "called_both_s", "peak_mib"):
            scale, digits = (1e3, 4) if key.endswith("_s") else (1.0, 1)
            cells.append(f"{one[key] * scale:.{digits}f}" if key in one else "-")
        error = one.get("error")
        cells.append("-" if error is None else error if isinstance(error, str) else f"{error:.1e}")
        print(f"  {name:<18}" + "".join(f"{cell:>11}" for cell in cells))
        for key, reason in one.get("failed", {}).items():
            print(f"    {key} failed: {reason[:110]}")
    sys.stdout.flush()
