from pathlib import Path

import numpy as np
import pytest
import torch

from medpipe.backbones.options import DynUnetOptions, StunetOptions
from medpipe.tasks.masked_pretraining import (
    MaskedPretraining,
    build_masked_autoencoder,
    teacher_decay,
)
from medpipe.tasks.options import MaskingConfig, TeacherConfig, TrainingConfig
from medpipe.tasks.reconstruction import reconstruct, write_reconstruction
from medpipe.tasks.task import parameter_groups

TINY = StunetOptions(size="tiny", tiny_width=4)
SIZE = (32, 32, 32)
DENSE_SIZE = (32, 32, 64)  # the sixth level of the whole network needs two voxels


def tiny_task(**values: object) -> MaskedPretraining:
    torch.manual_seed(0)
    masking = MaskingConfig(decoder_width=8, **values)  # type: ignore[arg-type]
    task = MaskedPretraining(build_masked_autoencoder(TINY, masking), masking, sd_hu=200.0)
    task.optimise = TrainingConfig(num_steps=10)
    return task


def some_volume(size: tuple[int, int, int] = SIZE, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 1, *size, generator=torch.Generator().manual_seed(3))


def hidden_voxels(is_hidden: torch.Tensor) -> torch.Tensor:
    for axis in (1, 2, 3):
        is_hidden = is_hidden.repeat_interleave(16, dim=axis)
    return is_hidden[:, None]


@pytest.mark.parametrize(("method", "size"), [("sparse", SIZE), ("dense", DENSE_SIZE)])
def test_every_parameter_has_a_gradient_and_hidden_voxels_no_influence(method: str, size: tuple) -> None:
    task, volume = tiny_task(method=method), some_volume(size)
    task.loss({"volume": volume}, step=0).backward()
    assert [name for name, p in task.network.named_parameters() if p.grad is None] == []
    is_hidden = torch.cat([task.random_mask(size, number=number) for number in range(2)])
    changed = volume.masked_fill(hidden_voxels(is_hidden), 1e6)
    with torch.no_grad():
        assert torch.equal(task.network(volume, is_hidden), task.network(changed, is_hidden))


def test_visible_blocks_cost_nothing_and_hidden_ones_the_squared_error_to_the_normalised_target() -> None:
    task, volume = tiny_task(mask_ratio=0.5), some_volume(batch=1)
    target = task.target(volume)
    is_hidden = torch.zeros(1, 8, dtype=torch.bool)
    is_hidden[0, :4] = True
    with torch.no_grad():
        image = task.network(volume, is_hidden.view(1, 2, 2, 2))
    first = volume[0, 0, :16]  # blocks 0 to 3
    errors = []
    for h in (0, 16):
        for w in (0, 16):
            block = first[:, h : h + 16, w : w + 16]
            normalised = (block - block.mean()) / block.std(correction=0).clamp(min=0.1)  # 20 HU / 200 HU
            errors.append((image[0, 0, :16, h : h + 16, w : w + 16] - normalised).square().mean())
    torch.testing.assert_close(task._loss(volume, target, is_hidden), torch.stack(errors).mean())


def test_blocks_of_air_count_only_where_asked_for() -> None:
    volume = some_volume(batch=1)
    volume[:, :, :16] = -4.0
    is_hidden = torch.ones(1, 8, dtype=torch.bool)
    is_hidden[0, 7] = False
    skipping, counting = tiny_task(), tiny_task(skip_flat_blocks=False)
    losses = [task._loss(volume, task.target(volume), is_hidden).item() for task in (skipping, counting)]
    assert losses[0] != losses[1]
    is_hidden[0, 4:] = False
    assert skipping._loss(volume, skipping.target(volume), is_hidden).item() == 0


def test_a_sample_is_masked_the_same_whoever_is_in_its_batch_and_whatever_process_has_it() -> None:
    task, volume = tiny_task(), some_volume(batch=4)
    target = task.target(volume)
    task.first_sample = 8
    whole = task._hidden_blocks(volume, target, step=2)
    assert whole.sum(1).tolist() == [5] * 4  # 60 % of 8
    task.first_sample = 10
    assert torch.equal(task._hidden_blocks(volume[2:], task.target(volume[2:]), step=2), whole[2:])


def test_the_loss_of_a_batch_does_not_depend_on_who_is_in_it() -> None:
    task, volume = tiny_task(), some_volume()
    together = task.loss({"volume": volume}, step=0).item()
    apart = []
    for number in range(2):
        task.first_sample = number
        apart.append(task.loss({"volume": volume[number : number + 1]}, step=0).item())
    assert together == pytest.approx(sum(apart) / 2, rel=1e-5)


def test_a_teacher_hides_more_hard_blocks_as_training_goes_on() -> None:
    task, volume = tiny_task(teacher=TeacherConfig(final_hard_share=1.0)), some_volume()
    target = task.target(volume)
    assert task.teacher is not None
    random = tiny_task()._hidden_blocks(volume, target, step=0)
    assert torch.equal(task._hidden_blocks(volume, target, step=0), random)
    with torch.no_grad():
        image = task.teacher(volume, random.view(2, 2, 2, 2))
    from medpipe.tasks.blocks import block_losses

    losses = torch.where(random, block_losses(image, target, task.block), -torch.inf)
    hidden = task._hidden_blocks(volume, target, step=9)  # a share of 0.9 of 5 blocks: 4
    hardest = losses.topk(4, dim=1).indices
    assert hidden.gather(1, hardest).all()
    assert hidden.sum(1).tolist() == [5, 5]


def test_the_teacher_follows_the_student_and_is_in_no_optimiser() -> None:
    task = tiny_task(teacher=TeacherConfig(decay=(0.5, 0.5)))
    assert task.teacher is not None
    before = {name: p.clone() for name, p in task.teacher.named_parameters()}
    with torch.no_grad():
        for parameter in task.network.parameters():
            parameter.add_(1.0)
    task.after_step(1, 10)
    for name, parameter in task.teacher.named_parameters():
        torch.testing.assert_close(parameter, before[name] + 0.5)
        assert not parameter.requires_grad
    assert any(name.startswith("teacher.") for name in task.state_dict())
    optimised = {
        id(p) for group in parameter_groups(task.network, TrainingConfig(num_steps=1)) for p in group["params"]
    }
    assert optimised == {id(p) for p in task.network.parameters()}


def test_the_teachers_decay_rises_over_the_first_quarter() -> None:
    decays = [teacher_decay(step, 100, TeacherConfig()) for step in (0, 12.5, 25, 100)]  # type: ignore[arg-type]
    assert decays == pytest.approx([0.999, 0.99945, 0.9999, 0.9999])


def test_any_backbone_can_be_the_control_and_only_stunet_is_sparse() -> None:
    with pytest.raises(ValueError, match="dynunet"):
        build_masked_autoencoder(DynUnetOptions(size="tiny"), MaskingConfig())
    anisotropic = StunetOptions(size="tiny", tiny_width=4, strides=((1, 2, 2), *((2, 2, 2),) * 4))
    for method in ("sparse", "dense"):
        assert build_masked_autoencoder(anisotropic, MaskingConfig(method=method, decoder_width=8)).block == (8, 16, 16)


def test_a_reconstruction_keeps_what_is_visible_and_is_written_in_hu(tmp_path: Path) -> None:
    task, volume = tiny_task(), some_volume(batch=1)[0]
    image, is_hidden = reconstruct(task, volume)
    assert torch.equal(image[~is_hidden], volume[0][~is_hidden])
    assert is_hidden.float().mean().item() == pytest.approx(5 / 8)
    # A block comes back with its own mean: the error is the network's alone.
    block = (slice(0, 16),) * 3
    write_reconstruction(tmp_path / "r.npz", task, volume, case_id="ct_001", mean_hu=40.0, sd_hu=200.0)
    with np.load(tmp_path / "r.npz") as stored:
        assert stored["case_id"] == "ct_001"
        np.testing.assert_allclose(stored["original"], volume[0].numpy() * 200 + 40, rtol=1e-5, atol=1e-3)
        assert np.array_equal(np.isnan(stored["masked"]), is_hidden.numpy())
        np.testing.assert_allclose(
            stored["reconstructed"][block], image[block].numpy() * 200 + 40, rtol=1e-5, atol=1e-3
        )


def test_validation_is_the_same_at_every_call() -> None:
    task = tiny_task()
    patches = list(some_volume())
    first = task.validation_loss(patches)
    task.first_sample = 77
    assert task.validation_loss(patches) == first
