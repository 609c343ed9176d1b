"""SwinUNETR with sigmoid attention in its windows."""

import pytest
import torch
from monai.networks.nets.swin_unetr import WindowAttention as MonaiWindowAttention
from pydantic import ValidationError
from torch import nn

from medpipe.backbones.backbone import Backbone
from medpipe.backbones.options import SwinUnetrOptions
from medpipe.backbones.registry import build_volume_backbone
from medpipe.backbones.window_attention import WindowAttention


def build(**given: object) -> Backbone:
    torch.manual_seed(0)
    return build_volume_backbone(SwinUnetrOptions.model_validate({"size": "tiny", **given}))


def count(network: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(module, kind) for module in network.modules())


def volume() -> torch.Tensor:
    """Tokens of 16 x 16 x 32: padded to whole windows of 7, and shifted."""
    return torch.randn(1, 1, 32, 32, 64, generator=torch.Generator().manual_seed(1))


def test_all_window_attentions_are_ours_with_the_weights_of_a_plain_network() -> None:
    plain, sigmoid = build(), build(attention="sigmoid")
    assert (count(plain, MonaiWindowAttention), count(plain, WindowAttention)) == (8, 0)
    assert (count(sigmoid, MonaiWindowAttention), count(sigmoid, WindowAttention)) == (0, 8)
    assert plain.state_dict().keys() == sigmoid.state_dict().keys()
    assert all(torch.equal(value, sigmoid.state_dict()[name]) for name, value in plain.state_dict().items())
    with torch.no_grad():
        assert not torch.allclose(plain.eval()(volume())[0], sigmoid.eval()(volume())[0])


def test_by_softmax_our_windows_give_monais_network() -> None:
    """Shifts, padding and windows that shrink at coarse levels, as they come in a network."""
    plain, changed = build().eval(), build(attention="sigmoid").eval()
    for module in changed.modules():
        if isinstance(module, WindowAttention):
            module.attention = "softmax"
    with torch.no_grad():
        torch.testing.assert_close(changed(volume()), plain(volume()), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("recompute", [False, True])
def test_a_step_reaches_every_table_of_relative_places(recompute: bool) -> None:
    network = build(attention="sigmoid", recompute=recompute)
    (x,) = network(volume())
    (x * torch.randn_like(x)).sum().backward()
    tables = [p for name, p in network.named_parameters() if name.endswith("relative_position_bias_table")]
    assert len(tables) == 8
    assert all(table.grad is not None and table.grad.any() and table.grad.isfinite().all() for table in tables)


def test_an_unknown_attention_is_refused() -> None:
    with pytest.raises(ValidationError, match="'softmax' or 'sigmoid'"):
        SwinUnetrOptions.model_validate({"attention": "gated"})
