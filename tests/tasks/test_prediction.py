from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medpipe.datasets.intensity import Intensity
from medpipe.datasets.preprocessing import Preprocessing
from medpipe.geometry.volume import LabelMap, MaskStack, Volume
from medpipe.tasks.options import PredictionConfig
from medpipe.tasks.prediction import predict_case, predict_prepared, prepare_volume

PREPROCESSING = Preprocessing(
    spacing_mm=(2.0, 2.0, 2.0),
    interpolation="linear",
    intensity=Intensity(clip_hu=(-200.0, 300.0), mean_hu=0.0, sd_hu=100.0),
)
STRUCTURES = ("soft", "bone")
PATCH = (16, 16, 16)


class Threshold(nn.Module):
    """Label 1 from 50 HU, label 2 from 200 HU, by steep logits."""

    def forward(self, x: Tensor) -> Tensor:
        hu = x * 100
        soft, bone = (hu - 50) / 5, (hu - 200) / 5
        return torch.cat([torch.zeros_like(hu), soft, soft + bone], dim=1)


class Sides(nn.Module):
    """Two masks that overlap: above 50 HU, above 200 HU."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x * 100 - 50, x * 100 - 200], dim=1)


def some_ct(spacing: tuple[float, float, float] = (2.0, 2.0, 2.0)) -> Volume:
    """A soft box with a bone in it, off the centre on each axis."""
    array = np.full((20, 24, 28), -1000.0, dtype=np.float32)
    array[4:16, 3:15, 5:25] = 100
    array[6:11, 4:9, 8:20] = 250
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]]) * np.asarray(spacing)
    affine[:3, 3] = (-30.0, 12.0, 100.0)
    return Volume(array, affine)


def predict(volume: Volume, network: nn.Module | None = None, output: str = "softmax") -> LabelMap | MaskStack:
    return predict_case(
        [network or Threshold()],
        volume,
        PREPROCESSING,
        patch_size=PATCH,
        output=output,  # type: ignore[arg-type]
        structures=STRUCTURES,
        config=PredictionConfig(),
    )


def test_the_label_map_lies_on_the_cts_own_grid() -> None:
    ct = some_ct()
    labels = predict(ct)
    assert isinstance(labels, LabelMap)
    assert labels.array.dtype == np.uint8
    np.testing.assert_array_equal(labels.affine, ct.affine)
    np.testing.assert_array_equal(labels.array, np.digitize(ct.array, [50, 200]))


def test_overlapping_structures_come_as_masks() -> None:
    ct = some_ct()
    masks = predict(ct, Sides(), "sigmoid")
    assert isinstance(masks, MaskStack)
    assert masks.structures == STRUCTURES
    np.testing.assert_array_equal(masks.array, np.stack([ct.array >= 50, ct.array >= 200]))


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("flips", [(False, False, False), (True, False, True), (False, True, False)])
def test_a_turned_ct_gives_the_turned_labels(axes: tuple, flips: tuple) -> None:
    ct = some_ct((2.5, 1.7, 2.1))
    affine = ct.affine[:, [*axes, 3]].copy()
    array = ct.array.transpose(axes)
    for axis, is_flipped in enumerate(flips):
        if is_flipped:
            affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
            affine[:3, axis] *= -1
    flipped = [axis for axis, is_flipped in enumerate(flips) if is_flipped]
    turned = Volume(np.ascontiguousarray(np.flip(array, flipped)), affine)
    expected = np.flip(predict(ct).array.transpose(axes), flipped)
    labels = predict(turned)
    np.testing.assert_allclose(labels.affine, affine)
    np.testing.assert_array_equal(labels.array, expected)


def test_a_finer_ct_gets_labels_as_fine() -> None:
    ct = some_ct((1.0, 1.0, 1.0))
    labels = predict(ct)
    truth = np.digitize(ct.array, [50, 200])
    assert labels.array.shape == ct.shape
    for label in (1, 2):
        ours, theirs = labels.array == label, truth == label
        # The prepared grid is twice as coarse: surfaces are off by up to one voxel of twenty.
        assert 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()) > 0.75


def test_validation_on_the_prepared_grid_sees_what_prediction_sees() -> None:
    ct = some_ct()
    image, grid = prepare_volume(ct, PREPROCESSING)
    assert image.dtype == np.int16
    assert grid.spacing_mm == pytest.approx(PREPROCESSING.spacing_mm)
    options = {"patch_size": PATCH, "structures": STRUCTURES, "config": PredictionConfig()}
    labels = predict_prepared([Threshold()], image, PREPROCESSING, output="softmax", **options)  # type: ignore[arg-type]
    np.testing.assert_array_equal(labels, np.digitize(image, [50, 200]))
    masks = predict_prepared([Sides()], image, PREPROCESSING, output="sigmoid", **options)  # type: ignore[arg-type]
    assert masks.shape == (2, *image.shape)
    assert masks.dtype == bool


def test_a_ct_smaller_than_a_window_is_predicted() -> None:
    ct = some_ct()
    small = Volume(ct.array[5:9], ct.affine)
    labels = predict(small)
    np.testing.assert_array_equal(labels.array, np.digitize(small.array, [50, 200]))


class ManyStructures(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.linspace(-1, 1, 118).view(1, -1, 1, 1, 1)


def peak_and_current_mb() -> tuple[float, float]:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) / 1024, int(lines["VmRSS"].split()[0]) / 1024


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is read from Linux's /proc")
def test_no_float_volume_of_all_structures_ever_exists() -> None:
    image = np.full((1024, 24, 32), 40, dtype=np.int16)
    options = {"patch_size": PATCH, "structures": ["s"] * 117, "config": PredictionConfig()}
    predict_prepared([ManyStructures()], image[:32], PREPROCESSING, output="softmax", **options)  # type: ignore[arg-type]
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = peak_and_current_mb()[1]
    predict_prepared([ManyStructures()], image, PREPROCESSING, output="softmax", **options)  # type: ignore[arg-type]
    whole_mb = 118 * image.size * 4 / 2**20
    assert whole_mb > 350
    assert peak_and_current_mb()[0] - before < 60  # a slab of 118 x 16 x 24 x 32 is 6 MB, a window's output as much
