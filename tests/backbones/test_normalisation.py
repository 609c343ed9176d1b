"""Instance normalisation over all voxels and over the visible ones."""

import pytest
import torch
from torch import Tensor

from medpipe.backbones.masking import Visibility
from medpipe.backbones.normalisation import InstanceNorm
from medpipe.backbones.sparse_map import SparseMap, sparse_input

FORMS = pytest.mark.parametrize("form", ["masked", "gathered"])


def random_norm(channels: int) -> InstanceNorm:
    norm = InstanceNorm(channels).double()
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    return norm


def in_form(x: Tensor, visibility: Visibility, form: str) -> SparseMap:
    return sparse_input(x, visibility).laid_out(is_gathered=form == "gathered")


def normalised_by_definition(x: Tensor, is_visible: Tensor, norm: InstanceNorm) -> Tensor:
    out = torch.zeros_like(x)
    for sample in range(x.shape[0]):
        seen = is_visible[sample, 0]
        for channel in range(x.shape[1]):
            values = x[sample, channel][seen]
            if len(values):
                scaled = (values - values.mean()) / (values.var(correction=0) + norm.eps).sqrt()
                out[sample, channel][seen] = scaled * norm.weight[channel] + norm.bias[channel]
    return out


@pytest.fixture
def half_hidden() -> Visibility:
    """Three samples with different numbers of visible blocks, the last with none."""
    is_hidden = torch.rand(3, 2, 2, 2, generator=torch.Generator().manual_seed(1)) < 0.5
    is_hidden[0, 0] = False
    is_hidden[2] = True
    return Visibility(is_hidden)


@FORMS
def test_the_sparse_forms_are_the_definition_in_value_and_gradient(half_hidden: Visibility, form: str) -> None:
    torch.manual_seed(0)
    norm, visible = random_norm(4), half_hidden.at((4, 6, 4))
    x = torch.randn(3, 4, 4, 6, 4, dtype=torch.float64, requires_grad=True)
    direction = torch.randn_like(x)
    actual = norm.sparse(in_form(x, half_hidden, form)).dense()
    expected = normalised_by_definition(x, visible.is_visible, norm)
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=0)
    inputs = (x, norm.weight, norm.bias)
    torch.testing.assert_close(
        torch.autograd.grad((actual * direction).sum(), inputs),
        torch.autograd.grad((expected * direction).sum(), inputs),
        atol=1e-12,
        rtol=1e-12,
    )


@FORMS
def test_with_nothing_hidden_it_is_the_plain_form(form: str) -> None:
    torch.manual_seed(0)
    norm, x = random_norm(4), torch.randn(2, 4, 4, 4, 6, dtype=torch.float64)
    nothing = Visibility(torch.zeros(2, 2, 2, 3, dtype=torch.bool))
    torch.testing.assert_close(norm.sparse(in_form(x, nothing, form)).dense(), norm(x), atol=1e-12, rtol=0)
    reference = torch.nn.functional.instance_norm(x, weight=norm.weight, bias=norm.bias)
    torch.testing.assert_close(norm(x), reference, atol=1e-12, rtol=0)


@FORMS
def test_a_sample_without_a_visible_voxel_gives_zeros_and_finite_gradients(half_hidden: Visibility, form: str) -> None:
    norm = InstanceNorm(2)
    x = torch.randn(3, 2, 4, 4, 4, requires_grad=True)
    out = norm.sparse(in_form(x, half_hidden, form)).dense()
    out.square().sum().backward()
    assert torch.count_nonzero(out[2]) == 0
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


@FORMS
def test_half_precision_keeps_its_sums_in_single_precision(form: str) -> None:
    # 4096 values around 1000: in float16 their sum would be infinite, in bfloat16 it would stop growing.
    x = 1000 + torch.randn(1, 1, 16, 16, 16)
    nothing = Visibility(torch.zeros(1, 1, 1, 1, dtype=torch.bool))
    for dtype in (torch.float16, torch.bfloat16):
        rounded = x.to(dtype)
        out = InstanceNorm(1).sparse(in_form(rounded, nothing, form)).dense()
        assert out.dtype == dtype
        # One rounding of values up to 4 to an eighth bit (bfloat16).
        torch.testing.assert_close(out.float(), InstanceNorm(1)(rounded.float()), atol=2**-7, rtol=2**-8)


def test_memory_format_changes_nothing(half_hidden: Visibility) -> None:
    norm, x = InstanceNorm(4), torch.randn(3, 4, 4, 4, 4)
    last = x.to(memory_format=torch.channels_last_3d)
    # Sums of 64 values in another order: a few roundings of float32.
    outputs = [norm.sparse(sparse_input(values, half_hidden)).values for values in (last, x)]
    torch.testing.assert_close(*outputs, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(norm(last), norm(x), atol=1e-6, rtol=1e-5)


def test_a_mean_far_from_zero_costs_no_accuracy() -> None:
    x = (20 + torch.randn(1, 2, 32, 64, 64)).to(memory_format=torch.channels_last_3d)
    nothing = Visibility(torch.zeros(1, 2, 4, 4, dtype=torch.bool))
    reference = torch.nn.functional.instance_norm(x.double())
    # Values of 20 have an error of 1e-6 in float32; group_norm is off by 1e-2 here.
    for out in (InstanceNorm(2)(x), InstanceNorm(2).sparse(in_form(x, nothing, "gathered")).dense()):
        torch.testing.assert_close(out.double(), reference, atol=1e-5, rtol=0)
