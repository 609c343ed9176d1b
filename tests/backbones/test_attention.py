"""The attention layer and the block around it."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from medpipe.backbones.attention import Attention, LayerScale, TransformerBlock
from medpipe.backbones.options import AttentionOptions
from medpipe.backbones.rotary import axial_angles

KINDS = ("sigmoid", "softmax")
GATES = ("none", "headwise", "elementwise")


def options(**given: object) -> AttentionOptions:
    return AttentionOptions.model_validate(given)


def layer(**given: object) -> Attention:
    torch.manual_seed(0)
    return Attention(24, 3, options(**given)).double()


def tokens(batch: int = 2, length: int = 10) -> Tensor:
    return torch.randn(batch, length, 24, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gate", GATES)
def test_the_layer_is_its_formula(kind: str, gate: str) -> None:
    attention, x = layer(kind=kind, gate=gate), tokens()
    q, k, v = attention.qkv(x).view(2, 10, 3, 3, 8).permute(2, 0, 3, 1, 4)
    scores = functional.layer_norm(q, (8,), eps=1e-6) @ functional.layer_norm(k, (8,), eps=1e-6).mT / math.sqrt(8)
    weights = torch.sigmoid(scores - math.log(10)) if kind == "sigmoid" else scores.softmax(-1)
    found = (weights @ v).transpose(1, 2)
    if attention.gate is not None:
        gates = torch.sigmoid(attention.gate(x))
        found = found * (gates[..., None] if gate == "headwise" else gates.view(2, 10, 3, 8))
    torch.testing.assert_close(attention(x), attention.projection(found.reshape(2, 10, 24)))


@pytest.mark.parametrize("gate", GATES)
def test_a_gate_costs_what_it_says(gate: str) -> None:
    plain, gated = (sum(p.numel() for p in layer(gate=one).parameters()) for one in ("none", gate))
    assert gated - plain == {"none": 0, "headwise": 24 * 3, "elementwise": 24 * 24}[gate]


@pytest.mark.parametrize("kind", KINDS)
def test_padded_tokens_change_nothing(kind: str) -> None:
    attention, x = layer(kind=kind), tokens()
    x[1, 6:] = 1e6
    out = attention(x, key_lengths=torch.tensor([10, 6]))
    torch.testing.assert_close(out[:1], attention(x[:1]))
    torch.testing.assert_close(out[1:, :6], attention(x[1:, :6]))


@pytest.mark.parametrize("kind", KINDS)
def test_regions_and_additive_bias_mean_the_same_in_both_kinds(kind: str) -> None:
    attention, x = layer(kind=kind), tokens(batch=4)
    regions = torch.tensor([[0] * 10, [0] * 4 + [1] * 6])
    additive = torch.zeros(2, 1, 10, 10).double()
    additive[1, :, :4, 4:] = additive[1, :, 4:, :4] = -torch.inf
    by_regions = attention(x, regions=regions)
    torch.testing.assert_close(by_regions, attention(x, additive_bias=additive))
    torch.testing.assert_close(attention(x, regions=regions, additive_bias=0 * additive.clamp(min=-1)), by_regions)
    changed = x.clone()
    changed[1, 4:] = 0
    torch.testing.assert_close(attention(changed, regions=regions)[1, :4], by_regions[1, :4])


@pytest.mark.parametrize("kind", KINDS)
def test_a_permutation_of_tokens_permutes_the_output(kind: str) -> None:
    attention, x = layer(kind=kind, gate="headwise"), tokens()
    order = torch.randperm(10, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(attention(x[:, order]), attention(x)[:, order])


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_reaches_the_operands(kind: str) -> None:
    attention = layer(kind=kind).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = attention(tokens().float(), rotary=axial_angles((1, 2, 5), 8, torch.device("cpu")))
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in attention.parameters())


def test_a_block_is_its_formula_and_hybrid_norm_stands_before_the_sum() -> None:
    torch.manual_seed(0)
    block = TransformerBlock(24, 3, options(layer_scale=0.3, hybrid_norm=True)).double()
    x = tokens()
    middle = x + 0.3 * functional.layer_norm(block.attention(block.norm1(x)), (24,), eps=1e-6)
    torch.testing.assert_close(block(x), middle + 0.3 * block.mlp(block.norm2(middle)))


def test_layer_scale_and_hybrid_norm_are_left_out_when_not_asked_for() -> None:
    block = TransformerBlock(24, 3, options(layer_scale=None, qk_norm=False))
    assert not [m for m in block.modules() if isinstance(m, LayerScale)]
    assert len([m for m in block.modules() if isinstance(m, nn.LayerNorm)]) == 2


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="24 does not divide into 5 heads"):
        Attention(24, 5, options())
