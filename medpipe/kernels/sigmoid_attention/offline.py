"""Compile the kernels for a GPU that is not there: do they compile, do they spill, what instructions do they use?"""

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from medpipe.kernels.sigmoid_attention import triton_launch as launch
from medpipe.kernels.sigmoid_attention.terms import Terms
from medpipe.kernels.sigmoid_attention.triton_backward import additive_kernel, keys_kernel, queries_kernel
from medpipe.kernels.sigmoid_attention.triton_forward import forward_kernel

KERNELS = {
    "forward": forward_kernel,
    "queries": queries_kernel,
    "keys": keys_kernel,
    "additive": additive_kernel,
}
POINTERS = {
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.uint8: "*u8",
    torch.int64: "*i64",
}


@final
@dataclass(frozen=True)
class Compiled:
    """What became of a kernel. Counts are of instructions in the machine code, not of executions."""

    kernel: str
    capability: int
    width: int
    dtype: str
    registers: int  # a thread
    spilled_bytes: int  # a thread
    shared_bytes: int  # a block
    special_functions: int  # MUFU
    scores_per_thread: float  # of one tile
    tensor_core: str  # HGMMA, HMMA or nothing


def compile_kernel(
    kernel: str,
    width: int,
    dtype: torch.dtype,
    *,
    capability: int = 90,
    terms: Terms | None = None,
    config: launch.Configuration | None = None,
) -> Compiled:
    """Compile a kernel as shipped for heads of `width`, for compute capability 8.0 (80), 9.0 (90), and so on.

    terms: tensors on the meta device, of 2 batches, 4 heads, 512 queries and keys.
    """
    terms = terms or Terms(0.1)
    arguments = _arguments(kernel, width, dtype, terms)
    if config is None:
        config = launch.configuration(kernel, arguments["Q"], arguments["K"], arguments["V"], terms)
    arguments |= launch.tile_arguments(kernel, config, dtype)
    del arguments["num_warps"], arguments["num_stages"]
    function = KERNELS[kernel]
    constants = {name: value for name, value in arguments.items() if name.isupper() and not _is_pointer(name, value)}
    constants |= {name: None for name, value in arguments.items() if value is None}
    constants |= {name: value for name, value in arguments.items() if name.endswith("_d") and value == 1}
    for name in ("H", "N", "M", "B"):
        constants.pop(name, None)
    signature = {name: "constexpr" if name in constants else _type(arguments[name]) for name in function.arg_names}
    compiled = triton.compile(
        ASTSource(
            function, signature, constexprs=constants, attrs=_alignment(function.arg_names, arguments, constants)
        ),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": config.warps, "num_stages": config.stages},
    )
    code, usage = _disassemble(compiled.asm["cubin"])
    registers, stack = (int(re.search(rf"{word}:(\d+)", usage)[1]) for word in ("REG", "STACK"))  # type: ignore[index]
    return Compiled(
        kernel=kernel, capability=capability, width=width, dtype=str(dtype).removeprefix("torch."),
        registers=registers, spilled_bytes=stack, shared_bytes=compiled.metadata.shared,
        special_functions=len(re.findall(r"\bMUFU\.", code)),
        scores_per_thread=config.queries * config.keys / (32 * config.warps),
        tensor_core=next((name for name in ("HGMMA", "HMMA") if name in code), ""),
    )  # fmt: skip


def _arguments(kernel: str, width: int, dtype: torch.dtype, terms: Terms) -> dict[str, Any]:
    """The arguments of a call on tensors without data."""
    q, k, v, out = (torch.empty(2, 512, 4, width, dtype=dtype, device="meta").transpose(1, 2) for _ in range(4))
    if kernel == "additive" and terms.additive_bias is None:
        terms = replace(terms, additive_bias=torch.empty(1, 4, 512, 512, dtype=dtype, device="meta"))
    arguments = launch.term_arguments(q, k, v, terms) | {"INTERPRET": False}
    partial = torch.empty(1, device="meta")
    if kernel == "forward":
        return arguments | {"OUT": out, "q_tiles": 4, "splits": 1, "o_split": 0} | launch.strides("o", "bhnd", out)
    arguments |= {"GRAD_OUT": out} | launch.strides("g", "bhnd", out)
    if kernel == "queries":
        return (
            arguments
            | {"GRAD_Q": out, "GRAD_BIAS": partial, "q_tiles": 4, "WANT_BIAS": False}
            | launch.strides("dq", "bhnd", out)
        )
    if kernel == "keys":
        arguments |= {"GRAD_K": out, "GRAD_V": out, "k_tiles": 4}
        return arguments | launch.strides("dk", "bhmd", out) | launch.strides("dv", "bhmd", out)
    assert terms.additive_bias is not None
    arguments |= {"OVER_HEADS": False, "OVER_ROWS": False, "OVER_COLUMNS": False, "B": 2, "q_tiles": 4, "k_tiles": 4}
    arguments |= {"splits": 1, "split_turns": 2, "da_s": 0}
    return arguments | {"GRAD_ADDITIVE": partial} | launch.strides("da", "rhnm", terms.additive_bias)


def _is_pointer(name: str, value: object) -> bool:
    return isinstance(value, torch.Tensor)


def _type(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return POINTERS.get(value.dtype, "*i32")
    return "fp32" if isinstance(value, float) else "i32"


def _alignment(names: list[str], arguments: dict[str, Any], constants: dict[str, Any]) -> dict[tuple[int], Any]:
    """What the launcher finds out at run time: addresses and strides that divide by 16."""
    return {
        (place,): [["tt.divisibility", 16]]
        for place, name in enumerate(names)
        if name not in constants
        and (
            isinstance(arguments[name], torch.Tensor)
            or (isinstance(arguments[name], int) and arguments[name] % 16 == 0)
        )
    }


def _disassemble(cubin: bytes) -> tuple[str, str]:
    """The machine code as text, and what it uses."""
    folder = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    tool = shutil.which("cuobjdump", path=str(folder)) or shutil.which("cuobjdump")
    if tool is None:
        raise FileNotFoundError(f"no cuobjdump in {folder} nor on the path: install triton's wheel or the CUDA toolkit")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        run = [subprocess.run([tool, what, file.name], capture_output=True, text=True, check=True).stdout
               for what in ("-sass", "--dump-resource-usage")]  # fmt: skip
    return run[0], run[1]
