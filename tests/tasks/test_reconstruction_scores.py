"""Scores of reconstructions: their closed forms, and the whole against plain numpy."""

from typing import Any

import numpy as np
import pytest
import torch

from medpipe.backbones.options import StunetOptions
from medpipe.datasets.intensity import Intensity
from medpipe.datasets.preprocessing import Preprocessing
from medpipe.tasks.blocks import split_blocks
from medpipe.tasks.masked_pretraining import MaskedPretraining, build_masked_autoencoder
from medpipe.tasks.options import MaskingConfig
from medpipe.tasks.reconstruction_scores import score_volume

SIZE = (32, 32, 64)


def preprocessing() -> Preprocessing:
    intensity = Intensity(clip_hu=(-1000.0, 1000.0), mean_hu=20.0, sd_hu=200.0)
    return Preprocessing(spacing_mm=(2.0, 2.0, 2.0), intensity=intensity)


def volume(shape: tuple[int, int, int] = (40, 32, 50)) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 150, shape).astype(np.int16)


def task_of(method: str = "sparse", **values: Any) -> MaskedPretraining:
    masking = MaskingConfig(method=method, decoder_width=8, **values)  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_masked_autoencoder(StunetOptions(name="stunet", size="tiny"), masking)
    return MaskedPretraining(network, masking, sd_hu=200.0).eval()


def test_knowing_the_mean_alone_explains_nothing() -> None:
    task = task_of()
    for parameter in task.network.backbone.light_decoder.parameters():  # what is predicted is 0 everywhere
        torch.nn.init.zeros_(parameter)
    score = score_volume(task, volume(), preprocessing(), SIZE)
    assert score.reconstruction_loss == pytest.approx(score.block_mean_loss)
    assert score.block_mean_loss == pytest.approx(1.0, abs=1e-3)
    assert score.explained_share == pytest.approx(0.0, abs=1e-6)
    assert score.error_hu == pytest.approx(score.block_mean_error_hu)


@pytest.mark.parametrize("method", ["sparse", "dense"])
def test_the_numbers_are_those_of_plain_numpy(method: str) -> None:
    task = task_of(method, skip_flat_blocks=False)
    hu = volume((30, 32, 64))  # padded with air to one patch
    score = score_volume(task, hu, preprocessing(), SIZE)
    padded = np.full(SIZE, -1000.0)
    padded[:30] = hu
    normalised = torch.from_numpy(((padded - 20) / 200).astype(np.float32))[None, None]
    is_hidden = task.random_mask(SIZE, number=0)
    with torch.no_grad():
        predicted = split_blocks(task.network(normalised, is_hidden), task.block)[0].double().numpy()
    blocks = split_blocks(normalised, task.block)[0].double().numpy()[is_hidden.view(-1).numpy()]
    predicted = predicted[is_hidden.view(-1).numpy()]
    mean = blocks.mean(axis=1, keepdims=True)
    scale = np.maximum(blocks.std(axis=1, keepdims=True), task.floor) if method == "sparse" else np.ones_like(mean)
    target = (blocks - mean) / scale if method == "sparse" else blocks
    image = predicted * scale + mean if method == "sparse" else predicted
    assert score.num_blocks == len(blocks)
    assert score.reconstruction_loss == pytest.approx(((predicted - target) ** 2).mean(), rel=1e-5)
    assert score.block_mean_loss == pytest.approx((((blocks - mean) / scale) ** 2).mean(), rel=1e-5)
    assert score.error_hu == pytest.approx(200 * np.abs(image - blocks).mean(), rel=1e-4)
    assert score.block_mean_error_hu == pytest.approx(200 * np.abs(mean - blocks).mean(), rel=1e-4)


def test_air_alone_has_no_block_that_counts() -> None:
    score = score_volume(task_of(skip_flat_blocks=True), np.full(SIZE, -1000, np.int16), preprocessing(), SIZE)
    assert score.num_blocks == 0
    assert np.isnan(score.explained_share)
