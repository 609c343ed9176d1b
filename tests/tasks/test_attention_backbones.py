"""The backbones with attention, by name, in every task that trains them."""

import pytest
import torch

from medpipe.backbones.registry import VOLUME_BACKBONES, build_volume_backbone
from medpipe.tasks.masked_pretraining import MaskedPretraining, build_masked_autoencoder
from medpipe.tasks.options import MaskingConfig, TrainingConfig
from medpipe.tasks.segmentation import Segmentation
from medpipe.tasks.segmentation_network import SegmentationNetwork

SIZE = (32, 32, 64)
KINDS = [(name, kind) for name in ("vision_transformer", "hybrid") for kind in ("sigmoid", "softmax")]


def some_volume() -> torch.Tensor:
    return torch.randn(1, 1, *SIZE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "kind"), KINDS[:3])  # the hybrid's convolutions take seconds: once is enough
def test_a_few_steps_of_segmentation_lower_the_loss(name: str, kind: str) -> None:
    torch.manual_seed(0)
    options = VOLUME_BACKBONES[name].options.model_validate({"size": "tiny", "attention": {"kind": kind}})
    task = Segmentation(SegmentationNetwork(build_volume_backbone(options), num_structures=1))
    target = torch.zeros(1, *SIZE, dtype=torch.int64)
    target[:, 8:24, 8:24, 16:48] = 1
    batch = {"volume": some_volume() + 2 * target[:, None], "target": target, "is_annotated": torch.ones(1, 1) > 0}
    optimiser = torch.optim.AdamW(task.network.parameters(), lr=2e-3)
    losses = []
    for step in range(5):
        loss = task.loss(batch, step=step)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert [key for key, p in task.network.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("method", ["sparse", "dense"])
@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_masked_pretraining_by_either_method(name: str, kind: str, method: str) -> None:
    torch.manual_seed(0)
    options = VOLUME_BACKBONES[name].options.model_validate({"size": "tiny", "attention": {"kind": kind}})
    masking = MaskingConfig(decoder_width=32, method=method)  # type: ignore[arg-type]
    task = MaskedPretraining(build_masked_autoencoder(options, masking), masking, sd_hu=200.0)
    task.optimise = TrainingConfig(num_steps=10)
    assert task.block == (16, 16, 16)
    loss = task.loss({"volume": some_volume()}, step=0)
    loss.backward()
    assert loss.isfinite()
    assert [key for key, p in task.network.named_parameters() if p.grad is None] == []
