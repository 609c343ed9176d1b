"""Every argument of the call against the definition, and what is refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from medpipe.kernels.sigmoid_attention.entry import sigmoid_attention

Draw = Callable[..., Tensor]
Check = Callable[..., None]


def operands(
    draw: Draw, q: tuple[int, ...], k: tuple[int, ...], width: int | None = None, **options: Any
) -> dict[str, Tensor]:
    return {"q": draw(*q, **options), "k": draw(*k, **options), "v": draw(*k[:3], width or k[3], **options)}


LENGTHS = [
    (1, 1),
    (2, 2),
    (5, 5),
    (17, 17),
    (97, 97),
    (113, 203),
    (203, 113),
    (343, 343),
    (1023, 1024),
    (1024, 1025),
    (1, 1025),
]


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize(("num_queries", "num_keys"), LENGTHS)
def test_lengths_that_divide_by_nothing(
    num_queries: int, num_keys: int, is_causal: bool, draw: Draw, check: Check
) -> None:
    check(operands(draw, (1, 2, num_queries, 8), (1, 2, num_keys, 8)), is_causal=is_causal)


def test_leading_rows_that_see_nothing_are_exact_zeros(draw: Draw) -> None:
    leaves = operands(draw, (1, 2, 20, 8), (1, 2, 7, 8))
    out = sigmoid_attention(**leaves, is_causal=True)
    (grad_q,) = torch.autograd.grad(out.square().sum(), leaves["q"])
    assert not out[:, :, :13].any()
    assert out[:, :, 13:].all()
    assert not grad_q[:, :, :13].any()
    assert grad_q[:, :, 14:].all()


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)])
def test_empty_batches_queries_and_keys(shape: tuple[int, int, int, int], draw: Draw) -> None:
    batch, heads, num_queries, num_keys = shape
    leaves = operands(draw, (batch, heads, num_queries, 8), (batch, heads, num_keys, 8))
    out = sigmoid_attention(**leaves)
    assert out.shape == (batch, heads, num_queries, 8)
    assert not out.any()
    assert not any(grad.any() for grad in torch.autograd.grad(out.sum(), list(leaves.values())))


def test_lengths_of_sequences_and_nan_in_their_padding(draw: Draw, check: Check) -> None:
    leaves = operands(draw, (4, 2, 33, 8), (4, 2, 40, 8))
    lengths = torch.tensor([0, 1, 40, 13])
    check(leaves, key_lengths=lengths, query_lengths=torch.tensor([33, 0, 5, 33]))
    with torch.no_grad():
        for name in ("k", "v"):
            for batch, length in enumerate(lengths.tolist()):
                leaves[name][batch, :, length:] = torch.nan if batch % 2 else torch.inf
    out = sigmoid_attention(**leaves, key_lengths=lengths)
    assert out.isfinite().all()
    assert not out[0].any()
    for grad in torch.autograd.grad(out.sum(), list(leaves.values())):
        assert grad.isfinite().all()


def test_a_mask_of_keys_is_as_good_as_lengths(draw: Draw) -> None:
    leaves = operands(draw, (2, 2, 9, 8), (2, 2, 12, 8))
    lengths = torch.tensor([12, 5])
    visible = (torch.arange(12) < lengths[:, None])[:, None, None]
    by_lengths = sigmoid_attention(**leaves, key_lengths=lengths)
    with torch.no_grad():
        leaves["k"][1, :, 5:] = leaves["v"][1, :, 5:] = torch.nan
    by_mask = sigmoid_attention(**leaves, attn_mask=visible)
    torch.testing.assert_close(by_mask, by_lengths)
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(by_mask.sum(), list(leaves.values())))


@pytest.mark.parametrize("width", [1, 8, 16, 40, 59, 72, 80, 96, 111, 256, 300])
def test_widths_and_values_of_another_width(width: int, draw: Draw, check: Check) -> None:
    check(operands(draw, (1, 2, 37, width), (1, 2, 41, width), width=width % 50 + 3))


@pytest.mark.parametrize(("heads", "key_heads"), [(3, 1), (9, 1), (9, 3), (1, 1)])
def test_groups_of_heads_share_keys(heads: int, key_heads: int, draw: Draw, check: Check) -> None:
    leaves = operands(draw, (2, heads, 300, 8), (2, key_heads, 70, 8))
    check(leaves | {"bias": draw(2, heads), "additive_bias": draw(1, heads, 300, 70)})


def test_strides_of_every_kind(draw: Draw) -> None:
    packed = draw(2, 30, 3, 4, 8)  # batch, tokens, (q, k, v), heads, width
    q, k, v = packed.permute(2, 0, 3, 1, 4)
    expected = sigmoid_attention(q.contiguous(), k.contiguous(), v.contiguous())
    assert torch.equal(sigmoid_attention(q, k, v), expected)
    assert expected.transpose(1, 2).is_contiguous()  # joining heads is free
    shared = draw(1, 1, 30, 8).expand(2, 4, -1, -1)
    whole = sigmoid_attention(q, shared.contiguous(), shared.contiguous())
    assert torch.equal(sigmoid_attention(q, shared, shared), whole)
    flat = draw(2 * 4 * 30 * 17 + 1)
    odd = flat[1:].view(2, 4, 30, 17)[..., 1::2]  # off 16 bytes, two apart
    assert torch.equal(sigmoid_attention(odd, k, v), sigmoid_attention(odd.contiguous(), k, v))
    # A sum sends back a gradient of stride 0.
    by_sum = torch.autograd.grad(sigmoid_attention(q, k, v).sum(), packed, retain_graph=True)[0]
    ones = torch.autograd.grad(sigmoid_attention(q, k, v), packed, torch.ones(2, 4, 30, 8))[0]
    assert torch.equal(by_sum, ones)


@pytest.mark.parametrize("value", [-20.0, -10.0, 0.0, 2.0, 20.0])
def test_bias_as_a_number(value: float, draw: Draw, check: Check) -> None:
    check(operands(draw, (2, 3, 50, 8), (2, 3, 60, 8)), bias=value)


@pytest.mark.parametrize("shape", [(), (3,), (2, 1), (2, 3), (1, 3)])
def test_bias_is_trained_per_head_per_sequence_or_both(shape: tuple[int, ...], draw: Draw, check: Check) -> None:
    check(operands(draw, (2, 3, 300, 8), (2, 3, 530, 8)) | {"bias": draw(*shape)})


def test_a_bias_of_16_bits_keeps_its_value(draw: Draw, check: Check) -> None:
    leaves = operands(draw, (1, 3, 20, 8), (1, 3, 30, 8))
    half = torch.tensor(-3.4, dtype=torch.float16)
    assert torch.equal(sigmoid_attention(**leaves, bias=half), sigmoid_attention(**leaves, bias=float(half)))


def test_bias_by_default_is_minus_log_of_the_valid_keys(draw: Draw) -> None:
    leaves = operands(draw, (2, 2, 9, 8), (2, 2, 12, 8))
    bias = -torch.tensor([[12.0], [5.0]]).log()
    lengths = torch.tensor([12, 5])
    out = sigmoid_attention(**leaves, key_lengths=lengths)
    torch.testing.assert_close(out, sigmoid_attention(**leaves, key_lengths=lengths, bias=bias))


@pytest.mark.parametrize("scale", [0.0, -0.3, 2.0])
def test_scale_of_any_sign_and_masks_do_not_invert(scale: float, draw: Draw, check: Check) -> None:
    leaves = operands(draw, (1, 2, 40, 8), (1, 2, 30, 8))
    check(leaves, scale=scale, is_causal=True)
    assert not sigmoid_attention(**leaves, scale=scale, is_causal=True)[:, :, :10].any()


def test_scale_is_trained(draw: Draw, check: Check) -> None:
    scale = torch.tensor(0.4, requires_grad=True)
    check(operands(draw, (1, 2, 40, 8), (1, 2, 30, 8)) | {"scale": scale})


ADDITIVE = [(2, 3, 50, 60), (1, 3, 50, 60), (2, 1, 50, 60), (1, 1, 50, 60), (2, 3, 1, 60), (2, 3, 50, 1), (1, 3, 1, 1)]


@pytest.mark.parametrize("shape", ADDITIVE)
def test_additive_bias_of_any_shape_is_trained(shape: tuple[int, ...], draw: Draw, check: Check) -> None:
    check(operands(draw, (2, 3, 50, 8), (2, 3, 60, 8)) | {"additive_bias": draw(*shape)})


def test_additive_bias_repeats_over_the_windows_of_a_batch(draw: Draw, check: Check) -> None:
    leaves = operands(draw, (12, 2, 27, 8), (12, 2, 27, 8)) | {"additive_bias": draw(4, 2, 27, 27)}
    check(leaves)
    repeated = leaves["additive_bias"].repeat(3, 1, 1, 1)
    expected = sigmoid_attention(**{**leaves, "additive_bias": repeated})
    torch.testing.assert_close(sigmoid_attention(**leaves), expected)


def test_additive_bias_of_minus_infinity_hides_and_minus_100_almost(draw: Draw) -> None:
    leaves = operands(draw, (1, 2, 27, 8), (1, 2, 27, 8))
    is_hidden = torch.rand(1, 1, 27, 27, generator=torch.Generator().manual_seed(1)) < 0.5
    is_hidden[:, :, 3] = True
    expected = sigmoid_attention(**leaves, attn_mask=~is_hidden)
    assert not expected[:, :, 3].any()
    for value in (-torch.inf, -100.0):
        additive = torch.zeros(1, 1, 27, 27).masked_fill(is_hidden, value)
        out = sigmoid_attention(**leaves, additive_bias=additive)
        torch.testing.assert_close(out, expected, atol=1e-30, rtol=1e-6)
        assert all(grad.isfinite().all() for grad in torch.autograd.grad(out.sum(), list(leaves.values())))


def test_axis_tables_are_trained(draw: Draw, check: Check) -> None:
    tables = [draw(2, 3, 50, 3), draw(1, 3, 50, 4), draw(2, 1, 50, 5)]
    check(operands(draw, (2, 3, 50, 8), (2, 3, 60, 8)) | {"axis_tables": tables})
    check(operands(draw, (2, 3, 50, 8), (2, 1, 60, 8)) | {"axis_tables": tables[:3]}, scale=0.0)


def test_axis_tables_are_a_sum_over_the_axes_of_the_grid(draw: Draw) -> None:
    leaves = operands(draw, (1, 2, 24, 8), (1, 2, 24, 8))
    tables = [draw(1, 2, 24, size) for size in (2, 3, 4)]
    whole = tables[0][..., :, None, None] + tables[1][..., None, :, None] + tables[2][..., None, None, :]
    expected = sigmoid_attention(**leaves, additive_bias=whole.flatten(3))
    torch.testing.assert_close(sigmoid_attention(**leaves, axis_tables=tables), expected)


def test_regions_are_a_mask(draw: Draw, check: Check) -> None:
    leaves = operands(draw, (4, 2, 27, 8), (4, 2, 27, 8))
    regions = torch.randint(0, 3, (2, 27), generator=torch.Generator().manual_seed(1))
    check(leaves, regions=regions)
    mask = (regions[:, None, :, None] == regions[:, None, None, :]).repeat(2, 1, 1, 1)
    assert torch.equal(sigmoid_attention(**leaves, regions=regions), sigmoid_attention(**leaves, attn_mask=mask))


@pytest.mark.parametrize("window", [(3, 5), (0, 0), (-1, 4), (4, -1), (700, 300)])
@pytest.mark.parametrize(("num_queries", "num_keys"), [(600, 1100), (1100, 600)])
def test_windows(window: tuple[int, int], num_queries: int, num_keys: int, draw: Draw, check: Check) -> None:
    check(operands(draw, (1, 1, num_queries, 8), (1, 1, num_keys, 8)), window=window)


def test_a_causal_window_has_no_future(draw: Draw, check: Check) -> None:
    leaves = operands(draw, (1, 2, 40, 8), (1, 2, 40, 8))
    check(leaves, window=(5, 9), is_causal=True)
    assert torch.equal(
        sigmoid_attention(**leaves, window=(5, 9), is_causal=True), sigmoid_attention(**leaves, window=(5, 0))
    )


@pytest.mark.parametrize("shape", [(3,), (2, 3)])
def test_alibi_takes_the_whole_distance(shape: tuple[int, ...], draw: Draw, check: Check) -> None:
    slopes = torch.rand(*shape, generator=torch.Generator().manual_seed(1))
    leaves = operands(draw, (2, 3, 40, 8), (2, 3, 50, 8))
    check(leaves, alibi_slopes=slopes, is_causal=True)
    distance = (torch.arange(40)[:, None] + 10 - torch.arange(50)).abs()
    additive = -slopes.reshape(-1, 3, 1, 1) * distance
    torch.testing.assert_close(
        sigmoid_attention(**leaves, alibi_slopes=slopes), sigmoid_attention(**leaves, additive_bias=additive)
    )


def test_packed_sequences_are_what_each_is_alone(draw: Draw, check: Check) -> None:
    q_ends, k_ends = [0, 7, 7, 40], [0, 11, 20, 61]
    leaves = operands(draw, (1, 4, 40, 8), (1, 2, 61, 8)) | {"additive_bias": draw(3, 4, 33, 41), "bias": draw(3, 4)}
    options = {"cu_seqlens": torch.tensor(q_ends), "cu_seqlens_k": torch.tensor(k_ends), "is_causal": True}
    check(leaves, **options)
    out = sigmoid_attention(**leaves, **options)
    for i in range(3):
        rows, keys = slice(q_ends[i], q_ends[i + 1]), slice(k_ends[i], k_ends[i + 1])
        n, m = rows.stop - rows.start, keys.stop - keys.start
        alone = sigmoid_attention(
            leaves["q"][:, :, rows], leaves["k"][:, :, keys], leaves["v"][:, :, keys], is_causal=True,
            bias=leaves["bias"][i : i + 1], additive_bias=leaves["additive_bias"][i : i + 1, :, :n, :m],
        )  # fmt: skip
        torch.testing.assert_close(out[:, :, rows], alone)


def test_everything_at_once(draw: Draw, check: Check) -> None:
    leaves: dict[str, Any] = operands(draw, (4, 6, 37, 16), (4, 2, 60, 16), width=24)
    leaves |= {"bias": draw(4, 6), "additive_bias": draw(2, 6, 37, 60)}
    leaves["axis_tables"] = [draw(4, 6, 37, 3), draw(1, 6, 37, 4), draw(4, 1, 37, 5)]
    generator = torch.Generator().manual_seed(1)
    check(
        leaves,
        is_causal=True,
        window=(20, -1),
        key_lengths=torch.tensor([50, 60, 60, 0]),
        alibi_slopes=torch.rand(6, generator=generator),
        attn_mask=torch.rand(4, 1, 37, 60, generator=generator) > 0.3,
        regions=(torch.randint(0, 3, (37,), generator=generator), torch.randint(0, 3, (60,), generator=generator)),
    )


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"q": torch.zeros(2, 4, 5)}, "four axes"),
    ({"k": torch.zeros(2, 3, 6, 8), "v": torch.zeros(2, 3, 6, 8)}, "whole multiple"),
    ({"v": torch.zeros(2, 2, 6, 8, dtype=torch.bfloat16)}, "one floating dtype; cast q and k"),
    ({"v": torch.zeros(2, 2, 7, 8)}, "same number of keys"),
    ({"k": torch.zeros(2, 2, 6, 9)}, "same width"),
    ({"q": torch.zeros(1, 4, 5, 8)}, "batches"),
    ({"bias": torch.zeros(2)}, r"one a sequence is \(B, 1\)"),
    ({"scale": torch.zeros(4)}, "one number"),
    ({"additive_bias": torch.zeros(2, 4, 5, 7)}, r"additive_bias \(2, 4, 5, 7\) does not broadcast"),
    ({"additive_bias": torch.zeros(5, 6)}, "four axes"),
    ({"additive_bias": torch.zeros(1, 1, 5, 6, dtype=torch.bool)}, "attn_mask"),
    ({"attn_mask": torch.zeros(1, 1, 5, 6)}, "additive_bias"),
    ({"key_lengths": torch.tensor([6, 7])}, "between 0 and the 6 rows"),
    ({"key_lengths": torch.tensor([6])}, r"integers \(2,\)"),
    ({"cu_seqlens": torch.tensor([0, 5])}, "batch of one"),
    ({"cu_seqlens_k": torch.tensor([0, 5])}, "without cu_seqlens"),
    ({"axis_tables": [torch.zeros(2, 4, 5, 5)]}, "make a grid of 5 keys, k has 6"),
    ({"regions": torch.zeros(5)}, "no integers"),
    ({"alibi_slopes": torch.zeros(3)}, "heads 4"),
    ({"alibi_slopes": torch.zeros(4, requires_grad=True)}, "trainable additive_bias"),
    ({"window": (-2, 0)}, "-1 for no limit"),
    ({"impl": "cuda"}, "'torch', 'reference'"),
]


@pytest.mark.parametrize(("given", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_does_not_fit_is_refused_with_the_way_out(given: dict[str, Any], message: str) -> None:
    fitting = {"q": torch.zeros(2, 4, 5, 8), "k": torch.zeros(2, 2, 6, 8), "v": torch.zeros(2, 2, 6, 8)}
    with pytest.raises(ValueError, match=message):
        sigmoid_attention(**{**fitting, **given})


@pytest.mark.parametrize("ends", [[0, 3, 2, 5], [1, 5], [0, 4]])
def test_ends_of_packed_sequences_that_do_not_fit_are_refused(ends: list[int]) -> None:
    q, k, v = torch.zeros(3, 1, 2, 5, 8)
    with pytest.raises(ValueError, match="begin with 0, never fall and end with the 5"):
        sigmoid_attention(q, k, v, cu_seqlens=torch.tensor(ends))
