"""What the Triton kernels share: the place of a program's sequence, a tile of scores, and the sigmoid of it.

Scores are kept in units of log 2, since the hardware's exponential has base 2: t = z * log2(e). The interpreter runs
what the compiler compiles, but for the descriptors and the assembly of `packed_sigmoid`, `is_positive` and `tangent`.
"""

# What stands in a kernel is Triton's language and not Python, and its launches take further options.
# pyright: reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false, reportIndexIssue=false
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false

import triton
import triton.language as tl


@triton.jit
def unit(DEGREE: tl.constexpr):
    """Scores are kept in units that the hardware's function takes: log2(e), half of it for a tangent."""
    return 0.5 if DEGREE == 1 else 1.4426950408889634


@triton.jit
def sequence_place(sequence, Q_LENGTHS, K_LENGTHS, Q_ENDS, K_ENDS, N, M, PACKED: tl.constexpr, HAS_QL: tl.constexpr,
                   HAS_KL: tl.constexpr):  # fmt: skip
    """Batch, first query, number of queries, first key, number of keys of a sequence."""
    batch, none = sequence, sequence * 0
    q_start, k_start, num_q, num_k = none, none, N, M
    if PACKED:
        batch = none
        q_start = tl.load(Q_ENDS + sequence)
        k_start = tl.load(K_ENDS + sequence)
        num_q = tl.load(Q_ENDS + sequence + 1) - q_start
        num_k = tl.load(K_ENDS + sequence + 1) - k_start
    if HAS_QL:
        num_q = tl.load(Q_LENGTHS + sequence)
    if HAS_KL:
        num_k = tl.load(K_LENGTHS + sequence)
    return batch.to(tl.int64), q_start.to(tl.int64), num_q, k_start.to(tl.int64), num_k


@triton.jit
def rows_of(pointer, num_rows, stride, WIDTH: tl.constexpr, ROWS: tl.constexpr, BLOCK_WIDTH: tl.constexpr,
            DESCRIPTORS: tl.constexpr):  # fmt: skip
    """A matrix (num_rows, WIDTH) to read tiles of ROWS rows from: a descriptor of the copy engine, or the pointer."""
    if DESCRIPTORS:
        return tl.make_tensor_descriptor(
            pointer, shape=[tl.maximum(num_rows, 1), WIDTH], strides=[stride, 1], block_shape=[ROWS, BLOCK_WIDTH]
        )
    else:
        return pointer


@triton.jit
def load_tile(matrix, first, num_rows, stride, stride_d, WIDTH: tl.constexpr, ROWS: tl.constexpr,
              BLOCK_WIDTH: tl.constexpr, DESCRIPTORS: tl.constexpr):  # fmt: skip
    """ROWS rows from `first` on of what `rows_of` gave, zero past the end: whatever padding holds is not read."""
    if DESCRIPTORS:
        return matrix.load([first, 0])
    else:
        rows, columns = first + tl.arange(0, ROWS), tl.arange(0, BLOCK_WIDTH)
        places = rows.to(tl.int64)[:, None] * stride + columns[None, :] * stride_d
        real = (rows < num_rows)[:, None] & (columns < WIDTH)[None, :]
        return tl.load(matrix + places, mask=real, other=0.0)


@triton.jit
def dot(left, right, INTERPRET: tl.constexpr, PRECISION: tl.constexpr):
    """left @ right in float32. The interpreter multiplies the bits of bf16 as integers, so it gets float32."""
    if INTERPRET:
        return tl.dot(left.to(tl.float32), right.to(tl.float32), input_precision="ieee")
    return tl.dot(left, right, input_precision=PRECISION)


@triton.jit
def base_bias(BIAS, bias_value, sequence, head, num_k, bias_s, bias_h, HAS_BIAS: tl.constexpr,
              DEFAULT_BIAS: tl.constexpr, DEGREE: tl.constexpr):  # fmt: skip
    """The bias of a head of a sequence, in the units of `unit`."""
    bias = bias_value * unit(DEGREE)
    if DEFAULT_BIAS:
        bias = -tl.log2(tl.maximum(num_k, 1).to(tl.float32)) * (0.6931471805599453 * unit(DEGREE))
    if HAS_BIAS:
        bias += tl.load(BIAS + sequence * bias_s + head * bias_h) * unit(DEGREE)
    return bias


@triton.jit
def finish_scores(
    t, rows, cols, num_q, num_k, slope, ADDITIVE, add_n, add_m, MASK, mask_n, mask_m, q_region, k_region,
    left, right, BAND: tl.constexpr, HAS_ADDITIVE: tl.constexpr, HAS_MASK: tl.constexpr, HAS_REGIONS: tl.constexpr,
    HAS_ALIBI: tl.constexpr, DEGREE: tl.constexpr,
):  # fmt: skip
    """Further terms of a tile of scores t, then -inf where a pair is not visible.

    BAND: 1 for a limit on the left, 2 on the right, 3 for both.
    rows and q_region lie along one axis of t, cols and k_region along the other: (rows, 1) and (1, cols), or the other
    way round for a tile (cols, rows). Places past the end are not masked: what is read of q, k, v and the output's
    gradient there is zero, and every sum that leaves a kernel multiplies the weight of such a pair by one of those.
    """
    inside = (rows < num_q) & (cols < num_k)
    distance = cols - (rows + (num_k - num_q))
    if HAS_ALIBI:
        t -= (slope * unit(DEGREE)) * tl.abs(distance).to(tl.float32)
    if HAS_ADDITIVE:
        at = rows.to(tl.int64) * add_n + cols.to(tl.int64) * add_m
        t += tl.load(ADDITIVE + at, mask=inside, other=0.0).to(tl.float32) * unit(DEGREE)
    if BAND & 1:
        t = tl.where(distance >= -left, t, -float("inf"))
    if BAND & 2:
        t = tl.where(distance <= right, t, -float("inf"))
    if HAS_REGIONS:
        t = tl.where(q_region == k_region, t, -float("inf"))
    if HAS_MASK:
        at = rows.to(tl.int64) * mask_n + cols.to(tl.int64) * mask_m
        t = tl.where(tl.load(MASK + at, mask=inside, other=0) != 0, t, -float("inf"))
    return t


@triton.jit
def reciprocal_of_one_plus(e, DEGREE: tl.constexpr):
    """1 / (1 + e) for e in [0, 1] by a polynomial of the least relative error, 3.0e-4 (4), 5.1e-5 (5); 0: the quotient.

    Degree 3 is fitted with a weight: 4.1e-4 for e under 0.02, where the weights of many keys lie (their bias is
    -log n), and 2.7e-3, 0.7 of the last place of bf16, at most.
    """
    if DEGREE == 0:
        return 1.0 / (1.0 + e)
    if DEGREE == 3:
        return 0.99959608 + e * (-0.96188668 + e * (0.70974175 + e * -0.24879755))
    if DEGREE == 4:
        return 0.999702685 + e * (-0.984835373 + e * (0.86589466 + e * (-0.53285864 + e * 0.152245325)))
    high = 0.95342126 + e * (-0.770573861 + e * (0.41793856 + e * -0.10448464))
    return 0.999948989 + e * (-0.996275814 + e * high)


@triton.jit
def sigmoid(t, DEGREE: tl.constexpr, INTERPRET: tl.constexpr):
    """p of z = t / unit, and p (1 - p).

    By a polynomial both have full relative accuracy in both tails, with one exponential: e = exp(-|z|),
    r = 1 / (1 + e), p is r or e r, and p (1 - p) = e r^2 without a difference. By the tangent the absolute error is
    4e-6, which in the lower tail is much of p: see `triton_launch.Configuration`.
    """
    if DEGREE == 1:
        p = 0.5 + 0.5 * tangent(t, INTERPRET)
        return p, p - p * p
    e = tl.exp2(tl.abs(t) * -1.0)  # so that the sign is the instruction's own; 0 - x would be one more
    r = reciprocal_of_one_plus(e, DEGREE)
    # Not where(t > 0, r, e * r): of a tile's comparisons seven at a time fit the predicates, and moving the others in
    # and out of registers took three instructions a score of thirteen.
    return r * tl.maximum(e, is_positive(t, INTERPRET)), e * r * r


@triton.jit
def packed_sigmoid(t):
    """p in bf16, two scores an instruction after the exponential: 6 instructions a score instead of 8.5.

    1 / (1 + e) is 1 - 0.96875 e + 0.7265625 e^2 - 0.259765625 e^3, coefficients and steps rounded to bf16: relative
    errors of 2.7e-3 (root mean square), 9.6e-3 at most, 1e-4 in the mean. Compute capability 9.0.
    """
    return tl.inline_asm_elementwise(
        """{
        .reg .f32 e0, e1;
        .reg .b32 e, t, r, c;
        abs.f32 e0, $1;
        abs.f32 e1, $2;
        neg.f32 e0, e0;
        neg.f32 e1, e1;
        ex2.approx.ftz.f32 e0, e0;
        ex2.approx.ftz.f32 e1, e1;
        cvt.rn.bf16x2.f32 e, e1, e0;
        cvt.rn.bf16x2.f32 t, $2, $1;
        mov.b32 r, 0xBE85BE85;
        mov.b32 c, 0x3F3A3F3A;
        fma.rn.bf16x2 r, e, r, c;
        mov.b32 c, 0xBF78BF78;
        fma.rn.bf16x2 r, e, r, c;
        mov.b32 c, 0x3F803F80;
        fma.rn.bf16x2 r, e, r, c;
        mov.b32 c, 0x00000000;
        set.gt.bf16x2.bf16x2 t, t, c;
        max.bf16x2 e, e, t;
        mul.rn.bf16x2 $0, r, e;
        }""",
        "=r,f,f", [t], dtype=tl.bfloat16, is_pure=True, pack=2,
    )  # fmt: skip


@triton.jit
def is_positive(t, INTERPRET: tl.constexpr):
    """1 for t > 0, else 0; of t under 1e-30, where e is 1, something between. The saturation is part of the product."""
    if INTERPRET:
        return tl.minimum(tl.maximum(t * 1e30, 0.0), 1.0)
    return tl.inline_asm_elementwise(
        "mul.sat.f32 $0, $1, 0f7149F2CA;", "=f,f", [t], dtype=tl.float32, is_pure=True, pack=1
    )


@triton.jit
def tangent(t, INTERPRET: tl.constexpr):
    """tanh of t: one instruction of sm_75 and later; the interpreter has no assembly and gets it from exponentials."""
    if INTERPRET:
        return 2.0 * tl.sigmoid(2.0 * t) - 1.0
    return tl.inline_asm_elementwise("tanh.approx.f32 $0, $1;", "=f,f", [t], dtype=tl.float32, is_pure=True, pack=1)
