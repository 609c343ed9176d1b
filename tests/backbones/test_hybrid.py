"""STU-Net with transformer blocks on its two coarsest levels."""

import math

import pytest
import torch

from medpipe.backbones.hybrid import Hybrid, HybridEncoder
from medpipe.backbones.masked_autoencoder import SparseMaskedAutoencoder, build_sparse_autoencoder
from medpipe.backbones.masking import Visibility
from medpipe.backbones.options import HybridOptions, LightDecoderOptions
from medpipe.backbones.stunet import StunetEncoder

IS_HIDDEN = torch.tensor([[[[False, True], [True, True]], [[False, False], [True, False]]]])


def tiny(**given: object) -> HybridOptions:
    return HybridOptions.model_validate({"size": "tiny", "tiny_width": 4, **given})


def volume() -> torch.Tensor:
    return torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))


def encoder(kind: str = "sigmoid") -> HybridEncoder:
    torch.manual_seed(0)
    return HybridEncoder(tiny(attention={"kind": kind}), num_levels=5).eval()


def test_its_finer_levels_are_stunets() -> None:
    hybrid, plain = encoder(), StunetEncoder(tiny().stunet, num_levels=5)
    plain.load_state_dict({k: v for k, v in hybrid.state_dict().items() if k.startswith("levels.")})
    *finer, coarsest = hybrid(volume())
    *expected, before = plain(volume())
    assert all(torch.equal(*pair) for pair in zip(finer, expected, strict=True))
    torch.testing.assert_close(coarsest, hybrid.tokens[0](before))
    assert not torch.allclose(coarsest, before)


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
def test_hidden_blocks_take_no_part(kind: str) -> None:
    network, visibility = encoder(kind), Visibility(IS_HIDDEN)
    maps = network(volume(), visibility)
    spoilt = volume().masked_fill(~visibility.at((32, 32, 32)).is_visible, math.nan)
    assert all(torch.equal(*pair) for pair in zip(network(spoilt, visibility), maps, strict=True))
    for x in maps:
        assert not x[(~visibility.at(x.shape[2:]).is_visible).expand_as(x)].any()


def test_masked_pretraining_hands_its_encoder_over() -> None:
    torch.manual_seed(0)
    network = build_sparse_autoencoder(tiny(), LightDecoderOptions(width=16, min_width=4))
    assert isinstance(network, SparseMaskedAutoencoder)
    assert network.block_size == (16, 16, 16)
    out = network(volume(), IS_HIDDEN)
    (out * torch.randn_like(out)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    learned = {name: value for name, value in network.state_dict().items() if name.startswith("encoder.")}
    assert any(name.startswith("encoder.tokens.0.") for name in learned)
    assert not Hybrid(tiny()).load_state_dict(learned, strict=False).unexpected_keys
