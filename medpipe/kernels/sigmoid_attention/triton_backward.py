"""The backward kernels: for queries, for keys and values, and for an additive bias. Each computes the scores again.

No atomic additions: every sum runs in a fixed order, so that a run can be repeated bit by bit. Nothing of the forward
pass is needed but its inputs (sigmoid's Jacobian is diagonal: arXiv:2409.04431, appendix).
"""

# What stands in a kernel is Triton's language and not Python, and its launches take further options.
# pyright: reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false, reportIndexIssue=false
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false

import triton
import triton.language as tl

from medpipe.kernels.sigmoid_attention.triton_scores import base_bias, dot, finish_scores, sequence_place, sigmoid


@triton.jit
def power_of_two_for(x):
    """A factor that brings the largest entry near 2^13: fp16 then neither overflows nor loses its small entries."""
    largest = tl.max(tl.max(tl.abs(x), 1), 0)
    exponent = 13.0 - tl.ceil(tl.log2(tl.maximum(largest, 1e-30)))
    return tl.where((largest > 0) & (largest < 1e30), tl.exp2(exponent), 1.0)


@triton.jit
def weights_and_slopes(
    q, k, rows, cols, sequence, head, num_q, num_k, BIAS, ADDITIVE, MASK, Q_REGIONS, K_REGIONS, SLOPES,
    bias_s, bias_h, add_r, add_h, add_n, add_m, mask_r, mask_h, mask_n, mask_m, qr_r, kr_r, slope_s,
    add_rows, mask_rows, qr_rows, kr_rows, scale, bias_value, left, right, HAS_BIAS: tl.constexpr,
    DEFAULT_BIAS: tl.constexpr, HAS_ADDITIVE: tl.constexpr, HAS_MASK: tl.constexpr, HAS_REGIONS: tl.constexpr,
    HAS_ALIBI: tl.constexpr, DEGREE: tl.constexpr, PRECISION: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """p and p (1 - p) of a tile (rows, cols), zero where a pair is not visible."""
    bias = base_bias(BIAS, bias_value, sequence, head, num_k, bias_s, bias_h, HAS_BIAS, DEFAULT_BIAS)
    slope, q_region, k_region = 0.0, rows, cols
    if HAS_ALIBI:
        slope = tl.load(SLOPES + sequence * slope_s + head)
    if HAS_ADDITIVE:
        ADDITIVE += (sequence % add_rows).to(tl.int64) * add_r + head.to(tl.int64) * add_h
    if HAS_MASK:
        MASK += (sequence % mask_rows).to(tl.int64) * mask_r + head.to(tl.int64) * mask_h
    if HAS_REGIONS:
        q_region = tl.load(Q_REGIONS + (sequence % qr_rows) * qr_r + rows, mask=rows < num_q, other=0)
        k_region = tl.load(K_REGIONS + (sequence % kr_rows) * kr_r + cols, mask=cols < num_k, other=0)
    t = dot(q, tl.trans(k), INTERPRET, PRECISION) * (scale * 1.4426950408889634) + bias
    t = finish_scores(
        t, rows, cols, num_q, num_k, slope, ADDITIVE, add_n, add_m, MASK, mask_n, mask_m, q_region, k_region,
        left, right, True, HAS_ADDITIVE, HAS_MASK, HAS_REGIONS, HAS_ALIBI,
    )  # fmt: skip
    return sigmoid(t, DEGREE)


@triton.jit
def load_rows(pointer, at, at_d, stride, stride_d, real, WIDTH: tl.constexpr):
    """Rows `at` of a matrix (rows, channels), zero where not `real`: whatever padding holds is not read."""
    places = at.to(tl.int64)[:, None] * stride + at_d[None, :] * stride_d
    return tl.load(pointer + places, mask=real[:, None] & (at_d[None, :] < WIDTH), other=0.0)


@triton.jit
def first_key(place, left, BLOCK_M: tl.constexpr):
    return tl.where(left < 0, 0, tl.maximum(place - left, 0)) // BLOCK_M * BLOCK_M


@triton.jit
def queries_kernel(
    Q, K, V, GRAD_OUT, GRAD_Q, GRAD_BIAS, BIAS, ADDITIVE, MASK, Q_LENGTHS, K_LENGTHS, Q_ENDS, K_ENDS, Q_REGIONS,
    K_REGIONS,
    SLOPES, q_b, q_h, q_n, q_d, k_b, k_h, k_m, k_d, v_b, v_h, v_m, v_d, g_b, g_h, g_n, g_d,
    bias_s, bias_h, add_r, add_h, add_n, add_m, mask_r, mask_h, mask_n, mask_m, qr_r, kr_r, slope_s,
    add_rows, mask_rows, qr_rows, kr_rows, H, N, M, q_tiles, dq_b, dq_h, dq_n, dq_d, scale, bias_value, left, right,
    GROUP: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr, PACKED: tl.constexpr, HAS_QL: tl.constexpr, HAS_KL: tl.constexpr,
    HAS_BIAS: tl.constexpr, DEFAULT_BIAS: tl.constexpr, HAS_ADDITIVE: tl.constexpr, HAS_MASK: tl.constexpr,
    HAS_REGIONS: tl.constexpr, HAS_ALIBI: tl.constexpr, HAS_BAND: tl.constexpr, DEGREE: tl.constexpr,
    SCALE_16: tl.constexpr, PRECISION: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """GRAD_Q, and the sums of the scores' gradients, GRAD_BIAS (sequences, H, q_tiles)."""
    program = tl.program_id(0)
    tile = program % q_tiles
    head = (program // q_tiles) % H
    sequence = program // q_tiles // H
    batch, q_start, num_q, k_start, num_k = sequence_place(
        sequence, Q_LENGTHS, K_LENGTHS, Q_ENDS, K_ENDS, N, M, PACKED, HAS_QL, HAS_KL
    )
    if tile * BLOCK_N >= num_q:
        return
    rows = tile * BLOCK_N + tl.arange(0, BLOCK_N)
    at_d, at_dv = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_DV)
    wide_head, key_head = head.to(tl.int64), (head // GROUP).to(tl.int64)
    q = load_rows(Q + batch * q_b + wide_head * q_h, q_start + rows, at_d, q_n, q_d, rows < num_q, D)
    grad_out = load_rows(GRAD_OUT + batch * g_b + wide_head * g_h, q_start + rows, at_dv, g_n, g_d, rows < num_q, DV)
    place = tile * BLOCK_N + num_k - num_q
    first = first_key(place, left, BLOCK_M)
    last = tl.maximum(tl.where(right < 0, num_k, tl.minimum(num_k, place + BLOCK_N + right)), 0)
    grad_q = tl.zeros([BLOCK_N, BLOCK_D], dtype=tl.float32)
    grad_bias = tl.zeros([BLOCK_N], dtype=tl.float32)
    for at in range(first, last, BLOCK_M):
        cols = at + tl.arange(0, BLOCK_M)
        real = cols < num_k
        k = load_rows(K + batch * k_b + key_head * k_h, k_start + cols, at_d, k_m, k_d, real, D)
        v = load_rows(V + batch * v_b + key_head * v_h, k_start + cols, at_dv, v_m, v_d, real, DV)
        _, slopes = weights_and_slopes(
            q, k, rows, cols, sequence, head, num_q, num_k, BIAS, ADDITIVE, MASK, Q_REGIONS, K_REGIONS, SLOPES,
            bias_s, bias_h, add_r, add_h, add_n, add_m, mask_r, mask_h, mask_n, mask_m, qr_r, kr_r, slope_s,
            add_rows, mask_rows, qr_rows, kr_rows, scale, bias_value, left, right, HAS_BIAS,
            DEFAULT_BIAS, HAS_ADDITIVE, HAS_MASK, HAS_REGIONS, HAS_ALIBI, DEGREE, PRECISION, INTERPRET,
        )  # fmt: skip
        grad_t = dot(grad_out, tl.trans(v), INTERPRET, PRECISION) * slopes
        grad_bias += tl.sum(grad_t, 1)
        if SCALE_16:
            factor = power_of_two_for(grad_t)
            grad_q += dot((grad_t * factor).to(k.dtype), k, INTERPRET, PRECISION) / factor
        else:
            grad_q += dot(grad_t.to(k.dtype), k, INTERPRET, PRECISION)
    tl.store(GRAD_BIAS + program, tl.sum(grad_bias, 0))
    places = (q_start + rows).to(tl.int64)[:, None] * dq_n + at_d[None, :] * dq_d
    tl.store(
        GRAD_Q + batch * dq_b + wide_head * dq_h + places,
        (grad_q * scale).to(GRAD_Q.dtype.element_ty),
        mask=(rows[:, None] < num_q) & (at_d[None, :] < D),
    )


@triton.jit
def keys_kernel(
    Q, K, V, GRAD_OUT, GRAD_K, GRAD_V, BIAS, ADDITIVE, MASK, Q_LENGTHS, K_LENGTHS, Q_ENDS, K_ENDS, Q_REGIONS, K_REGIONS,
    SLOPES, q_b, q_h, q_n, q_d, k_b, k_h, k_m, k_d, v_b, v_h, v_m, v_d, g_b, g_h, g_n, g_d,
    bias_s, bias_h, add_r, add_h, add_n, add_m, mask_r, mask_h, mask_n, mask_m, qr_r, kr_r, slope_s,
    add_rows, mask_rows, qr_rows, kr_rows, H, N, M, k_tiles, dk_b, dk_h, dk_m, dk_d, dv_b, dv_h, dv_m, dv_d, scale,
    bias_value, left, right,
    GROUP: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr, PACKED: tl.constexpr, HAS_QL: tl.constexpr, HAS_KL: tl.constexpr,
    HAS_BIAS: tl.constexpr, DEFAULT_BIAS: tl.constexpr, HAS_ADDITIVE: tl.constexpr, HAS_MASK: tl.constexpr,
    HAS_REGIONS: tl.constexpr, HAS_ALIBI: tl.constexpr, HAS_BAND: tl.constexpr, DEGREE: tl.constexpr,
    SCALE_16: tl.constexpr, PRECISION: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """GRAD_K and GRAD_V. One program a tile of keys, over all query heads of its group and all queries in sight."""
    program = tl.program_id(0)
    key_heads = H // GROUP
    tile = program % k_tiles
    key_head = (program // k_tiles) % key_heads
    sequence = program // k_tiles // key_heads
    batch, q_start, num_q, k_start, num_k = sequence_place(
        sequence, Q_LENGTHS, K_LENGTHS, Q_ENDS, K_ENDS, N, M, PACKED, HAS_QL, HAS_KL
    )
    if tile * BLOCK_M >= num_k:
        return
    cols = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    at_d, at_dv = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_DV)
    wide_head = key_head.to(tl.int64)
    real = cols < num_k
    k = load_rows(K + batch * k_b + wide_head * k_h, k_start + cols, at_d, k_m, k_d, real, D)
    v = load_rows(V + batch * v_b + wide_head * v_h, k_start + cols, at_dv, v_m, v_d, real, DV)
    grad_k = tl.zeros([BLOCK_M, BLOCK_D], dtype=tl.float32)
    grad_v = tl.zeros([BLOCK_M, BLOCK_DV], dtype=tl.float32)
    place = tile * BLOCK_M - (num_k - num_q)  # of the first key among the queries
    first = tl.where(right < 0, 0, tl.maximum(place - right, 0)) // BLOCK_N * BLOCK_N
    last = tl.maximum(tl.where(left < 0, num_q, tl.minimum(num_q, place + BLOCK_M + left)), 0)
    for member in range(0, GROUP):
        head = key_head * GROUP + member
        q_head = head.to(tl.int64)
        for at in range(first, last, BLOCK_N):
            rows = at + tl.arange(0, BLOCK_N)
            q = load_rows(Q + batch * q_b + q_head * q_h, q_start + rows, at_d, q_n, q_d, rows < num_q, D)
            grad_out = load_rows(
                GRAD_OUT + batch * g_b + q_head * g_h, q_start + rows, at_dv, g_n, g_d, rows < num_q, DV
            )
            p, slopes = weights_and_slopes(
                q, k, rows, cols, sequence, head, num_q, num_k, BIAS, ADDITIVE, MASK, Q_REGIONS, K_REGIONS, SLOPES,
                bias_s, bias_h, add_r, add_h, add_n, add_m, mask_r, mask_h, mask_n, mask_m, qr_r, kr_r, slope_s,
                add_rows, mask_rows, qr_rows, kr_rows, scale, bias_value, left, right, HAS_BIAS,
                DEFAULT_BIAS, HAS_ADDITIVE, HAS_MASK, HAS_REGIONS, HAS_ALIBI, DEGREE, PRECISION, INTERPRET,
            )  # fmt: skip
            grad_t = dot(grad_out, tl.trans(v), INTERPRET, PRECISION) * slopes
            if SCALE_16:
                factor = power_of_two_for(grad_t)
                grad_v += dot(tl.trans((p * 1024.0).to(v.dtype)), grad_out, INTERPRET, PRECISION) * (1.0 / 1024.0)
                grad_k += dot(tl.trans((grad_t * factor).to(q.dtype)), q, INTERPRET, PRECISION) / factor
            else:
                grad_v += dot(tl.trans(p.to(v.dtype)), grad_out, INTERPRET, PRECISION)
                grad_k += dot(tl.trans(grad_t.to(q.dtype)), q, INTERPRET, PRECISION)
    places = (k_start + cols).to(tl.int64)
    tl.store(
        GRAD_K + batch * dk_b + wide_head * dk_h + places[:, None] * dk_m + at_d[None, :] * dk_d,
        (grad_k * scale).to(GRAD_K.dtype.element_ty),
        mask=real[:, None] & (at_d[None, :] < D),
    )
    tl.store(
        GRAD_V + batch * dv_b + wide_head * dv_h + places[:, None] * dv_m + at_dv[None, :] * dv_d,
        grad_v.to(GRAD_V.dtype.element_ty),
        mask=real[:, None] & (at_dv[None, :] < DV),
    )


@triton.jit
def additive_kernel(
    Q, K, V, GRAD_OUT, GRAD_ADDITIVE, BIAS, ADDITIVE, MASK, Q_LENGTHS, K_LENGTHS, Q_ENDS, K_ENDS, Q_REGIONS, K_REGIONS,
    SLOPES, q_b, q_h, q_n, q_d, k_b, k_h, k_m, k_d, v_b, v_h, v_m, v_d, g_b, g_h, g_n, g_d,
    bias_s, bias_h, add_r, add_h, add_n, add_m, mask_r, mask_h, mask_n, mask_m, qr_r, kr_r, slope_s,
    add_rows, mask_rows, qr_rows, kr_rows, H, N, M, B, q_tiles, k_tiles, da_r, da_h, da_n, da_m, scale, bias_value,
    left, right,
    GROUP: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr, PACKED: tl.constexpr, HAS_QL: tl.constexpr, HAS_KL: tl.constexpr,
    HAS_BIAS: tl.constexpr, DEFAULT_BIAS: tl.constexpr, HAS_ADDITIVE: tl.constexpr, HAS_MASK: tl.constexpr,
    HAS_REGIONS: tl.constexpr, HAS_ALIBI: tl.constexpr, HAS_BAND: tl.constexpr, DEGREE: tl.constexpr,
    SCALE_16: tl.constexpr, PRECISION: tl.constexpr, INTERPRET: tl.constexpr,
    OVER_HEADS: tl.constexpr, OVER_ROWS: tl.constexpr, OVER_COLUMNS: tl.constexpr,
):  # fmt: skip
    """The gradient of an additive bias, summed over what it is broadcast on. One program a tile of the bias itself.

    OVER_*: the bias has one entry along heads, queries, keys. Its tile stays in registers over all that read it.
    """
    program = tl.program_id(0)
    own_q_tiles = 1 if OVER_ROWS else q_tiles
    own_k_tiles = 1 if OVER_COLUMNS else k_tiles
    own_heads = 1 if OVER_HEADS else H
    k_tile = program % own_k_tiles
    q_tile = (program // own_k_tiles) % own_q_tiles
    own_head = (program // own_k_tiles // own_q_tiles) % own_heads
    own_row = program // own_k_tiles // own_q_tiles // own_heads
    at_d, at_dv = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_DV)
    total = tl.zeros([BLOCK_N, BLOCK_M], dtype=tl.float32)
    tiles_of_all = (q_tiles // own_q_tiles) * (k_tiles // own_k_tiles)
    for turn in range(0, (B // add_rows) * (H // own_heads) * tiles_of_all):
        inner = turn % tiles_of_all
        head = own_head + (turn // tiles_of_all) % (H // own_heads)
        sequence = own_row + turn // tiles_of_all // (H // own_heads) * add_rows
        rows = (q_tile + inner // (k_tiles // own_k_tiles)) * BLOCK_N + tl.arange(0, BLOCK_N)
        cols = (k_tile + inner % (k_tiles // own_k_tiles)) * BLOCK_M + tl.arange(0, BLOCK_M)
        batch, _, num_q, _, num_k = sequence_place(
            sequence, Q_LENGTHS, K_LENGTHS, Q_ENDS, K_ENDS, N, M, PACKED, HAS_QL, HAS_KL
        )
        wide_head, key_head = head.to(tl.int64), (head // GROUP).to(tl.int64)
        q = load_rows(Q + batch * q_b + wide_head * q_h, rows, at_d, q_n, q_d, rows < num_q, D)
        grad_out = load_rows(GRAD_OUT + batch * g_b + wide_head * g_h, rows, at_dv, g_n, g_d, rows < num_q, DV)
        k = load_rows(K + batch * k_b + key_head * k_h, cols, at_d, k_m, k_d, cols < num_k, D)
        v = load_rows(V + batch * v_b + key_head * v_h, cols, at_dv, v_m, v_d, cols < num_k, DV)
        _, slopes = weights_and_slopes(
            q, k, rows, cols, sequence, head, num_q, num_k, BIAS, ADDITIVE, MASK, Q_REGIONS, K_REGIONS, SLOPES,
            bias_s, bias_h, add_r, add_h, add_n, add_m, mask_r, mask_h, mask_n, mask_m, qr_r, kr_r, slope_s,
            add_rows, mask_rows, qr_rows, kr_rows, scale, bias_value, left, right, HAS_BIAS,
            DEFAULT_BIAS, HAS_ADDITIVE, HAS_MASK, HAS_REGIONS, HAS_ALIBI, DEGREE, PRECISION, INTERPRET,
        )  # fmt: skip
        total += dot(grad_out, tl.trans(v), INTERPRET, PRECISION) * slopes
    rows, cols = q_tile * BLOCK_N + tl.arange(0, BLOCK_N), k_tile * BLOCK_M + tl.arange(0, BLOCK_M)
    target = GRAD_ADDITIVE + own_row.to(tl.int64) * da_r + own_head.to(tl.int64) * da_h
    row_places, col_places = rows.to(tl.int64) * da_n, cols.to(tl.int64) * da_m
    if OVER_ROWS and OVER_COLUMNS:
        tl.store(target, tl.sum(tl.sum(total, 1), 0))
    elif OVER_ROWS:
        tl.store(target + col_places, tl.sum(total, 0), mask=cols < M)
    elif OVER_COLUMNS:
        tl.store(target + row_places, tl.sum(total, 1), mask=rows < N)
    else:
        places = row_places[:, None] + col_places[None, :]
        tl.store(target + places, total, mask=(rows[:, None] < N) & (cols[None, :] < M))
