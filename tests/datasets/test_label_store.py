import numpy as np
import pytest

from medpipe.datasets.label_store import decode_target, stored_array, structure_voxels, to_grid
from medpipe.geometry.resampling import resampled_grid
from medpipe.geometry.volume import LabelMap, MaskStack

AFFINE = np.array([[0, 0, 1.0, 0], [0, 1.0, 0, 0], [1.0, 0, 0, 0], [0, 0, 0, 1]])
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("count", [1, 8, 11])
def test_masks_survive_their_bits(count: int) -> None:
    names = tuple(f"s{index}" for index in range(count))
    masks = RNG.random((count, 4, 5, 6)) < 0.4
    kind, stored = stored_array(MaskStack(masks, AFFINE, names))
    assert kind == "masks"
    assert stored.shape == (-(-count // 8), 4, 5, 6)
    np.testing.assert_array_equal(decode_target(stored, kind, names, names, "sigmoid"), masks)
    wanted = ("absent", *names[::-1])
    target = decode_target(stored, kind, names, wanted, "sigmoid")
    np.testing.assert_array_equal(target[1:], masks[::-1])
    assert not target[0].any()
    for found, mask in zip(structure_voxels(kind, stored, count), masks, strict=True):
        np.testing.assert_array_equal(found, np.flatnonzero(mask))


def test_a_label_map_becomes_the_wanted_structures_in_their_order() -> None:
    labels = np.array([[[0, 1, 2, 3, -1]]], dtype=np.int16)
    names = ("bladder", "rectum", "uterus")
    target = decode_target(labels, "label_map", names, ("uterus", "bladder", "other"), "softmax")
    # Ignored voxels stay ignored, structures nobody asked for are background.
    np.testing.assert_array_equal(target, [[[0, 2, 0, 1, -1]]])
    assert target.dtype == np.int64
    masks = decode_target(labels, "label_map", names, ("uterus", "bladder"), "sigmoid")
    np.testing.assert_array_equal(masks[:, 0, 0], [[0, 0, 0, 1, 0], [0, 1, 0, 0, 0]])


def test_ignored_voxels_survive_resampling() -> None:
    array = np.zeros((8, 8, 8), dtype=np.int16)
    array[:4], array[4:, :4] = 1, -1
    labels = LabelMap(array, AFFINE)
    grid = resampled_grid(labels.grid, (2.0, 2.0, 2.0))
    notes: list[str] = []
    resampled = to_grid(labels, grid, ("bladder",), notes)
    np.testing.assert_array_equal(resampled.array, array[::2, ::2, ::2])
    assert notes == []


def test_a_structure_that_resampling_loses_is_named() -> None:
    array = np.zeros((12, 12, 12), dtype=np.int16)
    array[0:8, 0:8, 0:8], array[10, 10, 10] = 1, 2
    labels = LabelMap(array, AFFINE)
    notes: list[str] = []
    to_grid(labels, resampled_grid(labels.grid, (4.0, 4.0, 4.0)), ("bladder", "rectum"), notes)
    assert notes == ["rectum (1 voxels) was too small and is lost by resampling"]


def test_voxels_of_a_label_map_are_found_by_structure() -> None:
    labels = RNG.integers(-1, 4, size=(4, 5, 6)).astype(np.int16)
    for number, found in enumerate(structure_voxels("label_map", labels, 3), start=1):
        np.testing.assert_array_equal(found, np.flatnonzero(labels == number))
