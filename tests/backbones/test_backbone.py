"""What every volume backbone of the table promises, and that monai's are monai's."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from medpipe.backbones.backbone import Backbone
from medpipe.backbones.options import (
    BackboneOptions,
    DynUnetOptions,
    MedNextOptions,
    SegResNetOptions,
    SwinUnetrOptions,
)
from medpipe.backbones.registry import VOLUME_BACKBONES, build_volume_backbone

SMALLEST: dict[str, BackboneOptions] = {
    name: entry.options.model_validate({"size": "tiny"}) for name, entry in VOLUME_BACKBONES.items()
}


def num_parameters(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def with_heads(backbone: nn.Module, num_outputs: int, num_heads: int) -> int:
    """Parameters of a backbone and of a 1^3 convolution on each of its finest maps."""
    assert isinstance(backbone, Backbone)
    heads = [nn.Conv3d(channels, num_outputs, kernel_size=1) for channels in backbone.channels[:num_heads]]
    return num_parameters(backbone, *heads)


def smallest_patch(backbone: Backbone) -> torch.Tensor:
    depth, height, width = backbone.divisor
    return torch.randn(2, 1, depth, height, 2 * width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", SMALLEST)
def test_maps_are_as_promised_and_a_step_trains_every_parameter(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = build_volume_backbone(SMALLEST[name])
    volume = smallest_patch(backbone)
    optimiser = torch.optim.SGD(backbone.parameters(), lr=1e-3)
    maps = backbone(volume)
    assert tuple(x.shape[1] for x in maps) == backbone.channels
    for x, stride in zip(maps, backbone.strides, strict=True):
        assert tuple(x.shape[2:]) == tuple(side // step for side, step in zip(volume.shape[2:], stride, strict=True))
    assert backbone.strides[0] == (1, 1, 1)
    assert SMALLEST[name].divisor == backbone.divisor

    sum((x * torch.randn_like(x)).sum() for x in maps).backward()
    without = [key for key, parameter in backbone.named_parameters() if parameter.grad is None]
    assert not without
    assert all(
        torch.isfinite(parameter.grad).all() for parameter in backbone.parameters() if parameter.grad is not None
    )
    optimiser.step()
    assert all(key.startswith(("encoder.", "decoder.")) for key in backbone.state_dict())

    save_file(backbone.state_dict(), tmp_path / "weights.safetensors")
    again = build_volume_backbone(SMALLEST[name])
    again.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    backbone.eval(), again.eval()
    with torch.no_grad():
        assert all(torch.equal(x, y) for x, y in zip(backbone(volume), again(volume), strict=True))


@pytest.mark.parametrize("name", SMALLEST)
def test_patches_that_do_not_fit_are_refused_with_one_that_does(name: str) -> None:
    backbone = build_volume_backbone(SMALLEST[name])
    depth, height, width = backbone.divisor
    with pytest.raises(ValueError, match=rf"must divide by .* is \({2 * depth}, {height}, {width}\)"):
        backbone(torch.zeros(1, 1, depth + 1, height, width))
    with pytest.raises(ValueError, match="one voxel on the coarsest level"):
        backbone(torch.zeros(1, 1, depth, height, width))


def same_draw(build: Callable[[], nn.Module]) -> nn.Module:
    """Built from the same random numbers every time, so that two networks with the same parts have the same weights."""
    torch.manual_seed(0)
    return build().eval()


def assert_same_output(backbone: nn.Module, head: nn.Module, original: nn.Module) -> None:
    assert isinstance(backbone, Backbone)
    volume = smallest_patch(backbone)
    with torch.no_grad():
        assert torch.equal(head(backbone(volume)[0]), original(volume))


@pytest.mark.parametrize("residual", [False, True])
def test_dynunet_is_monais(residual: bool) -> None:
    from monai.networks.nets.dynunet import DynUNet

    options = DynUnetOptions(size="tiny", residual=residual)
    levels = (options.kernels, options.strides, options.strides[1:], options.widths)
    backbone = same_draw(lambda: build_volume_backbone(options))
    original = same_draw(lambda: DynUNet(3, 1, 1, *levels, res_block=residual))
    assert_same_output(backbone, original.output_block, original)
    supervised = DynUNet(3, 1, 7, *levels, res_block=residual, deep_supervision=True, deep_supr_num=3)
    assert with_heads(backbone, 7, num_heads=4) == num_parameters(supervised)


def test_segresnet_is_monais() -> None:
    from monai.networks.nets.segresnet import SegResNet

    def build(out_channels: int) -> SegResNet:
        return SegResNet(init_filters=8, out_channels=out_channels, blocks_down=(1, 2, 2, 4), blocks_up=(1, 1, 1))

    backbone = same_draw(lambda: build_volume_backbone(SegResNetOptions(size="tiny")))
    original = same_draw(lambda: build(out_channels=1))
    assert_same_output(backbone, original.conv_final[2], original)
    assert with_heads(backbone, 7, num_heads=1) == num_parameters(build(out_channels=7))


def test_swin_unetr_is_monais() -> None:
    from monai.networks.nets.swin_unetr import SwinUNETR

    backbone = same_draw(lambda: build_volume_backbone(SwinUnetrOptions(feature_size=12)))
    original = same_draw(lambda: SwinUNETR(in_channels=1, out_channels=1, feature_size=12))
    assert_same_output(backbone, original.out, original)
    supervised = SwinUNETR(in_channels=1, out_channels=7, feature_size=12)
    assert with_heads(backbone, 7, num_heads=1) == num_parameters(supervised)


def test_mednext_is_monais() -> None:
    from monai.networks.nets.mednext import create_mednext

    backbone = same_draw(lambda: build_volume_backbone(MedNextOptions(size="small")))
    original = same_draw(lambda: create_mednext("S", out_channels=1))
    assert_same_output(backbone, original.out_0, original)


@pytest.mark.parametrize(("size", "variant"), [("small", "S"), ("base", "B"), ("medium", "M"), ("large", "L")])
def test_mednext_sizes_are_monais(size: str, variant: str) -> None:
    from monai.networks.nets.mednext import create_mednext

    with torch.device("meta"):
        original = create_mednext(variant, out_channels=7, kernel_size=5, deep_supervision=True)
        backbone = build_volume_backbone(MedNextOptions.model_validate({"size": size, "kernel_size": 5}))
        assert with_heads(backbone, 7, num_heads=5) == num_parameters(original)
