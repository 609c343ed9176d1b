"""STU-Net: its published sizes, its shapes, and its encoder on visible blocks alone."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medpipe.backbones.masking import Visibility
from medpipe.backbones.options import SparseForm, StunetOptions
from medpipe.backbones.sparse_map import sparse_input
from medpipe.backbones.stunet import ResidualBlock, Stunet, StunetEncoder

FORMS = pytest.mark.parametrize("form", ["masked", "gathered", "measured"])
TINY = StunetOptions(size="tiny", tiny_width=4)
PUBLISHED_COUNTS = {"small": 14.597e6, "base": 58.263e6, "large": 440.303e6, "huge": 1457.326e6}


def num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture
def encoder() -> StunetEncoder:
    """The five levels of pretraining in float64, with affine values that would show where they are left out."""
    torch.manual_seed(0)
    encoder = StunetEncoder(TINY, num_levels=5).double()
    for parameter in encoder.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter)
    return encoder


def is_hidden_blocks(*size: int) -> Tensor:
    """About 60 % of the blocks, not as many in each sample."""
    return torch.rand(size, generator=torch.Generator().manual_seed(3)) < 0.6


def test_parameter_counts_are_the_published_ones() -> None:
    for size, published in PUBLISHED_COUNTS.items():
        with torch.device("meta"):
            backbone = Stunet(StunetOptions.model_validate({"size": size}))
            heads = nn.ModuleList(nn.Conv3d(channels, 105, kernel_size=1) for channels in backbone.channels)
        # Published to a thousand parameters.
        assert num_parameters(backbone) + num_parameters(heads) == pytest.approx(published, abs=500), size


def test_maps_come_finest_first_in_the_promised_channels_and_strides() -> None:
    backbone = Stunet(TINY, in_channels=2)
    maps = backbone(torch.randn(1, 2, 32, 64, 64))
    assert [x.shape[1] for x in maps] == [4, 8, 16, 32, 64] == list(backbone.channels)
    assert [tuple(x.shape[2:]) for x in maps] == [(32 // s, 64 // s, 64 // s) for s in (1, 2, 4, 8, 16)]
    assert backbone.strides == tuple((s, s, s) for s in (1, 2, 4, 8, 16))


def test_steps_may_differ_between_axes() -> None:
    strides = ((1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    backbone = Stunet(StunetOptions(size="tiny", tiny_width=4, strides=strides))
    assert backbone.divisor == (8, 32, 32)
    maps = backbone(torch.randn(1, 1, 16, 32, 32))
    assert [tuple(x.shape[2:]) for x in maps] == [(16, 32, 32), (16, 16, 16), (16, 8, 8), (8, 4, 4), (4, 2, 2)]


def test_every_parameter_has_a_gradient() -> None:
    torch.manual_seed(0)
    backbone = Stunet(TINY).double()
    sum((x * torch.randn_like(x)).sum() for x in backbone(torch.randn(1, 1, 32, 32, 64).double())).backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, name
        # A constant added before a normalisation is taken away by it; published counts include these biases.
        if not name.endswith(("conv1.bias", "conv2.bias")):
            assert parameter.grad.abs().max() > 1e-9, name


@FORMS
def test_changing_hidden_voxels_changes_nothing_bit_for_bit(encoder: StunetEncoder, form: SparseForm) -> None:
    encoder = encoder.float()
    is_hidden = is_hidden_blocks(2, 2, 2, 3)
    visible = Visibility(is_hidden).at((32, 32, 48)).is_visible
    volume = torch.randn(2, 1, 32, 32, 48)
    expected = encoder(volume, Visibility(is_hidden, form))
    for value in (1e6, -math.inf, math.nan):
        actual = encoder(torch.where(visible, volume, value), Visibility(is_hidden, form))
        assert all(torch.equal(x, y) for x, y in zip(actual, expected, strict=True)), value


@FORMS
def test_every_map_is_zero_on_hidden_voxels_and_nowhere_else(encoder: StunetEncoder, form: SparseForm) -> None:
    visibility = Visibility(is_hidden_blocks(2, 2, 2, 3), form)
    maps = encoder(torch.randn(2, 1, 32, 32, 48).double(), visibility)
    assert len(maps) == 5
    for x in maps:
        is_visible = visibility.at(x.shape[2:]).is_visible.expand_as(x)
        assert torch.equal(x != 0, is_visible)


@FORMS
def test_a_batch_of_two_is_two_batches_of_one(encoder: StunetEncoder, form: SparseForm) -> None:
    volume, is_hidden = torch.randn(2, 1, 32, 32, 48).double(), is_hidden_blocks(2, 2, 2, 3)
    assert is_hidden[0].sum() != is_hidden[1].sum()
    together = encoder(volume, Visibility(is_hidden, form))
    for sample in range(2):
        one = slice(sample, sample + 1)
        alone = encoder(volume[one], Visibility(is_hidden[one], form))
        torch.testing.assert_close([x[one] for x in together], list(alone), atol=1e-12, rtol=1e-12)


@FORMS
def test_with_nothing_hidden_it_is_the_plain_encoder(encoder: StunetEncoder, form: SparseForm) -> None:
    volume, nothing = torch.randn(2, 1, 32, 32, 48), torch.zeros(2, 2, 2, 3, dtype=torch.bool)
    sparse, plain = encoder(volume.double(), Visibility(nothing, form)), encoder(volume.double())
    torch.testing.assert_close(sparse, plain, atol=1e-12, rtol=1e-12)
    encoder = encoder.float()
    # Ten normalisations and as many convolutions in float32, values of order ten.
    torch.testing.assert_close(encoder(volume, Visibility(nothing, form)), encoder(volume), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("form", ["gathered", "measured"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_the_forms_agree_in_maps_and_gradients(encoder: StunetEncoder, form: SparseForm, share: float) -> None:
    volume = torch.randn(2, 1, 32, 48, 64, requires_grad=True, dtype=torch.float64)
    is_hidden = torch.rand(2, 2, 3, 4, generator=torch.Generator().manual_seed(3)) < share
    leaves = [volume, *encoder.parameters()]
    masked, other = (encoder(volume, Visibility(is_hidden, kind)) for kind in ("masked", form))
    torch.testing.assert_close(other, masked, atol=1e-10, rtol=1e-10)
    directions = [torch.randn_like(x) for x in masked]
    expected, actual = (torch.autograd.grad(maps, leaves, directions) for maps in (masked, other))
    for x, y in zip(actual, expected, strict=True):
        torch.testing.assert_close(x, y, atol=1e-10 * float(y.abs().max().clamp(min=1)), rtol=0)


@FORMS
def test_half_precision_is_near_single_precision(encoder: StunetEncoder, form: SparseForm) -> None:
    encoder, visibility = encoder.float(), Visibility(is_hidden_blocks(1, 2, 2, 3), form)
    volume = torch.randn(1, 1, 32, 32, 48)
    single = encoder(volume, visibility, num_levels=3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = encoder(volume, visibility, num_levels=3)
    for x, y in zip(half, single, strict=True):
        # Six convolutions, each rounding its inputs to 8 bits.
        assert (x.float() - y).std() < 0.05 * y.std()
        assert torch.count_nonzero(x.masked_fill(visibility.at(x.shape[2:]).is_visible, 0)) == 0


@FORMS
def test_blocks_need_not_be_cubes(form: SparseForm) -> None:
    torch.manual_seed(0)
    strides = ((1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    encoder = StunetEncoder(StunetOptions(size="tiny", tiny_width=4, strides=strides), num_levels=5)
    assert encoder.strides[-1] == (8, 16, 16)
    visibility = Visibility(is_hidden_blocks(1, 2, 2, 3), form)
    volume = torch.randn(1, 1, 16, 32, 48)
    maps = encoder(volume, visibility)
    assert tuple(maps[-1].shape[2:]) == (2, 2, 3)
    spoilt = torch.where(visibility.at((16, 32, 48)).is_visible, volume, math.nan)
    assert all(torch.equal(x, y) for x, y in zip(encoder(spoilt, visibility), maps, strict=True))


def test_blocks_finer_than_the_coarsest_level_are_refused(encoder: StunetEncoder) -> None:
    with pytest.raises(ValueError, match="no whole multiple"):
        encoder(torch.randn(1, 1, 32, 32, 32).double(), Visibility(is_hidden_blocks(1, 4, 4, 4)))


def test_fewer_levels_are_the_first_ones_under_the_same_names() -> None:
    torch.manual_seed(0)
    whole, five = StunetEncoder(TINY), StunetEncoder(TINY, num_levels=5)
    missing = five.load_state_dict(whole.state_dict(), strict=False)
    assert not missing.missing_keys
    assert all(name.startswith("levels.5.") for name in missing.unexpected_keys)
    volume = torch.randn(1, 1, 32, 32, 32)
    torch.testing.assert_close(five(volume), whole(volume, num_levels=5), rtol=0, atol=0)


Site = tuple[int, ...]


def convolved_by_definition(
    sites: dict[Site, np.ndarray], conv: nn.Conv3d, outputs: list[Site]
) -> dict[Site, np.ndarray]:
    """Submanifold convolution: a sum over the neighbours that exist, at the sites that are asked for."""
    weight, bias = (parameter.detach().numpy() for parameter in (conv.weight, conv.bias))
    result = {}
    for output in outputs:
        result[output] = bias.copy()
        for tap in np.ndindex(*conv.kernel_size):
            site = tuple(int(o * s + t - p) for o, s, t, p in zip(output, conv.stride, tap, conv.padding, strict=True))
            if site in sites:
                result[output] += weight[(slice(None), slice(None), *tap)] @ sites[site]
    return result


def normalised_by_definition(sites: dict[Site, np.ndarray]) -> dict[Site, np.ndarray]:
    values = np.stack(list(sites.values()))
    scaled = (values - values.mean(0)) / np.sqrt(values.var(0) + 1e-5)
    return dict(zip(sites, scaled, strict=True))


def leaky(sites: dict[Site, np.ndarray]) -> dict[Site, np.ndarray]:
    return {site: np.where(value > 0, value, 0.01 * value) for site, value in sites.items()}


@pytest.mark.parametrize("stride", [(1, 1, 1), (2, 2, 2), (1, 2, 2)])
@FORMS
def test_a_sparse_block_is_the_submanifold_block_by_definition(stride: tuple[int, int, int], form: SparseForm) -> None:
    torch.manual_seed(0)
    block = ResidualBlock(2, 3, stride=stride, projected=True).double()
    assert block.shortcut is not None
    visibility = Visibility(torch.tensor([[[[0, 1], [0, 0]], [[1, 1], [0, 1]]]], dtype=torch.bool))
    fine, coarse = visibility.at((4, 4, 4)), visibility.at(tuple(4 // step for step in stride))
    volume = fine.only_visible(torch.randn(1, 2, 4, 4, 4).double())
    sites = {tuple(site): volume[(0, slice(None), *site)].numpy() for site in fine.is_visible[0, 0].nonzero().tolist()}
    outputs = [tuple(site) for site in coarse.is_visible[0, 0].nonzero().tolist()]

    y = leaky(normalised_by_definition(convolved_by_definition(sites, block.conv1, outputs)))
    y = normalised_by_definition(convolved_by_definition(y, block.conv2, outputs))
    shortcut = convolved_by_definition(sites, block.shortcut, outputs)
    expected = leaky({site: y[site] + shortcut[site] for site in outputs})

    x = sparse_input(volume, visibility).laid_out(is_gathered=form == "gathered")
    actual = block.sparse(x).dense().detach().numpy()[0]
    for site in outputs:
        np.testing.assert_allclose(actual[(slice(None), *site)], expected[site], atol=1e-12)
    assert np.count_nonzero(actual.any(axis=0)) == len(outputs)
