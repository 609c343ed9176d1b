"""What the Triton kernels share: the place of a program's sequence, a tile of scores, and the sigmoid of it.

Scores are kept in units of log 2, since the hardware's exponential has base 2: t = z * log2(e). Written with plain
pointers, so that the interpreter runs what the compiler compiles.
"""

# What stands in a kernel is Triton's language and not Python, and its launches take further options.
# pyright: reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false, reportIndexIssue=false
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def sequence_place(sequence, Q_LENGTHS, K_LENGTHS, Q_ENDS, K_ENDS, N, M, PACKED: tl.constexpr, HAS_QL: tl.constexpr,
                   HAS_KL: tl.constexpr):  # fmt: skip
    """Batch, first query, number of queries, first key, number of keys of a sequence."""
    batch = sequence
    q_start, k_start, num_q, num_k = 0, 0, N, M
    if PACKED:
        batch = sequence * 0
        q_start = tl.load(Q_ENDS + sequence)
        k_start = tl.load(K_ENDS + sequence)
        num_q = tl.load(Q_ENDS + sequence + 1) - q_start
        num_k = tl.load(K_ENDS + sequence + 1) - k_start
    if HAS_QL:
        num_q = tl.load(Q_LENGTHS + sequence)
    if HAS_KL:
        num_k = tl.load(K_LENGTHS + sequence)
    return batch.to(tl.int64), q_start, num_q, k_start, num_k


@triton.jit
def dot(left, right, INTERPRET: tl.constexpr, PRECISION: tl.constexpr):
    """left @ right in float32. The interpreter multiplies the bits of bf16 as integers, so it gets float32."""
    if INTERPRET:
        return tl.dot(left.to(tl.float32), right.to(tl.float32), input_precision="ieee")
    return tl.dot(left, right, input_precision=PRECISION)


@triton.jit
def base_bias(BIAS, bias_value, sequence, head, num_k, bias_s, bias_h, HAS_BIAS: tl.constexpr,
              DEFAULT_BIAS: tl.constexpr):  # fmt: skip
    """The bias of a head of a sequence, in units of log 2."""
    bias = bias_value * LOG2_E
    if DEFAULT_BIAS:
        bias = -tl.log2(tl.maximum(num_k, 1).to(tl.float32))
    if HAS_BIAS:
        bias += tl.load(BIAS + sequence * bias_s + head * bias_h) * LOG2_E
    return bias


@triton.jit
def finish_scores(
    t, rows, cols, num_q, num_k, slope, ADDITIVE, add_n, add_m, MASK, mask_n, mask_m, q_region, k_region,
    left, right, MASKED: tl.constexpr, HAS_ADDITIVE: tl.constexpr, HAS_MASK: tl.constexpr, HAS_REGIONS: tl.constexpr,
    HAS_ALIBI: tl.constexpr,
):  # fmt: skip
    """Further terms of a tile of scores t (rows, cols), then -inf where a pair is not visible."""
    inside = (rows[:, None] < num_q) & (cols[None, :] < num_k)
    distance = cols[None, :] - (rows[:, None] + (num_k - num_q))
    if HAS_ALIBI:
        t -= (slope * LOG2_E) * tl.abs(distance).to(tl.float32)
    if HAS_ADDITIVE:
        at = rows.to(tl.int64)[:, None] * add_n + cols.to(tl.int64)[None, :] * add_m
        t += tl.load(ADDITIVE + at, mask=inside, other=0.0).to(tl.float32) * LOG2_E
    if MASKED:
        visible = inside & ((left < 0) | (distance >= -left)) & ((right < 0) | (distance <= right))
        t = tl.where(visible, t, -float("inf"))
    if HAS_REGIONS:
        t = tl.where(q_region[:, None] == k_region[None, :], t, -float("inf"))
    if HAS_MASK:
        at = rows.to(tl.int64)[:, None] * mask_n + cols.to(tl.int64)[None, :] * mask_m
        t = tl.where(tl.load(MASK + at, mask=inside, other=0) != 0, t, -float("inf"))
    return t


@triton.jit
def reciprocal_of_one_plus(e, DEGREE: tl.constexpr):
    """1 / (1 + e) for e in [0, 1]: minimax polynomials of relative error 3.0e-4 (4) and 5.1e-5 (5), 0: the quotient."""
    if DEGREE == 0:
        return 1.0 / (1.0 + e)
    if DEGREE == 4:
        return 0.999702685 + e * (-0.984835373 + e * (0.86589466 + e * (-0.53285864 + e * 0.152245325)))
    high = 0.95342126 + e * (-0.770573861 + e * (0.41793856 + e * -0.10448464))
    return 0.999948989 + e * (-0.996275814 + e * high)


@triton.jit
def sigmoid(t, DEGREE: tl.constexpr):
    """p of z = t ln 2, and p (1 - p), both of full relative accuracy in both tails, with one exponential.

    e = exp(-|z|), r = 1 / (1 + e): p is r or e r, and p (1 - p) = e r^2 without a difference.
    """
    e = tl.exp2(-tl.abs(t))
    r = reciprocal_of_one_plus(e, DEGREE)
    small = e * r
    return tl.where(t > 0, r, small), small * r
