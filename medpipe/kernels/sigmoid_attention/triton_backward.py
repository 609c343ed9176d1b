"""The backward kernels: for queries, for keys and values, and for an additive bias. Each computes the scores again.

No atomic additions: every sum runs in a fixed order, so that a run can be repeated bit by bit. Nothing of the forward
pass is needed but its inputs (sigmoid's Jacobian is diagonal: arXiv:2409.04431, appendix).
"""

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
    rows_of,
    sequence_place,
    sigmoid,
    unit,
)


@triton.jit
def power_of_two_for(x):
    """A factor that brings the largest entry near 2^13: fp16 then neither overflows nor loses its small entries."""
    largest = tl.max(tl.max(tl.abs(x), 1), 0)
    exponent = 13.0 - tl.ceil(tl.log2(tl.maximum(largest, 1e-30)))
    return tl.where((largest > 0) & (largest < 1e30), tl.exp2(exponent), 1.0)


@triton.jit
def weights_and_slopes(
    products, rows, cols, sequence, head, num_q, num_k, BIAS, ADDITIVE, MASK, Q_REGIONS, K_REGIONS, SLOPES,
    bias_s, bias_h, add_r, add_h, add_n, add_m, mask_r, mask_h, mask_n, mask_m, qr_r, kr_r, slope_s,
    add_rows, mask_rows, qr_rows, kr_rows, scale, bias_value, left, right, BAND: tl.constexpr,
    KEYS_FIRST: tl.constexpr, HAS_BIAS: tl.constexpr, DEFAULT_BIAS: tl.constexpr, HAS_ADDITIVE: tl.constexpr,
    HAS_MASK: tl.constexpr, HAS_REGIONS: tl.constexpr, HAS_ALIBI: tl.constexpr, DEGREE: tl.constexpr,
    INTERPRET: tl.constexpr,
):  # fmt: skip
    """p and p (1 - p) from q k of a tile (rows, cols), or (cols, rows) with KEYS_FIRST; zero where not visible."""
    bias = base_bias(BIAS, bias_value, sequence, head, num_k, bias_s, bias_h, HAS_BIAS, DEFAULT_BIAS, DEGREE)
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
    row_axis: tl.constexpr = 0 if KEYS_FIRST else 1
    col_axis: tl.constexpr = 1 if KEYS_FIRST else 0
    t = finish_scores(
        products * (scale * unit(DEGREE)) + bias, tl.expand_dims(rows, row_axis), tl.expand_dims(cols, col_axis),
        num_q, num_k, slope, ADDITIVE, add_n, add_m, MASK, mask_n, mask_m, tl.expand_dims(q_region, row_axis),
        tl.expand_dims(k_region, col_axis), left, right, BAND, HAS_ADDITIVE, HAS_MASK, HAS_REGIONS, HAS_ALIBI, DEGREE,
    )  # fmt: skip
    return sigmoid(t, DEGREE, INTERPRET)


@triton.jit
def queries_kernel(
    Q, K, V, GRAD_OUT, GRAD_Q, GRAD_BIAS, BIAS, ADDITIVE, MASK, Q_LENGTHS, K_LENGTHS, Q_ENDS, K_ENDS,
    Q_REGIONS, K_REGIONS, SLOPES, q_b, q_h, q_n, q_d, k_b, k_h, k_m, k_d, v_b, v_h, v_m, v_d, g_b, g_h, g_n, g_d,
    bias_s, bias_h, add_r, add_h, add_n, add_m, mask_r, mask_h, mask_n, mask_m, qr_r, kr_r, slope_s,
    add_rows, mask_rows, qr_rows, kr_rows, H, N, M, q_tiles, dq_b, dq_h, dq_n, dq_d, scale, bias_value, left, right,
    GROUP: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr, PACKED: tl.constexpr, HAS_QL: tl.constexpr, HAS_KL: tl.constexpr,
    HAS_BIAS: tl.constexpr, DEFAULT_BIAS: tl.constexpr, HAS_ADDITIVE: tl.constexpr, HAS_MASK: tl.constexpr,
    HAS_REGIONS: tl.constexpr, HAS_ALIBI: tl.constexpr, BAND: tl.constexpr,
    DEGREE: tl.constexpr, SCALE_16: tl.constexpr, PRECISION: tl.constexpr, INTERPRET: tl.constexpr,
    DESCRIPTORS: tl.constexpr, WANT_BIAS: tl.constexpr,
):  # fmt: skip
    """GRAD_Q and, where wanted, the sums of the scores' gradients, GRAD_BIAS (sequences, H, q_tiles)."""
    program = tl.program_id(0)
    tile = program % q_tiles
    if BAND:
        tile = q_tiles - 1 - tile  # under a causal mask the last have most keys: long programs start first
    head = (program // q_tiles) % H
    sequence = program // q_tiles // H
    batch, q_start, num_q, k_start, num_k = sequence_place(
        sequence, Q_LENGTHS, K_LENGTHS, Q_ENDS, K_ENDS, N, M, PACKED, HAS_QL, HAS_KL
    )
    if tile * BLOCK_N >= num_q:
        return
    rows = tile * BLOCK_N + tl.arange(0, BLOCK_N)
    at_d = tl.arange(0, BLOCK_D)
    wide_head, key_head = head.to(tl.int64), (head // GROUP).to(tl.int64)
    Q += batch * q_b + wide_head * q_h + q_start * q_n
    GRAD_OUT += batch * g_b + wide_head * g_h + q_start * g_n
    K += batch * k_b + key_head * k_h + k_start * k_m
    V += batch * v_b + key_head * v_h + k_start * v_m
    queries = rows_of(Q, num_q, q_n, D, BLOCK_N, BLOCK_D, DESCRIPTORS)
    gradients = rows_of(GRAD_OUT, num_q, g_n, DV, BLOCK_N, BLOCK_DV, DESCRIPTORS)
    keys = rows_of(K, num_k, k_m, D, BLOCK_M, BLOCK_D, DESCRIPTORS)
    values = rows_of(V, num_k, v_m, DV, BLOCK_M, BLOCK_DV, DESCRIPTORS)
    q = load_tile(queries, tile * BLOCK_N, num_q, q_n, q_d, D, BLOCK_N, BLOCK_D, DESCRIPTORS)
    grad_out = load_tile(gradients, tile * BLOCK_N, num_q, g_n, g_d, DV, BLOCK_N, BLOCK_DV, DESCRIPTORS)
    first, last = 0, num_k
    whole = last  # tiles before this are seen by all of these queries
    if BAND:
        place = tile * BLOCK_N + num_k - num_q
        first = tl.where(left < 0, 0, tl.maximum(place - left, 0)) // BLOCK_M * BLOCK_M
        last = tl.maximum(tl.where(right < 0, num_k, tl.minimum(num_k, place + BLOCK_N + right)), 0)
        sure = tl.where(right < 0, last, tl.minimum(last, place + right + 1))
        whole = tl.maximum(tl.where(left < 0, tl.maximum(sure, 0) // BLOCK_M * BLOCK_M, first), first)
    grad_q = tl.zeros([BLOCK_N, BLOCK_D], dtype=tl.float32)
    grad_bias = tl.zeros([BLOCK_N], dtype=tl.float32)
    for phase in tl.static_range(2 if BAND else 1):
        start = first if phase == 0 else whole
        stop = whole if phase == 0 else last
        for at in tl.range(start, stop, BLOCK_M):
            cols = at + tl.arange(0, BLOCK_M)
            k = load_tile(keys, at, num_k, k_m, k_d, D, BLOCK_M, BLOCK_D, DESCRIPTORS)
            v = load_tile(values, at, num_k, v_m, v_d, DV, BLOCK_M, BLOCK_DV, DESCRIPTORS)
            products = dot(q, tl.trans(k), INTERPRET, PRECISION)
            _, slopes = weights_and_slopes(
                products, rows, cols, sequence, head, num_q, num_k, BIAS, ADDITIVE, MASK, Q_REGIONS, K_REGIONS, SLOPES,
                bias_s, bias_h, add_r, add_h, add_n, add_m, mask_r, mask_h, mask_n, mask_m, qr_r, kr_r, slope_s,
                add_rows, mask_rows, qr_rows, kr_rows, scale, bias_value, left, right, BAND * phase, False, HAS_BIAS,
                DEFAULT_BIAS, HAS_ADDITIVE, HAS_MASK, HAS_REGIONS, HAS_ALIBI, DEGREE, INTERPRET,
            )  # fmt: skip
            grad_t = dot(grad_out, tl.trans(v), INTERPRET, PRECISION) * slopes
            if WANT_BIAS:
                grad_bias += tl.sum(grad_t, 1)
            if SCALE_16:
                factor = power_of_two_for(grad_t)
                grad_q += dot((grad_t * factor).to(k.dtype), k, INTERPRET, PRECISION) / factor
            else:
                grad_q += dot(grad_t.to(k.dtype), k, INTERPRET, PRECISION)
    if WANT_BIAS:
        tl.store(GRAD_BIAS + program, tl.sum(grad_bias, 0))
    places = (q_start + rows)[:, None] * dq_n + at_d[None, :] * dq_d
    tl.store(
        GRAD_Q + batch * dq_b + wide_head * dq_h + places,
        (grad_q * scale).to(GRAD_Q.dtype.element_ty),
        mask=(rows[:, None] < num_q) & (at_d[None, :] < D),
    )


@triton.jit
def keys_kernel(
    Q, K, V, GRAD_OUT, GRAD_K, GRAD_V, BIAS, ADDITIVE, MASK, Q_LENGTHS, K_LENGTHS, Q_ENDS, K_ENDS,
    Q_REGIONS, K_REGIONS, SLOPES, q_b, q_h, q_n, q_d, k_b, k_h, k_m, k_d, v_b, v_h, v_m, v_d, g_b, g_h, g_n, g_d,
    bias_s, bias_h, add_r, add_h, add_n, add_m, mask_r, mask_h, mask_n, mask_m, qr_r, kr_r, slope_s,
    add_rows, mask_rows, qr_rows, kr_rows, H, N, M, k_tiles, dk_b, dk_h, dk_m, dk_d, dv_b, dv_h, dv_m, dv_d, scale,
    bias_value, left, right,
    GROUP: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr, PACKED: tl.constexpr, HAS_QL: tl.constexpr, HAS_KL: tl.constexpr,
    HAS_BIAS: tl.constexpr, DEFAULT_BIAS: tl.constexpr, HAS_ADDITIVE: tl.constexpr, HAS_MASK: tl.constexpr,
    HAS_REGIONS: tl.constexpr, HAS_ALIBI: tl.constexpr, BAND: tl.constexpr,
    DEGREE: tl.constexpr, SCALE_16: tl.constexpr, PRECISION: tl.constexpr, INTERPRET: tl.constexpr,
    DESCRIPTORS: tl.constexpr,
):  # fmt: skip
    """GRAD_K and GRAD_V. One program a tile of keys, over all query heads of its group and all queries in sight.

    Tiles are (keys, queries) here, so that p and its gradient are left operands, which the tensor cores take from
    registers.
    """
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
    K += batch * k_b + wide_head * k_h + k_start * k_m
    V += batch * v_b + wide_head * v_h + k_start * v_m
    keys = rows_of(K, num_k, k_m, D, BLOCK_M, BLOCK_D, DESCRIPTORS)
    values = rows_of(V, num_k, v_m, DV, BLOCK_M, BLOCK_DV, DESCRIPTORS)
    k = load_tile(keys, tile * BLOCK_M, num_k, k_m, k_d, D, BLOCK_M, BLOCK_D, DESCRIPTORS)
    v = load_tile(values, tile * BLOCK_M, num_k, v_m, v_d, DV, BLOCK_M, BLOCK_DV, DESCRIPTORS)
    grad_k = tl.zeros([BLOCK_M, BLOCK_D], dtype=tl.float32)
    grad_v = tl.zeros([BLOCK_M, BLOCK_DV], dtype=tl.float32)
    first, last = 0, num_q
    whole = first  # tiles from here on see all of these keys
    if BAND:
        place = tile * BLOCK_M - (num_k - num_q)  # of the first key among the queries
        first = tl.where(right < 0, 0, tl.maximum(place - right, 0)) // BLOCK_N * BLOCK_N
        last = tl.maximum(tl.where(left < 0, num_q, tl.minimum(num_q, place + BLOCK_M + left)), 0)
        sure = tl.where(right < 0, first, tl.maximum(place + BLOCK_M - 1 - right, first))
        whole = tl.where(left < 0, tl.minimum(tl.cdiv(sure, BLOCK_N) * BLOCK_N, tl.maximum(last, first)), last)
    for member in tl.range(0, GROUP):
        head = key_head * GROUP + member
        q_head = head.to(tl.int64)
        queries = rows_of(Q + batch * q_b + q_head * q_h + q_start * q_n, num_q, q_n, D, BLOCK_N, BLOCK_D, DESCRIPTORS)
        gradients = rows_of(
            GRAD_OUT + batch * g_b + q_head * g_h + q_start * g_n, num_q, g_n, DV, BLOCK_N, BLOCK_DV, DESCRIPTORS
        )
        for phase in tl.static_range(2 if BAND else 1):
            start = whole if phase == 0 else first
            stop = last if phase == 0 else whole
            for at in tl.range(start, stop, BLOCK_N):
                rows = at + tl.arange(0, BLOCK_N)
                q = load_tile(queries, at, num_q, q_n, q_d, D, BLOCK_N, BLOCK_D, DESCRIPTORS)
                grad_out = load_tile(gradients, at, num_q, g_n, g_d, DV, BLOCK_N, BLOCK_DV, DESCRIPTORS)
                products = dot(k, tl.trans(q), INTERPRET, PRECISION)
                p, slopes = weights_and_slopes(
                    products, rows, cols, sequence, head, num_q, num_k, BIAS, ADDITIVE, MASK, Q_REGIONS, K_REGIONS,
                    SLOPES, bias_s, bias_h, add_r, add_h, add_n, add_m, mask_r, mask_h, mask_n, mask_m, qr_r, kr_r,
                    slope_s, add_rows, mask_rows, qr_rows, kr_rows, scale, bias_value, left, right, BAND * phase, True,
                    HAS_BIAS,
                    DEFAULT_BIAS, HAS_ADDITIVE, HAS_MASK, HAS_REGIONS, HAS_ALIBI, DEGREE, INTERPRET,
                )  # fmt: skip
                grad_t = dot(v, tl.trans(grad_out), INTERPRET, PRECISION) * slopes
                if SCALE_16:
                    factor = power_of_two_for(grad_t)
                    grad_v += dot((p * 1024.0).to(v.dtype), grad_out, INTERPRET, PRECISION) * (1.0 / 1024.0)
                    grad_k += dot((grad_t * factor).to(q.dtype), q, INTERPRET, PRECISION) / factor
                else:
                    grad_v += dot(p.to(v.dtype), grad_out, INTERPRET, PRECISION)
                    grad_k += dot(grad_t.to(q.dtype), q, INTERPRET, PRECISION)
    places, real = k_start + cols, cols < num_k
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
    Q, K, V, GRAD_OUT, GRAD_ADDITIVE, BIAS, ADDITIVE, MASK, Q_LENGTHS, K_LENGTHS, Q_ENDS, K_ENDS,
    Q_REGIONS, K_REGIONS, SLOPES, q_b, q_h, q_n, q_d, k_b, k_h, k_m, k_d, v_b, v_h, v_m, v_d, g_b, g_h, g_n, g_d,
    bias_s, bias_h, add_r, add_h, add_n, add_m, mask_r, mask_h, mask_n, mask_m, qr_r, kr_r, slope_s,
    add_rows, mask_rows, qr_rows, kr_rows, H, N, M, B, q_tiles, k_tiles, splits, split_turns, da_s, da_r, da_h, da_n,
    da_m, scale, bias_value, left, right,
    GROUP: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr, PACKED: tl.constexpr, HAS_QL: tl.constexpr, HAS_KL: tl.constexpr,
    HAS_BIAS: tl.constexpr, DEFAULT_BIAS: tl.constexpr, HAS_ADDITIVE: tl.constexpr, HAS_MASK: tl.constexpr,
    HAS_REGIONS: tl.constexpr, HAS_ALIBI: tl.constexpr, BAND: tl.constexpr,
    DEGREE: tl.constexpr, SCALE_16: tl.constexpr, PRECISION: tl.constexpr, INTERPRET: tl.constexpr,
    DESCRIPTORS: tl.constexpr, OVER_HEADS: tl.constexpr,
    OVER_ROWS: tl.constexpr, OVER_COLUMNS: tl.constexpr,
):  # fmt: skip
    """The gradient of an additive bias, summed over what it is broadcast on. One program a tile of the bias itself.

    OVER_*: the bias has one entry along heads, queries, keys. Its tile stays in registers over all that read it. Split
    s sums `split_turns` of those into GRAD_ADDITIVE + s * da_s.
    """
    program = tl.program_id(0)
    own_q_tiles = 1 if OVER_ROWS else q_tiles
    own_k_tiles = 1 if OVER_COLUMNS else k_tiles
    own_heads = 1 if OVER_HEADS else H
    k_tile = program % own_k_tiles
    q_tile = (program // own_k_tiles) % own_q_tiles
    own_head = (program // own_k_tiles // own_q_tiles) % own_heads
    split = (program // own_k_tiles // own_q_tiles // own_heads) % splits
    own_row = program // own_k_tiles // own_q_tiles // own_heads // splits
    total = tl.zeros([BLOCK_N, BLOCK_M], dtype=tl.float32)
    tiles_of_all = (q_tiles // own_q_tiles) * (k_tiles // own_k_tiles)
    turns = (B // add_rows) * (H // own_heads) * tiles_of_all
    for turn in tl.range(split * split_turns, tl.minimum(turns, (split + 1) * split_turns)):
        inner = turn % tiles_of_all
        head = own_head + (turn // tiles_of_all) % (H // own_heads)
        sequence = own_row + turn // tiles_of_all // (H // own_heads) * add_rows
        first_row = (q_tile + inner // (k_tiles // own_k_tiles)) * BLOCK_N
        first_col = (k_tile + inner % (k_tiles // own_k_tiles)) * BLOCK_M
        rows, cols = first_row + tl.arange(0, BLOCK_N), first_col + tl.arange(0, BLOCK_M)
        batch, _, num_q, _, num_k = sequence_place(
            sequence, Q_LENGTHS, K_LENGTHS, Q_ENDS, K_ENDS, N, M, PACKED, HAS_QL, HAS_KL
        )
        wide_head, key_head = head.to(tl.int64), (head // GROUP).to(tl.int64)
        own_q, own_g = Q + batch * q_b + wide_head * q_h, GRAD_OUT + batch * g_b + wide_head * g_h
        own_k, own_v = K + batch * k_b + key_head * k_h, V + batch * v_b + key_head * v_h
        q = load_tile(own_q, first_row, num_q, q_n, q_d, D, BLOCK_N, BLOCK_D, False)
        grad_out = load_tile(own_g, first_row, num_q, g_n, g_d, DV, BLOCK_N, BLOCK_DV, False)
        k = load_tile(own_k, first_col, num_k, k_m, k_d, D, BLOCK_M, BLOCK_D, False)
        v = load_tile(own_v, first_col, num_k, v_m, v_d, DV, BLOCK_M, BLOCK_DV, False)
        products = dot(q, tl.trans(k), INTERPRET, PRECISION)
        _, slopes = weights_and_slopes(
            products, rows, cols, sequence, head, num_q, num_k, BIAS, ADDITIVE, MASK, Q_REGIONS, K_REGIONS, SLOPES,
            bias_s, bias_h, add_r, add_h, add_n, add_m, mask_r, mask_h, mask_n, mask_m, qr_r, kr_r, slope_s,
            add_rows, mask_rows, qr_rows, kr_rows, scale, bias_value, left, right, BAND, False, HAS_BIAS,
            DEFAULT_BIAS, HAS_ADDITIVE, HAS_MASK, HAS_REGIONS, HAS_ALIBI, DEGREE, INTERPRET,
        )  # fmt: skip
        total += dot(grad_out, tl.trans(v), INTERPRET, PRECISION) * slopes
    rows, cols = q_tile * BLOCK_N + tl.arange(0, BLOCK_N), k_tile * BLOCK_M + tl.arange(0, BLOCK_M)
    target = GRAD_ADDITIVE + split.to(tl.int64) * da_s + own_row.to(tl.int64) * da_r + own_head.to(tl.int64) * da_h
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
