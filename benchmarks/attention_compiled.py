"""Do all shipped configurations of the sigmoid attention kernels compile, without a GPU, and what became of them?

    python benchmarks/attention_compiled.py [--kernels forward ...] [--widths 64 ...] [--processes 2]

Each entry of the table for compute capability 9.0, and for 8.0 those that are used there; bf16 and fp16 for entries of
16 bits, float32 for the others. Stored: registers and spilled bytes a thread, shared memory a block, special function
instructions a score, the tensor core instruction. Bar: none spills, fits into the shared memory of an A100 or H100, and
uses HGMMA on 9.0 with operands of 16 bits. Written after every entry.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from medpipe.kernels.sigmoid_attention.triton_launch import Configuration, table

RESULT = Path(__file__).parent / "results" / "attention_compiled.json"
SHARED = {80: 163 * 1024, 90: 227 * 1024}  # bytes of a block, CUDA C++ programming guide, technical specifications
DTYPES = {"2": ("bfloat16", "float16"), "4": ("float32",)}
Job = tuple[str, str, str, int]  # kernel, name in the table, dtype, capability


def jobs(kernels: list[str], widths: list[int]) -> list[Job]:
    found = []
    for kernel in kernels:
        for name in table()[kernel]:
            width, itemsize = name.split("/")[:2]
            capabilities = (80, 90) if name.count("/") == 1 else (90,)
            if int(width) in widths:
                found += [(kernel, name, dtype, one) for dtype in DTYPES[itemsize] for one in capabilities]
    return found


def compile_one(job: Job) -> dict[str, Any]:
    from medpipe.kernels.sigmoid_attention.offline import compile_kernel
    from medpipe.kernels.sigmoid_attention.terms import Terms

    kernel, name, dtype, capability = job
    additive = torch.empty(1, 4, 512, 512, device="meta") if name.endswith("tiles") else None
    terms = Terms(0.1, window_right=0 if name.endswith("causal") else -1, additive_bias=additive)
    config = Configuration(*table()[kernel][name])
    found = compile_kernel(
        kernel, int(name.split("/")[0]), getattr(torch, dtype), capability=capability, terms=terms, config=config
    )
    return asdict(found) | {"entry": name, "meets_bar": meets_bar(asdict(found))}


def meets_bar(found: dict[str, Any]) -> bool:
    is_wide = found["dtype"] == "float32"
    has_core = is_wide or found["tensor_core"] == ("HGMMA" if found["capability"] == 90 else "HMMA")
    return found["spilled_bytes"] == 0 and found["shared_bytes"] <= SHARED[found["capability"]] and has_core


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kernels", nargs="+", default=list(table()))
    parser.add_argument("--widths", nargs="+", type=int, default=[16, 32, 64, 128, 256])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--result", type=Path, default=RESULT)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(options.processes) as pool:
        for found in pool.map(compile_one, jobs(options.kernels, options.widths)):
            rows.append(found)
            told = (
                f"{found['registers']} registers, {found['spilled_bytes']} B spilled, {found['shared_bytes']} B shared"
            )
            print(f"{found['kernel']:8} {found['entry']:20} {found['dtype']:9} sm_{found['capability']} {told}"
                  f"{'' if found['meets_bar'] else '  MISSED'}", flush=True)  # fmt: skip
            result = {"torch": torch.__version__, "triton": version("triton"), "entries": rows}
            options.result.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    missed = sum(not row["meets_bar"] for row in rows)
    print(f"{len(rows)} compiled, {missed} miss the bar; written: {options.result.name}")


if __name__ == "__main__":
    main()
