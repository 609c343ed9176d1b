"""What the launches of the Triton kernels have in common: strides, switches, tile sizes, number of splits."""

import json
import math
import os
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import torch
from torch import Tensor

from medpipe.kernels.sigmoid_attention.terms import UNLIMITED, Terms, spans

WIDEST = 256  # of q, k and v, with the columns of axis tables
OLDEST = (8, 0)  # compute capability that the kernels are compiled for
LENGTHS = {"tiny": 256, "short": 512, "middle": 2048, "long": 4096}  # keys at most, of the table's classes
DEGREES = {"tanh": 1, "packed": 2}  # in place of a degree: forms of `triton_scores` for bf16 in the forward pass
NUM_PROCESSORS = 132  # of an H100; asked of the device where there is one


class Configuration(NamedTuple):
    """Tile of queries, tile of keys, warps and pipeline stages of one kernel, how it reads memory and finds weights.

    reads: 'pointers' takes every call; 'descriptors' goes through the copy engine of Hopper and later. (A warp for the
    copies alone, Triton's warp_specialize, was 3 % faster for heads of 128, but in triton 3.6 wrong on an H100, not
    finite, where a tile of 128 rows is divided among two groups of warps.)
    weights, of bf16 in the forward pass: 'packed' is `triton_scores.packed_sigmoid`; 'tanh' has an absolute error of
    4e-6, which under the default bias of at most 512 keys is less than the rounding of bf16, and is used there alone.
    """

    queries: int
    keys: int
    warps: int
    stages: int
    reads: str = "pointers"
    weights: str = "polynomial"


def interprets() -> bool:
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


@cache
def table() -> dict[str, dict[str, list[Any]]]:
    """The shipped table: kernel, then `<width>/<bytes of the dtype>`, and more after that (see `keys_of_table`)."""
    return json.loads((files("medpipe.kernels.sigmoid_attention") / "configurations.json").read_text())


def keys_of_table(width: int, itemsize: int, num_keys: int, kind: str) -> list[str]:
    """Names under which a configuration may stand, the most special first. kind: full, causal or tiles."""
    plain = f"{block(width)}/{itemsize}"
    length = next((name for name, most in LENGTHS.items() if num_keys <= most), "huge")
    return [f"{plain}/{length}/{kind}", plain]


def configuration(kernel: str, q: Tensor, k: Tensor, v: Tensor, terms: Terms) -> Configuration:
    """The most special entry of the table that fits a call on tensors of these shapes, strides and addresses.

    kind 'tiles': an additive bias or a mask is read. Where no entry says so, the tiles of 32 bits stand in the forward
    pipeline beside those of k and v: three stages of 128 by 128 would need 230 kB, more than the shared memory of an
    A100 (163 kB), and spill.
    """
    has_tiles = terms.additive_bias is not None or terms.attn_mask is not None
    kind = "tiles" if has_tiles else "causal" if terms.has_band else "full"
    names = keys_of_table(max(q.shape[3], v.shape[3]), q.dtype.itemsize, k.shape[2], kind)
    rows = table()[kernel]
    special, plain = rows.get(names[0]), Configuration(*rows[names[1]])
    found = plain
    if special is not None and is_hopper(q.device):  # tuned there, and some would spill on an A100
        tuned = Configuration(*special)
        found = tuned if tuned.reads == "pointers" or has_descriptors(q, k, v) else plain
    is_default = terms.bias is None and terms.bias_value is None and terms.additive_bias is None
    if found.weights != "polynomial" and (not is_hopper(q.device) or (found.weights == "tanh" and not is_default)):
        found = found._replace(weights="polynomial")
    if kernel == "forward" and has_tiles and found is plain:
        return found._replace(queries=min(found.queries, 64), keys=min(found.keys, 64), stages=min(found.stages, 2))
    return found


def has_descriptors(*tensors: Tensor) -> bool:
    """Whether the copy engine can read these: rows without gaps, addresses and strides of whole 16 bytes."""
    if not is_hopper(tensors[0].device):
        return False
    return all(
        x.stride(3) == 1
        and x.data_ptr() % 16 == 0
        and x.stride(2) >= x.shape[3]
        and all(stride * x.itemsize % 16 == 0 for stride in x.stride()[:3])
        for x in tensors
    )


@cache
def is_hopper(device: torch.device) -> bool:
    """Whether tensors on this device are read by a GPU of compute capability 9.0 or later; 'meta' stands for one."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (9, 0)
    return device.type == "meta"


def tile_arguments(kernel: str, config: Configuration, dtype: torch.dtype) -> dict[str, Any]:
    """What a configuration is to a launch."""
    is_faster = config.weights in DEGREES and dtype == torch.bfloat16
    return {
        "BLOCK_N": config.queries, "BLOCK_M": config.keys, "DESCRIPTORS": config.reads != "pointers",
        "DEGREE": DEGREES[config.weights] if is_faster else degree(kernel, dtype),
        "num_warps": config.warps, "num_stages": config.stages,
    }  # fmt: skip


def block(width: int) -> int:
    """Channels that a tile holds: a power of two, 16 at least."""
    return max(16, 1 << (width - 1).bit_length())


def degree(kernel: str, dtype: torch.dtype) -> int:
    """Of the polynomial; 0 is the quotient. Its error lies below half the last place of the dtype, or 0.7 of it (3).

    In the gradients the error counts twice, and products take so much longer that a degree more costs nothing.
    """
    if dtype == torch.bfloat16:
        return 3 if kernel == "forward" else 4
    return 5 if dtype == torch.float16 else 0


def refusal(q: Tensor, v: Tensor, terms: Terms) -> str | None:
    """What of a call the kernels do not take, or None."""
    if q.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return str(q.dtype)
    if terms.axis_tables is not None and max(q.shape[3] + sum(terms.axis_sizes), v.shape[3]) > WIDEST:
        return f"heads that are wider than {WIDEST} with their axis_tables"
    if max(q.shape[3], v.shape[3]) > WIDEST:
        return f"heads wider than {WIDEST}"
    if terms.is_packed and any(x is not None for x in (terms.additive_bias, terms.attn_mask, terms.q_regions)):
        return "cu_seqlens together with additive_bias, attn_mask or regions"
    return None


def check_lengths(q: Tensor, k: Tensor, terms: Terms) -> None:
    """No length beyond what is stored. On the device it is asserted there, as of an index: reading it would wait."""
    given = [terms.key_lengths, terms.query_lengths, terms.cu_seqlens_q, terms.cu_seqlens_k]
    if all(lengths is None for lengths in given):
        return
    if all(lengths is None or lengths.device.type == "cpu" for lengths in given):
        for _ in spans(terms, q.shape[0], q.shape[2], k.shape[2]):  # raises ValueError
            pass
        return
    for lengths, most in zip(given[:2], (k.shape[2], q.shape[2]), strict=True):
        if lengths is not None:
            fits = ((lengths >= 0) & (lengths <= most)).all()
            torch.ops.aten._assert_async.msg(
                fits, f"key_lengths or query_lengths: not between 0 and the {most} rows stored"
            )
    for ends, most in zip(given[2:], (q.shape[2], k.shape[2]), strict=True):
        if ends is not None:
            fits = (ends[0] == 0) & (ends[-1] == most) & (ends.diff() >= 0).all()
            torch.ops.aten._assert_async.msg(fits, f"cu_seqlens: not from 0 to the {most} rows stored, never falling")


def strides(prefix: str, axes: str, tensor: Tensor) -> dict[str, int]:
    return {f"{prefix}_{axis}": stride for axis, stride in zip(axes, tensor.stride(), strict=True)}


def broadcast_strides(prefix: str, axes: str, tensor: Tensor | None) -> dict[str, int]:
    """Strides, 0 along axes of one entry."""
    if tensor is None:
        return {f"{prefix}_{axis}": 0 for axis in axes}
    pairs = zip(axes, tensor.stride(), tensor.shape, strict=True)
    return {f"{prefix}_{axis}": 0 if size == 1 else stride for axis, stride, size in pairs}


def num_sequences(q: Tensor, terms: Terms) -> int:
    return q.shape[0] if terms.cu_seqlens_q is None else terms.cu_seqlens_q.shape[0] - 1


def term_arguments(q: Tensor, k: Tensor, v: Tensor, terms: Terms) -> dict[str, Any]:
    """The arguments that every kernel takes."""
    mask = None if terms.attn_mask is None else terms.attn_mask.view(torch.uint8)
    bias = None if terms.bias is None else terms.bias.float()
    slopes = None if terms.alibi_slopes is None else terms.alibi_slopes.float().contiguous()
    q_regions, k_regions = (
        None if regions is None else regions.contiguous() for regions in (terms.q_regions, terms.k_regions)
    )
    return {
        "Q": q, "K": k, "V": v, "BIAS": bias, "ADDITIVE": terms.additive_bias, "MASK": mask,
        "Q_LENGTHS": _on(q, terms.query_lengths), "K_LENGTHS": _on(q, terms.key_lengths),
        "Q_ENDS": _on(q, terms.cu_seqlens_q), "K_ENDS": _on(q, terms.cu_seqlens_k),
        "Q_REGIONS": q_regions, "K_REGIONS": k_regions, "SLOPES": slopes,
        **strides("q", "bhnd", q), **strides("k", "bhmd", k), **strides("v", "bhmd", v),
        **broadcast_strides("bias", "sh", bias), **broadcast_strides("add", "rhnm", terms.additive_bias),
        **broadcast_strides("mask", "rhnm", mask),
        "qr_r": 0 if q_regions is None else q_regions.stride(0), "qr_rows": _rows(q_regions),
        "kr_r": 0 if k_regions is None else k_regions.stride(0), "kr_rows": _rows(k_regions),
        "slope_s": 0 if slopes is None or slopes.shape[0] == 1 else slopes.stride(0),
        "add_rows": _rows(terms.additive_bias), "mask_rows": _rows(mask),
        "H": q.shape[1], "N": q.shape[2], "M": k.shape[2], "scale": float(terms.scale),
        "bias_value": float(terms.bias_value or 0.0), "left": terms.window_left, "right": terms.window_right,
        "GROUP": q.shape[1] // k.shape[1], "D": q.shape[3], "DV": v.shape[3],
        "BLOCK_D": block(q.shape[3]), "BLOCK_DV": block(v.shape[3]),
        "PACKED": terms.is_packed, "HAS_QL": terms.query_lengths is not None, "HAS_KL": terms.key_lengths is not None,
        "HAS_BIAS": bias is not None, "DEFAULT_BIAS": bias is None and terms.bias_value is None,
        "HAS_ADDITIVE": terms.additive_bias is not None, "HAS_MASK": mask is not None,
        "HAS_REGIONS": q_regions is not None, "HAS_ALIBI": slopes is not None,
        "BAND": (terms.window_left != UNLIMITED) + 2 * (terms.window_right != UNLIMITED),
        "SCALE_16": q.dtype == torch.float16,
        "PRECISION": "ieee", "INTERPRET": interprets(),
    }  # fmt: skip


@cache
def num_processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else NUM_PROCESSORS


def num_splits(programs: int, keys: int, keys_of_tile: int, device: torch.device) -> int:
    """Parts of the keys, so that the device is filled: sums need no weights, so parts are added up as they are."""
    processors = num_processors(device)
    if programs == 0 or programs >= processors:
        return 1
    return max(1, min(processors // programs, math.ceil(keys / keys_of_tile) // 2, 16))


def num_splits_of_sums(programs: int, turns: int, total: Tensor) -> int:
    """Parts of a sum over many heads and sequences, each in float32 beside the total: four blocks a processor, and at
    most 64 MiB."""
    processors = num_processors(total.device)
    fitting = max(1, 2**24 // max(1, total.numel()))
    return max(1, min(4 * processors // max(1, programs), turns, fitting))


def may_leave_rows(terms: Terms) -> bool:
    """Whether some rows of the output or of a gradient are reached by no program, so that they must start at zero."""
    return terms.is_packed or terms.query_lengths is not None or terms.key_lengths is not None


def _on(q: Tensor, lengths: Tensor | None) -> Tensor | None:
    return None if lengths is None else lengths.to(q.device, torch.int32).contiguous()


def _rows(tensor: Tensor | None) -> int:
    return 1 if tensor is None else tensor.shape[0]
