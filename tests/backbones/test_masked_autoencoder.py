"""The pretraining network as a whole."""

import math

import pytest
import torch

from medpipe.backbones.masked_autoencoder import SparseMaskedAutoencoder, build_sparse_autoencoder
from medpipe.backbones.masking import Visibility
from medpipe.backbones.options import (
    LightDecoderOptions,
    SegResNetOptions,
    SparseForm,
    StunetOptions,
    VisionTransformerOptions,
)
from medpipe.backbones.stunet import Stunet

TINY = StunetOptions(size="tiny", tiny_width=4)
IS_HIDDEN = torch.rand(2, 2, 2, 3, generator=torch.Generator().manual_seed(3)) < 0.6


@pytest.fixture
def autoencoder() -> SparseMaskedAutoencoder:
    torch.manual_seed(0)
    return build_sparse_autoencoder(TINY, LightDecoderOptions(width=32, min_width=4))


def test_the_reconstruction_has_the_grid_of_the_volume(autoencoder: SparseMaskedAutoencoder) -> None:
    assert autoencoder.block_size == (16, 16, 16)
    assert autoencoder(torch.randn(2, 1, 32, 32, 48), IS_HIDDEN).shape == (2, 1, 32, 32, 48)


def test_hidden_voxels_have_no_influence(autoencoder: SparseMaskedAutoencoder) -> None:
    volume = torch.randn(2, 1, 32, 32, 48)
    is_hidden_voxel = IS_HIDDEN.unsqueeze(1)
    for axis in (2, 3, 4):
        is_hidden_voxel = is_hidden_voxel.repeat_interleave(16, dim=axis)
    spoilt = volume.masked_fill(is_hidden_voxel, math.nan)
    assert torch.equal(autoencoder(spoilt, IS_HIDDEN), autoencoder(volume, IS_HIDDEN))


def test_every_parameter_has_a_gradient(autoencoder: SparseMaskedAutoencoder) -> None:
    autoencoder = autoencoder.double()
    reconstruction = autoencoder(torch.randn(2, 1, 32, 32, 48).double(), IS_HIDDEN)
    (reconstruction * torch.randn_like(reconstruction)).sum().backward()
    for name, parameter in autoencoder.named_parameters():
        assert parameter.grad is not None, name
        # A constant added before a normalisation is taken away by it; published counts include these biases.
        if not (name.startswith("encoder.") and name.endswith(("conv1.bias", "conv2.bias"))):
            assert parameter.grad.abs().max() > 1e-9, name


def test_only_levels_that_the_decoder_reads_have_a_mask_vector(autoencoder: SparseMaskedAutoencoder) -> None:
    vectors = [len(value) for name, value in autoencoder.named_parameters() if name.endswith("mask_vector")]
    assert vectors == [64, 32, 16, 8]
    assert not any("levels.5" in name for name in autoencoder.state_dict())


def test_a_step_of_training_keeps_nothing_of_the_last_mask(autoencoder: SparseMaskedAutoencoder) -> None:
    volume = torch.randn(2, 1, 32, 32, 48)
    first = autoencoder(volume, IS_HIDDEN)
    autoencoder(volume, ~IS_HIDDEN)
    assert torch.equal(autoencoder(volume, IS_HIDDEN), first)


def test_its_encoder_goes_into_the_whole_network_by_name(autoencoder: SparseMaskedAutoencoder) -> None:
    whole = Stunet(TINY)
    learned = {name: value for name, value in autoencoder.state_dict().items() if name.startswith("encoder.")}
    assert not whole.load_state_dict(learned, strict=False).unexpected_keys


def test_blocks_that_are_no_cubes_work_throughout() -> None:
    options = StunetOptions(size="tiny", tiny_width=4, strides=((1, 2, 2), *((2, 2, 2),) * 4))
    autoencoder = build_sparse_autoencoder(options, LightDecoderOptions(width=16))
    assert autoencoder.block_size == (8, 16, 16)
    assert autoencoder(torch.randn(2, 1, 16, 32, 48), IS_HIDDEN).shape == (2, 1, 16, 32, 48)


def test_a_backbone_without_a_sparse_form_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'segresnet' has no sparse form"):
        build_sparse_autoencoder(SegResNetOptions())


@pytest.mark.parametrize("form", ["masked", "gathered"])
def test_a_decoder_on_hidden_blocks_alone_reconstructs_those_and_no_others(form: SparseForm) -> None:
    torch.manual_seed(0)
    options = LightDecoderOptions(width=32, min_width=4, hidden_only=True)
    network = build_sparse_autoencoder(TINY, options, form=form).double()
    y = network(torch.randn(2, 1, 32, 32, 48).double(), IS_HIDDEN)
    is_hidden = ~Visibility(IS_HIDDEN).at((32, 32, 48)).is_visible
    assert torch.equal(y != 0, is_hidden)
    y.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_both_forms_of_the_whole_network_have_one_loss_curve() -> None:
    curves = []
    for form in ("masked", "gathered", "measured"):
        torch.manual_seed(0)
        options = LightDecoderOptions(width=32, min_width=4, hidden_only=True)
        network = build_sparse_autoencoder(TINY, options, form=form).double()
        volume, optimiser = torch.randn(2, 1, 32, 32, 48).double(), torch.optim.SGD(network.parameters(), 0.05)
        curve = []
        for _ in range(5):
            loss = (network(volume, IS_HIDDEN) - volume).square().mean()
            curve.append(float(loss.detach()))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        curves.append(curve)
    assert curves[0][-1] < curves[0][0]
    assert curves[1] == pytest.approx(curves[0], rel=1e-10)
    assert curves[2] == pytest.approx(curves[0], rel=1e-10)


def test_a_transformer_has_no_decoder_on_hidden_blocks_alone() -> None:
    with pytest.raises(ValueError, match="encoder of convolutions"):
        build_sparse_autoencoder(VisionTransformerOptions(size="tiny"), LightDecoderOptions(hidden_only=True))
