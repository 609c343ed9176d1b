import pytest
import torch

from medpipe.backbones.options import StunetOptions
from medpipe.backbones.registry import build_volume_backbone
from medpipe.tasks.losses import sigmoid_loss, softmax_loss
from medpipe.tasks.options import LossConfig
from medpipe.tasks.segmentation import Segmentation
from medpipe.tasks.segmentation_network import Output, SegmentationNetwork

TINY = StunetOptions(size="tiny", tiny_width=4)
SIZE = (32, 32, 64)


def some_batch(output: Output) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    if output == "softmax":
        target = torch.randint(0, 3, (1, *SIZE), generator=generator)
    else:
        target = torch.randint(0, 2, (1, 2, *SIZE), generator=generator, dtype=torch.uint8)
    volume = torch.randn(1, 1, *SIZE, generator=generator)
    return {"volume": volume, "target": target, "is_annotated": torch.ones(1, 2, dtype=torch.bool)}


def tiny_task(output: Output = "softmax", *, deep_supervision: bool = True) -> Segmentation:
    torch.manual_seed(0)
    backbone = build_volume_backbone(TINY)
    return Segmentation(
        SegmentationNetwork(backbone, num_structures=2, output=output, deep_supervision=deep_supervision)
    )


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_every_parameter_has_a_gradient(output: Output) -> None:
    task = tiny_task(output)
    task.loss(some_batch(output), step=0).backward()
    assert [name for name, p in task.named_parameters() if p.grad is None] == []


def test_heads_stand_on_the_supervised_maps() -> None:
    network = tiny_task().network
    assert isinstance(network, SegmentationNetwork)
    maps = network.supervised(torch.zeros(1, 1, *SIZE))
    assert [tuple(logits.shape) for logits in maps] == [
        (1, 3, 32, 32, 64),
        (1, 3, 16, 16, 32),
        (1, 3, 8, 8, 16),
        (1, 3, 4, 4, 8),
    ]
    assert [name for name in network.state_dict() if name.startswith("heads.3")] == ["heads.3.weight", "heads.3.bias"]
    assert network.level_weights == pytest.approx((8 / 15, 4 / 15, 2 / 15, 1 / 15))


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_without_deep_supervision_the_loss_is_that_of_the_finest_map(output: Output) -> None:
    task, batch = tiny_task(output, deep_supervision=False), some_batch(output)
    loss = softmax_loss if output == "softmax" else sigmoid_loss
    expected = loss(task.network(batch["volume"]), batch["target"], batch["is_annotated"], LossConfig())
    torch.testing.assert_close(task.loss(batch, step=0), expected)


def test_a_few_steps_on_one_batch_lower_the_loss() -> None:
    task, batch = tiny_task(), some_batch("softmax")
    batch["target"] = (batch["volume"][:, 0] > 0.5).long()  # what a voxel's own value tells
    optimiser = torch.optim.AdamW(task.parameters(), lr=1e-2)
    losses = []
    for step in range(12):
        loss = task.loss(batch, step)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
