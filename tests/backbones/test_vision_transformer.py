"""The transformer over patches, whole and on visible tokens."""

import math
from typing import cast

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from medpipe.backbones.masked_autoencoder import TokenMaskedAutoencoder, build_sparse_autoencoder
from medpipe.backbones.masking import Visibility
from medpipe.backbones.options import LightDecoderOptions, VisionTransformerOptions
from medpipe.backbones.registry import build_volume_backbone
from medpipe.backbones.vision_transformer import TokenDecoder, VisionTransformer, VisionTransformerEncoder

IS_HIDDEN = torch.tensor([[[[False, True], [True, True]], [[False, False], [True, False]]]])


def tiny(**given: object) -> VisionTransformerOptions:
    return VisionTransformerOptions.model_validate({"size": "tiny", **given})


def volume(*size: int, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, 1, *size, generator=torch.Generator().manual_seed(0))


def encoder(**given: object) -> VisionTransformerEncoder:
    torch.manual_seed(0)
    return VisionTransformerEncoder(tiny(**given)).eval()


def test_a_patch_that_is_no_cube_has_maps_to_match() -> None:
    backbone = build_volume_backbone(tiny(patch=(2, 8, 8)))
    assert isinstance(backbone, VisionTransformer)
    assert backbone.strides == ((1, 1, 1), (2, 2, 2), (2, 4, 4))
    assert backbone.channels == (8, 16, 32)
    assert [tuple(x.shape) for x in backbone(volume(8, 16, 16))] == [
        (1, 8, 8, 16, 16), (1, 16, 4, 8, 8), (1, 32, 4, 4, 4),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
@pytest.mark.parametrize("position", ["rotary", "learned"])
def test_with_nothing_hidden_it_is_the_plain_encoder(kind: str, position: str) -> None:
    network, x = encoder(attention={"kind": kind}, position=position), volume(16, 16, 24)
    visibility = Visibility(torch.zeros(1, 1, 1, 3, dtype=torch.bool))
    torch.testing.assert_close(network(x, visibility), network(x))


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
def test_hidden_tokens_take_no_part(kind: str) -> None:
    network, x = encoder(attention={"kind": kind}), volume(32, 32, 32)
    visibility = Visibility(IS_HIDDEN)
    seen = network(x, visibility)
    is_visible = visibility.at((4, 4, 4)).is_visible
    assert not seen[(~is_visible).expand_as(seen)].any()
    spoilt = x.masked_fill(~visibility.at((32, 32, 32)).is_visible, math.nan)
    assert torch.equal(network(spoilt, visibility), seen)
    sizes: list[int] = []
    block = cast(nn.Module, network.tokens.blocks[0])
    block.register_forward_pre_hook(lambda module, inputs: sizes.append(inputs[0].shape[1]))
    network(x, visibility)
    assert sizes == [4 * 8]  # four visible blocks of eight tokens, not 64 tokens


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
def test_samples_with_different_counts_are_what_each_is_alone(kind: str) -> None:
    network, x = encoder(attention={"kind": kind}), volume(32, 32, 32, batch=2)
    is_hidden = torch.cat([IS_HIDDEN, ~IS_HIDDEN])
    is_hidden[1, 0, 0, 0] = False
    together = network(x, Visibility(is_hidden))
    for i in range(2):
        alone = network(x[i : i + 1], Visibility(is_hidden[i : i + 1]))
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-4)


def test_the_places_of_tokens_matter() -> None:
    for position in ("rotary", "learned"):
        network, x = encoder(position=position), volume(16, 16, 16)
        found = network(x)
        mirrored = network(x.flip(2).unflatten(2, (2, 8)).flip(3).flatten(2, 3))  # patches swapped, each as it was
        assert not torch.allclose(mirrored.flip(2), found, atol=1e-4)


def test_a_grid_beyond_the_learned_table_is_refused() -> None:
    with pytest.raises(ValueError, match=r"longer than the 2 places .* position: rotary"):
        encoder(position="learned", longest_side=2)(volume(16, 16, 24))


def test_a_patch_of_one_voxel_is_refused() -> None:
    with pytest.raises(ValidationError, match="every voxel would be a token"):
        tiny(patch=(1, 1, 1))


def test_voxels_come_back_to_their_places() -> None:
    decoder = TokenDecoder(tiny(patch=(2, 4, 8)), width=32)
    decoder.head = nn.Linear(32, 64)
    nn.init.zeros_(decoder.head.weight)
    with torch.no_grad():
        decoder.head.bias.copy_(torch.arange(64.0))
    visible = Visibility(torch.zeros(1, 1, 1, 1, dtype=torch.bool)).at((2, 2, 2))
    out = decoder(torch.randn(1, 96, 2, 2, 2), visible)
    expected = torch.arange(64.0).view(2, 4, 8).repeat(2, 2, 2)
    assert torch.equal(out[0, 0], expected)


def test_the_masked_autoencoder_trains_every_parameter_and_hands_over_its_encoder() -> None:
    torch.manual_seed(0)
    network = build_sparse_autoencoder(tiny(), LightDecoderOptions(width=64))
    assert isinstance(network, TokenMaskedAutoencoder)
    assert network.block_size == (16, 16, 16)
    x = volume(32, 32, 32)
    out = network(x, IS_HIDDEN)
    assert out.shape == x.shape
    (out * torch.randn_like(out)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in network.parameters())
    learned = {name: value for name, value in network.state_dict().items() if name.startswith("encoder.")}
    found = VisionTransformer(tiny()).load_state_dict(learned, strict=False)
    assert not found.unexpected_keys
    assert all(name.startswith("decoder.") for name in found.missing_keys)


def test_a_few_steps_learn_to_fill_in() -> None:
    torch.manual_seed(0)
    network = build_sparse_autoencoder(tiny(), LightDecoderOptions(width=32))
    ramp = torch.linspace(-1, 1, 32)[:, None, None].expand(1, 1, 32, 32, 32)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(40):
        loss = (network(ramp, IS_HIDDEN) - ramp).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]
