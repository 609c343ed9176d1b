"""From what a caller gives to `Terms`: every shape and dtype is checked here, and nothing after it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from medpipe.kernels.sigmoid_attention.terms import UNLIMITED, Terms

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Sequences(NamedTuple):
    key_lengths: Tensor | None = None
    query_lengths: Tensor | None = None
    cu_seqlens: Tensor | None = None
    cu_seqlens_k: Tensor | None = None


class Additions(NamedTuple):
    bias: float | Tensor | None = None
    additive_bias: Tensor | None = None
    axis_tables: Sequence[Tensor] | None = None
    alibi_slopes: Tensor | None = None


class Visible(NamedTuple):
    is_causal: bool = False
    attn_mask: Tensor | None = None
    regions: Tensor | tuple[Tensor, Tensor] | None = None
    window: tuple[int, int] | None = None


def under_autocast(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The operands in autocast's dtype where it is on; float64 stays, as in torch's products."""
    device = q.device.type
    if not torch.is_autocast_enabled(device):
        return q, k, v
    dtype = torch.get_autocast_dtype(device)
    is_wide = torch.float64 in (q.dtype, k.dtype, v.dtype)
    return (q, k, v) if is_wide else (q.to(dtype), k.to(dtype), v.to(dtype))


def check_operands(q: Tensor, k: Tensor, v: Tensor) -> None:
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
    if not q.ndim == k.ndim == v.ndim == 4:
        raise ValueError(f"{shapes}: each must have four axes (batch, heads, tokens, width)")
    if not (q.dtype == k.dtype == v.dtype and q.dtype in DTYPES):
        raise ValueError(
            f"q, k, v are {q.dtype}, {k.dtype}, {v.dtype}: they must be of one floating dtype; "
            "cast q and k to that of v, or run under torch.autocast"
        )
    if not q.device == k.device == v.device:
        raise ValueError(f"q, k, v lie on {q.device}, {k.device}, {v.device}: one device is needed")
    if not q.shape[0] == k.shape[0] == v.shape[0]:
        raise ValueError(f"{shapes}: the batches (first axis) differ")
    if k.shape[1:3] != v.shape[1:3]:
        raise ValueError(f"{shapes}: k and v must have the same heads and the same number of keys")
    if q.shape[3] != k.shape[3] or q.shape[3] == 0:
        raise ValueError(f"{shapes}: q and k must have the same width (last axis), at least 1")
    if k.shape[1] == 0 or q.shape[1] == 0 or q.shape[1] % k.shape[1]:
        raise ValueError(f"{shapes}: the heads of q must be a whole multiple of those of k and v")


def without_padded_keys(
    k: Tensor, v: Tensor, bias: float | Tensor | None, attn_mask: Tensor
) -> tuple[Tensor, Tensor, float | Tensor | None]:
    """Keys that no query sees made zero, since zero times NaN is NaN; the default bias counts the others."""
    check_broadcast("attn_mask", attn_mask, (k.shape[0], 1, 1, k.shape[2]))
    hidden = ~attn_mask.bool().transpose(2, 3)
    if hidden.shape[0] not in (1, k.shape[0]):
        hidden = hidden.repeat(k.shape[0] // hidden.shape[0], 1, 1, 1)
    if bias is None:
        count = attn_mask.expand(-1, -1, -1, k.shape[2]).sum(dim=(1, 2, 3)).clamp(min=1)
        bias = -count.float().log().repeat(k.shape[0] // max(count.shape[0], 1))[:, None]
    return k.masked_fill(hidden, 0), v.masked_fill(hidden, 0), bias


def make_terms(
    q: Tensor, k: Tensor, scale: float, sequences: Sequences, additions: Additions, visible: Visible
) -> Terms:
    batch, heads, num_queries, num_keys = q.shape[0], q.shape[1], q.shape[2], k.shape[2]
    cu_seqlens_q, cu_seqlens_k = _packed(q, sequences)
    rows = batch if cu_seqlens_q is None else cu_seqlens_q.shape[0] - 1
    # What is packed has lengths of its own, known on the device alone: those axes are checked where they are read.
    full = (rows, heads, num_queries, num_keys) if cu_seqlens_q is None else (rows, heads, None, None)
    bias, bias_value = _bias(q, additions.bias, rows, heads)
    axis_tables, axis_sizes = _axis_tables(additions.axis_tables, batch, heads, num_queries, num_keys)
    if axis_tables is not None and cu_seqlens_q is not None:
        raise ValueError("axis_tables need one grid of keys a batch: they do not go with cu_seqlens")
    if additions.additive_bias is not None:
        check_broadcast("additive_bias", additions.additive_bias, full)
        if not additions.additive_bias.is_floating_point():
            raise ValueError(f"additive_bias is {additions.additive_bias.dtype}: boolean masks go to attn_mask")
    if visible.attn_mask is not None:
        check_broadcast("attn_mask", visible.attn_mask, full)
        if visible.attn_mask.dtype != torch.bool:
            raise ValueError(f"attn_mask is {visible.attn_mask.dtype}: bool is needed; numbers go to additive_bias")
    q_regions, k_regions = _regions(visible.regions, full)
    window_left, window_right = _window(visible)
    return Terms(
        scale, bias, bias_value, additions.additive_bias, axis_tables, axis_sizes, visible.attn_mask,
        _lengths("key_lengths", sequences.key_lengths, q), _lengths("query_lengths", sequences.query_lengths, q),
        cu_seqlens_q, cu_seqlens_k, q_regions, k_regions, _slopes(additions.alibi_slopes, rows, heads),
        window_left, window_right,
    )  # fmt: skip


def check_broadcast(name: str, tensor: Tensor, full: tuple[int | None, ...]) -> None:
    """Each axis 1 or whole; the first may also divide the batch. None stands for what cannot be known yet."""
    axes = ("batch", "heads", "queries", "keys")
    if tensor.ndim != 4:
        raise ValueError(
            f"{name} has shape {tuple(tensor.shape)}: four axes ({', '.join(axes)}) are needed, 1 where alike"
        )
    rows, batch = tensor.shape[0], full[0]
    assert batch is not None
    fits = rows > 0 and batch % rows == 0
    fits = fits and all(
        whole is None or size in (1, whole) for size, whole in zip(tensor.shape[1:], full[1:], strict=True)
    )
    if not fits and batch > 0:
        wanted = ", ".join(
            f"{axis} {'' if whole is None else whole}".strip() for axis, whole in zip(axes, full, strict=True)
        )
        raise ValueError(f"{name} {tuple(tensor.shape)} does not broadcast to ({wanted})")


def _packed(q: Tensor, sequences: Sequences) -> tuple[Tensor | None, Tensor | None]:
    cu_seqlens, cu_seqlens_k = sequences.cu_seqlens, sequences.cu_seqlens_k
    if cu_seqlens is None:
        if cu_seqlens_k is not None:
            raise ValueError("cu_seqlens_k is given without cu_seqlens")
        return None, None
    cu_seqlens_k = cu_seqlens if cu_seqlens_k is None else cu_seqlens_k
    if sequences.key_lengths is not None or sequences.query_lengths is not None:
        raise ValueError("cu_seqlens and key_lengths or query_lengths say the same twice: give one of them")
    if q.shape[0] != 1:
        raise ValueError(f"cu_seqlens need a batch of one that holds all sequences, q has {q.shape[0]}")
    for name, ends in (("cu_seqlens", cu_seqlens), ("cu_seqlens_k", cu_seqlens_k)):
        if ends.ndim != 1 or ends.shape[0] < 2 or ends.dtype not in (torch.int32, torch.int64):
            raise ValueError(f"{name} is {ends.dtype} {tuple(ends.shape)}: integers (sequences + 1,) are needed")
    if cu_seqlens.shape != cu_seqlens_k.shape:
        raise ValueError(f"cu_seqlens has {cu_seqlens.shape[0]} entries, cu_seqlens_k {cu_seqlens_k.shape[0]}")
    return cu_seqlens, cu_seqlens_k


def _lengths(name: str, lengths: Tensor | None, q: Tensor) -> Tensor | None:
    if lengths is None:
        return None
    if lengths.shape != (q.shape[0],) or lengths.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"{name} is {lengths.dtype} {tuple(lengths.shape)}: integers ({q.shape[0]},) are needed")
    return lengths


def _bias(q: Tensor, bias: float | Tensor | None, rows: int, heads: int) -> tuple[Tensor | None, float | None]:
    """The bias as a tensor (rows or 1, heads or 1) in the dtype of the scores, or as a number; both None by default."""
    if not isinstance(bias, Tensor):
        return None, None if bias is None else float(bias)
    shape = (1,) * (2 - bias.ndim) + tuple(bias.shape)
    if len(shape) != 2 or shape[0] not in (1, rows) or shape[1] not in (1, heads):
        raise ValueError(
            f"bias {tuple(bias.shape)} does not broadcast to (batch {rows}, heads {heads}); one a sequence is (B, 1)"
        )
    # 16 bits would round -log(24^3) = -9.534 to -9.5625 and every weight by 2.8 %.
    return bias.reshape(shape).to(torch.float64 if q.dtype == torch.float64 else torch.float32), None


def _axis_tables(
    tables: Sequence[Tensor] | None, batch: int, heads: int, num_queries: int, num_keys: int
) -> tuple[Tensor | None, tuple[int, ...]]:
    if tables is None:
        return None, ()
    sizes, product = tuple(table.shape[-1] for table in tables), 1
    for size in sizes:
        product *= size
    if product != num_keys or not sizes:
        raise ValueError(
            f"axis_tables of sizes {sizes} make a grid of {product if sizes else 0} keys, k has {num_keys}"
        )
    for table in tables:
        check_broadcast("axis_tables", table, (batch, heads, num_queries, table.shape[-1]))
        if table.shape[0] not in (1, batch) or table.shape[2] != num_queries or not table.is_floating_point():
            raise ValueError(
                f"axis_tables: {table.dtype} {tuple(table.shape)} is no floating (batch {batch} or 1, heads {heads} or "
                f"1, queries {num_queries}, size)"
            )
    return torch.cat([table.expand(batch, heads, -1, -1) for table in tables], dim=-1), sizes


def _regions(
    regions: Tensor | tuple[Tensor, Tensor] | None, full: tuple[int | None, ...]
) -> tuple[Tensor | None, Tensor | None]:
    if regions is None:
        return None, None
    pair = (regions, regions) if isinstance(regions, Tensor) else regions
    found = []
    for name, ids, length in zip(("queries", "keys"), pair, full[2:], strict=True):
        ids = ids[None] if ids.ndim == 1 else ids
        if ids.is_floating_point() or ids.ndim != 2 or (length is not None and ids.shape[1] != length):
            raise ValueError(f"regions of {name}: {ids.dtype} {tuple(ids.shape)} are no integers (rows, {length})")
        check_broadcast(f"regions of {name}", ids[:, None, :, None], (full[0], 1, None, 1))
        found.append(ids)
    return found[0], found[1]


def _slopes(slopes: Tensor | None, rows: int, heads: int) -> Tensor | None:
    if slopes is None:
        return None
    if slopes.requires_grad:
        raise ValueError("alibi_slopes are not trained here; give the distances as a trainable additive_bias instead")
    shaped = slopes[None] if slopes.ndim == 1 else slopes
    if shaped.ndim != 2 or shaped.shape[0] not in (1, rows) or shaped.shape[1] != heads:
        raise ValueError(
            f"alibi_slopes {tuple(slopes.shape)} must be (heads {heads},) or (batch {rows}, heads {heads})"
        )
    return shaped


def _window(visible: Visible) -> tuple[int, int]:
    left, right = visible.window or (UNLIMITED, UNLIMITED)
    if left < UNLIMITED or right < UNLIMITED:
        raise ValueError(f"window {(left, right)}: keys before and after a query's place, -1 for no limit")
    if visible.is_causal:
        right = 0  # whatever stands to the right, the future is not seen
    return left, right
