"""The pretraining network as a whole."""

import math

import pytest
import torch

from medpipe.backbones.masked_autoencoder import SparseMaskedAutoencoder, build_sparse_autoencoder
from medpipe.backbones.options import LightDecoderOptions, SegResNetOptions, StunetOptions
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
