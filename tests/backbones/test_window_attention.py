"""Attention within windows: monai's function by softmax, the definition by sigmoid, with the same weights."""

import math
from collections.abc import Sequence

import pytest
import torch
from monai.networks.nets.swin_unetr import WindowAttention as MonaiWindowAttention
from monai.networks.nets.swin_unetr import compute_mask
from torch import Tensor

from medpipe.backbones.window_attention import (
    WindowAttention,
    attend_by_sigmoid,
    readers_of_rows,
    relative_places,
    sum_by_adding,
    sum_by_gathering,
)
from medpipe.kernels.sigmoid_attention.entry import sigmoid_attention

DIM, HEADS = 12, 3
WINDOWS = [(2, 3, 4), (3, 3, 3), (1, 2, 5), (4, 3)]


def monai(window: Sequence[int], qkv_bias: bool = True) -> MonaiWindowAttention:
    """With a relative bias large enough to be seen: monai's own begins at 0.02."""
    torch.manual_seed(0)
    layer = MonaiWindowAttention(DIM, HEADS, window, qkv_bias)
    torch.nn.init.normal_(layer.relative_position_bias_table)
    return layer


def ours(window: Sequence[int], attention: str, qkv_bias: bool = True) -> WindowAttention:
    layer = WindowAttention(DIM, HEADS, window, qkv_bias, attention=attention)
    layer.load_state_dict(monai(window, qkv_bias).state_dict())
    return layer


def tokens(num_windows: int, window: Sequence[int]) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(num_windows, math.prod(window), DIM, generator=generator)


def shift_mask(window: Sequence[int], volume: Sequence[int] = (2, 2, 2)) -> Tensor:
    """monai's, of a volume of so many windows."""
    dims = [side * count for side, count in zip(window, volume, strict=False)]
    return compute_mask(dims, window, [side // 2 for side in window], "cpu")


def by_hand(layer: WindowAttention, x: Tensor, mask: Tensor | None, kind: str) -> Tensor:
    """One window and one head after the other, the relative bias from monai's index."""
    width, (batch, num_tokens, _) = DIM // HEADS, x.shape
    index = layer.relative_position_index[:num_tokens, :num_tokens]
    rows = []
    for b in range(batch):
        q, k, v = layer.qkv(x[b]).view(num_tokens, 3, HEADS, width).unbind(1)
        heads = []
        for h in range(HEADS):
            scores = q[:, h] @ k[:, h].mT / math.sqrt(width) + layer.relative_position_bias_table[index, h]
            seen = torch.zeros_like(scores) if mask is None else mask[b % len(mask)]
            if kind == "softmax":
                weights = (scores + seen).softmax(-1)
            else:
                weights = torch.sigmoid(scores - math.log(num_tokens)) * (seen == 0)
            heads.append(weights @ v[:, h])
        rows.append(layer.proj(torch.cat(heads, -1)))
    return torch.stack(rows)


def output_and_gradients(layer: torch.nn.Module, x: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
    x = x.clone().requires_grad_()
    out = layer(x, mask)
    names, parameters = zip(*sorted(layer.named_parameters()), strict=True)
    seed = torch.Generator().manual_seed(2)
    grad_out = torch.randn(out.shape, generator=seed, dtype=torch.float64).to(out)
    return {"out": out, **dict(zip(("x", *names), torch.autograd.grad(out, (x, *parameters), grad_out), strict=True))}


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("is_shifted", [False, True])
def test_by_softmax_it_is_monais_with_every_gradient(window: Sequence[int], is_shifted: bool) -> None:
    mask = shift_mask(window) if is_shifted else None
    x = tokens(2 * (len(mask) if mask is not None else 3), window)
    expected = output_and_gradients(monai(window), x, mask)
    torch.testing.assert_close(output_and_gradients(ours(window, "softmax"), x, mask), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("is_shifted", [False, True])
def test_each_window_is_its_formula(kind: str, window: Sequence[int], is_shifted: bool) -> None:
    """Two volumes one after the other: a window reads the mask of its own place in either."""
    layer, mask = ours(window, kind).double(), shift_mask(window) if is_shifted else None
    x = tokens(2 * (len(mask) if mask is not None else 3), window).double()
    torch.testing.assert_close(layer(x, mask), by_hand(layer, x, mask, kind))


def test_a_shifted_window_does_not_see_across_its_seam() -> None:
    layer, mask = ours((2, 3, 4), "sigmoid"), shift_mask((2, 3, 4))
    x = tokens(8, (2, 3, 4))
    spoilt, hidden_from_first = x.clone(), mask[-1, 0] != 0
    assert 0 < hidden_from_first.sum() < 24  # the last window is cut along every axis
    spoilt[-1, hidden_from_first] = 7.0
    change = (layer(spoilt, mask) - layer(x, mask)).abs().amax(-1)
    assert not change[:-1].any()
    assert torch.equal(change[-1] > 0, hidden_from_first)


@pytest.mark.parametrize("is_shifted", [False, True])
def test_by_sigmoid_output_and_gradients_are_the_definitions(is_shifted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    window = (2, 3, 4)
    mask, layer = shift_mask(window) if is_shifted else None, ours(window, "sigmoid").double()
    found = output_and_gradients(layer, tokens(16, window).double(), mask)

    def definition(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
        visible = None if mask is None else (mask == 0)[:, None]
        return sigmoid_attention(q, k, v, additive_bias=bias[None], attn_mask=visible, impl="reference")

    monkeypatch.setattr("medpipe.backbones.window_attention.attend_by_sigmoid", definition)
    torch.testing.assert_close(found, output_and_gradients(layer, tokens(16, window).double(), mask))
    assert found["relative_position_bias_table"].any(1).all()  # every relative place is learned


def test_hidden_keys_are_counted_in_the_bias() -> None:
    nothing, mask = torch.zeros(1, 1, 8, 4), torch.zeros(1, 8, 8)
    mask[:, :, 3:] = -100.0
    found = attend_by_sigmoid(nothing, nothing, nothing + 1, torch.zeros(1, 8, 8), mask)
    torch.testing.assert_close(found, torch.full_like(found, 3 / 9))  # three times sigmoid(-log 8)


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
def test_a_window_of_fewer_tokens_reads_the_bias_of_the_first_ones_as_monai_does(kind: str) -> None:
    layer, x = ours((3, 3, 3), kind).double(), tokens(2, (2, 2, 3)).double()
    torch.testing.assert_close(layer(x, None), by_hand(layer, x, None, kind))
    if kind == "softmax":
        torch.testing.assert_close(layer(x, None), monai((3, 3, 3)).double()(x, None))


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("qkv_bias", [False, True])
def test_weights_have_monais_names_shapes_and_index(window: Sequence[int], qkv_bias: bool) -> None:
    theirs = monai(window, qkv_bias).state_dict()
    plain = WindowAttention(DIM, HEADS, window, qkv_bias).state_dict()
    assert {name: value.shape for name, value in plain.items()} == {name: v.shape for name, v in theirs.items()}
    assert torch.equal(plain["relative_position_index"], theirs["relative_position_index"])


@pytest.mark.parametrize("window", WINDOWS)
def test_both_sums_over_readers_are_the_gradient_of_indexing(window: Sequence[int]) -> None:
    index = relative_places(window)
    table = torch.randn(int(index.max()) + 1, HEADS, dtype=torch.float64, requires_grad=True)
    grad = torch.randn(HEADS, *index.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    (expected,) = torch.autograd.grad(table[index].permute(2, 0, 1), table, grad)
    torch.testing.assert_close(sum_by_gathering(grad, readers_of_rows(index)), expected)
    torch.testing.assert_close(sum_by_adding(grad, index, len(table)), expected)


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
@pytest.mark.parametrize("is_shifted", [False, True])
def test_autocast_reaches_the_operands_and_the_table(kind: str, is_shifted: bool) -> None:
    window = (3, 3, 3)
    layer, mask, x = ours(window, kind), shift_mask(window) if is_shifted else None, tokens(8, window)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = output_and_gradients(layer, x, mask)
    assert found["out"].dtype == torch.bfloat16
    exact = output_and_gradients(layer, x, mask)
    for name, value in exact.items():
        error = (found[name].float() - value).square().mean().sqrt() / value.square().mean().sqrt()
        assert error < 0.02, name


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="12 does not divide into 5 heads"):
        WindowAttention(12, 5, (2, 2, 2))
    with pytest.raises(ValueError, match="'linear': there are 'sigmoid' and 'softmax'"):
        WindowAttention(12, 3, (2, 2, 2), attention="linear")  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
@pytest.mark.parametrize("is_shifted", [False, True])
def test_a_gpu_gives_what_a_cpu_gives_in_float64_and_the_table_the_same_gradient_twice(
    kind: str, is_shifted: bool
) -> None:
    window = (7, 7, 7)
    layer, mask, x = ours(window, kind), shift_mask(window) if is_shifted else None, tokens(16, window)
    expected = output_and_gradients(layer.double(), x.double(), mask)
    layer, x, mask = layer.float().cuda(), x.cuda(), None if mask is None else mask.cuda()
    found, again = (output_and_gradients(layer, x, mask) for _ in range(2))
    for name, value in expected.items():
        error = (found[name].cpu() - value).square().mean().sqrt() / value.square().mean().sqrt()
        assert error < 1e-4, name
    if kind == "sigmoid":
        assert torch.equal(found["relative_position_bias_table"], again["relative_position_bias_table"])
