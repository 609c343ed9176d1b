"""Surfaces by words of 64 voxels against the definition, over boxes that begin and end anywhere in a word."""

import numpy as np
import pytest
from scipy import ndimage

from medpipe.metrics.surface import surface
from medpipe.metrics.surface_bits import num_words, packed
from medpipe.metrics.surface_points import corner_points, voxel_points


def labels_of(seed: int, width: int, dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """A map of two labels, and the box of label 1: ragged in all directions, often at the image border."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.standard_normal((5, 6, width)), (0.7, 0.7, 2.0))
    array = np.where(noise > 0.03, 1, np.where(noise < -0.1, 2, 0)).astype(dtype)
    low, high = sorted(int(x) for x in rng.integers(0, width, 2))
    array[:, :, :low][array[:, :, :low] == 1] = 0
    array[:, :, high + 1 :][array[:, :, high + 1 :] == 1] = 2
    array[2, 3, (low + high) // 2] = 1
    where = np.argwhere(array == 1)
    return array, np.concatenate([where.min(axis=0), where.max(axis=0)]).astype(np.int64)


CASES = [(width, seed) for width in (1, 7, 8, 16, 61, 62, 63, 64, 72, 128, 200) for seed in range(6)]


@pytest.mark.parametrize(("width", "seed"), CASES)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
def test_the_bits_are_the_voxels_of_the_box(width: int, seed: int, dtype: type) -> None:
    array, box = labels_of(seed, width, dtype)
    bits = packed(array, 1, box)
    z, y, x = (slice(int(box[axis]), int(box[axis + 3]) + 1) for axis in range(3))
    unpacked = np.unpackbits(bits.view(np.uint8), axis=2, bitorder="little").astype(bool)
    expected = np.zeros(unpacked.shape, dtype=bool)
    inside = array[z, y, x] == 1
    expected[1:-1, 1:-1, 1 : 1 + inside.shape[2]] = inside
    assert np.array_equal(unpacked, expected)
    assert bits.shape[2] == num_words(inside.shape[2])


@pytest.mark.parametrize(("width", "seed"), CASES)
def test_surface_voxels_are_those_of_the_definition(width: int, seed: int) -> None:
    array, box = labels_of(seed, width, np.uint8)
    points = voxel_points(array, 1, box, is_flat=False)
    assert np.array_equal(points.coordinates(), np.argwhere(surface(array == 1)))


@pytest.mark.parametrize(("width", "seed"), CASES)
def test_corners_and_their_codes_are_those_of_eight_voxels(width: int, seed: int) -> None:
    array, box = labels_of(seed, width, np.uint8)
    points = corner_points(array, 1, box, is_flat=False)
    padded = np.pad(array == 1, 1).astype(int)
    codes = np.zeros(tuple(np.array(array.shape) + 1), dtype=int)
    for bit, (dz, dy, dx) in enumerate(np.ndindex(2, 2, 2)):
        ends = (dz + codes.shape[0], dy + codes.shape[1], dx + codes.shape[2])
        codes += padded[dz : ends[0], dy : ends[1], dx : ends[2]] << (7 - bit)
    where = np.argwhere((codes > 0) & (codes < 255))
    assert np.array_equal(points.coordinates(), where)
    assert points.codes is not None
    assert np.array_equal(points.codes, codes[tuple(where.T)])


def test_a_flat_pair_has_neighbours_in_its_plane_alone() -> None:
    array = np.zeros((1, 9, 70), dtype=np.uint8)
    array[0, 2:7, 1:69] = 1
    box = np.array([0, 2, 1, 0, 6, 68])
    assert len(voxel_points(array, 1, box, is_flat=True)) == 2 * 68 + 2 * 3
    assert len(voxel_points(array, 1, box, is_flat=False)) == 5 * 68
    corners = corner_points(array, 1, box, is_flat=True)
    assert len(corners) == 2 * (68 + 1) + 2 * 4
    assert corners.codes is not None
    assert set(corners.codes) == {1, 2, 3, 4, 5, 8, 10, 12}
