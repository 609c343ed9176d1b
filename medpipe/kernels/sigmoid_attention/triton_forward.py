"""The forward kernel: one program a tile of queries, no row statistics, keys that are out of sight never read."""

# What stands in a kernel is Triton's language and not Python, and its launches take further options.
# pyright: reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false, reportIndexIssue=false
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false

import triton
import triton.language as tl

from medpipe.kernels.sigmoid_attention.triton_scores import (
    base_bias,
    dot,
    finish_scores,
    load_tile,
    packed_sigmoid,
    rows_of,
    sequence_place,
    sigmoid,
    unit,
)


@triton.jit
def forward_kernel(
    Q, K, V, OUT, BIAS, ADDITIVE, MASK, Q_LENGTHS, K_LENGTHS, Q_ENDS, K_ENDS, Q_REGIONS, K_REGIONS, SLOPES,
    q_b, q_h, q_n, q_d, k_b, k_h, k_m, k_d, v_b, v_h, v_m, v_d, o_b, o_h, o_n, o_d,
    bias_s, bias_h, add_r, add_h, add_n, add_m, mask_r, mask_h, mask_n, mask_m, qr_r, kr_r, slope_s,
    add_rows, mask_rows, qr_rows, kr_rows, H, N, M, q_tiles, splits, o_split, scale, bias_value, left, right,
    GROUP: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr, PACKED: tl.constexpr, HAS_QL: tl.constexpr, HAS_KL: tl.constexpr,
    HAS_BIAS: tl.constexpr, DEFAULT_BIAS: tl.constexpr, HAS_ADDITIVE: tl.constexpr, HAS_MASK: tl.constexpr,
    HAS_REGIONS: tl.constexpr, HAS_ALIBI: tl.constexpr, BAND: tl.constexpr,
    DEGREE: tl.constexpr, SCALE_16: tl.constexpr, PRECISION: tl.constexpr, INTERPRET: tl.constexpr,
    DESCRIPTORS: tl.constexpr,
):  # fmt: skip
    """OUT[b, h, i] = sum_j sigmoid(score_ij) V[b, h, j]; split s of the keys goes to OUT + s * o_split."""
    program = tl.program_id(0)
    tile = program % q_tiles
    if BAND:
        tile = q_tiles - 1 - tile  # under a causal mask the last have most keys: long programs start first
    split = (program // q_tiles) % splits
    head = (program // q_tiles // splits) % H
    sequence = program // q_tiles // splits // H
    batch, q_start, num_q, k_start, num_k = sequence_place(
        sequence, Q_LENGTHS, K_LENGTHS, Q_ENDS, K_ENDS, N, M, PACKED, HAS_QL, HAS_KL
    )
    if tile * BLOCK_N >= num_q:
        return
    rows = tile * BLOCK_N + tl.arange(0, BLOCK_N)
    at_dv = tl.arange(0, BLOCK_DV)
    wide_head, key_head = head.to(tl.int64), (head // GROUP).to(tl.int64)
    Q += batch * q_b + wide_head * q_h + q_start * q_n
    K += batch * k_b + key_head * k_h + k_start * k_m
    V += batch * v_b + key_head * v_h + k_start * v_m
    queries = rows_of(Q, num_q, q_n, D, BLOCK_N, BLOCK_D, DESCRIPTORS)
    keys = rows_of(K, num_k, k_m, D, BLOCK_M, BLOCK_D, DESCRIPTORS)
    values = rows_of(V, num_k, v_m, DV, BLOCK_M, BLOCK_DV, DESCRIPTORS)
    q = load_tile(queries, tile * BLOCK_N, num_q, q_n, q_d, D, BLOCK_N, BLOCK_D, DESCRIPTORS)
    bias = base_bias(BIAS, bias_value, sequence, head, num_k, bias_s, bias_h, HAS_BIAS, DEFAULT_BIAS, DEGREE)
    slope, q_region = 0.0, rows
    if HAS_ALIBI:
        slope = tl.load(SLOPES + sequence * slope_s + head)
    if HAS_ADDITIVE:
        ADDITIVE += (sequence % add_rows).to(tl.int64) * add_r + head.to(tl.int64) * add_h
    if HAS_MASK:
        MASK += (sequence % mask_rows).to(tl.int64) * mask_r + head.to(tl.int64) * mask_h
    if HAS_REGIONS:
        q_region = tl.load(Q_REGIONS + (sequence % qr_rows) * qr_r + rows, mask=rows < num_q, other=0)
    factor = scale * unit(DEGREE)

    first, last = 0, num_k
    if BAND:
        place = tile * BLOCK_N + num_k - num_q  # of the first query among the keys
        first = tl.where(left < 0, 0, tl.maximum(place - left, 0))
        last = tl.where(right < 0, num_k, tl.minimum(num_k, place + BLOCK_N + right))
        last = tl.maximum(last, 0)
    per_split = tl.cdiv(tl.cdiv(last - first // BLOCK_M * BLOCK_M, BLOCK_M), splits) * BLOCK_M
    first = first // BLOCK_M * BLOCK_M + split * per_split
    last = tl.minimum(last, first + per_split)
    # One loop where all keys are seen; with a band, first tiles that all see (phase 0), then those to be masked (1).
    whole = last
    if BAND:
        sure = tl.where(right < 0, last, tl.minimum(last, tile * BLOCK_N + num_k - num_q + right + 1))
        whole = tl.maximum(tl.where(left < 0, tl.maximum(sure, 0) // BLOCK_M * BLOCK_M, first), first)
    out = tl.zeros([BLOCK_N, BLOCK_DV], dtype=tl.float32)
    for phase in tl.static_range(2 if BAND else 1):
        start = first if phase == 0 else whole
        stop = whole if phase == 0 else last
        for at in tl.range(start, stop, BLOCK_M):
            cols = at + tl.arange(0, BLOCK_M)
            k = load_tile(keys, at, num_k, k_m, k_d, D, BLOCK_M, BLOCK_D, DESCRIPTORS)
            k_region = cols
            if HAS_REGIONS:
                k_region = tl.load(K_REGIONS + (sequence % kr_rows) * kr_r + cols, mask=cols < num_k, other=0)
            t = dot(q, tl.trans(k), INTERPRET, PRECISION) * factor + bias
            t = finish_scores(
                t, rows[:, None], cols[None, :], num_q, num_k, slope, ADDITIVE, add_n, add_m, MASK, mask_n, mask_m,
                q_region[:, None], k_region[None, :], left, right, BAND * phase, HAS_ADDITIVE, HAS_MASK, HAS_REGIONS,
                HAS_ALIBI, DEGREE,
            )  # fmt: skip
            v = load_tile(values, at, num_k, v_m, v_d, DV, BLOCK_M, BLOCK_DV, DESCRIPTORS)
            if DEGREE == 2:
                out += dot(packed_sigmoid(t), v, INTERPRET, PRECISION)
            else:
                p, _ = sigmoid(t, DEGREE, INTERPRET)
                if SCALE_16:  # of fp16 alone: weights below 6e-5 would be subnormal
                    p *= 1024.0
                out += dot(p.to(v.dtype), v, INTERPRET, PRECISION)
    if SCALE_16:
        out *= 1.0 / 1024.0
    tl.store(
        OUT + split.to(tl.int64) * o_split + batch * o_b + wide_head * o_h
        + (q_start + rows)[:, None] * o_n + at_dv[None, :] * o_d,
        out.to(OUT.dtype.element_ty),
        mask=(rows[:, None] < num_q) & (at_dv[None, :] < DV),
    )  # fmt: skip
