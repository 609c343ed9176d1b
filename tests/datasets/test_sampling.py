import numpy as np
import pytest

from medpipe.datasets.augmentation import rotation_matrix
from medpipe.datasets.sampling import PatchSampler, Placement, cut

RNG = np.random.default_rng(0)
VOLUME = RNG.integers(-1000, 1000, size=(12, 14, 16)).astype(np.int16)


@pytest.mark.parametrize("start", [(0, 0, 0), (3, 4, 5), (-2, 5, 10), (-20, 0, 0), (11, 13, 15), (12, 0, 0)])
def test_a_cut_equals_one_from_a_padded_volume(start: tuple[int, int, int]) -> None:
    size = (6, 7, 8)
    padded = np.pad(VOLUME, 30, constant_values=-1024)
    window = tuple(slice(low + 30, low + 30 + width) for low, width in zip(start, size, strict=True))
    np.testing.assert_array_equal(cut(VOLUME, start, size, -1024), padded[window])


def test_a_cut_keeps_leading_axes_and_is_a_copy() -> None:
    stack = np.stack([VOLUME, VOLUME + 1])
    box = cut(stack, (1, 1, 1), (2, 2, 2), 0)
    np.testing.assert_array_equal(box, stack[:, 1:3, 1:3, 1:3])
    box[:] = 0
    assert stack[0, 1, 1, 1] == VOLUME[1, 1, 1]


def test_an_unrotated_matrix_gives_the_plain_patch() -> None:
    centre = np.array([5.5, 6.0, 7.5])
    plain = PatchSampler(Placement(centre, (6, 7, 8)))
    turned = PatchSampler(Placement(centre, (6, 7, 8), np.eye(3)))
    np.testing.assert_allclose(turned.image(VOLUME, -1024), plain.image(VOLUME, -1024), atol=1e-3)
    np.testing.assert_array_equal(turned.labels(VOLUME), plain.labels(VOLUME))


def test_a_quarter_turn_is_an_exact_permutation() -> None:
    volume = RNG.integers(0, 100, size=(9, 9, 9)).astype(np.int16)
    matrix = rotation_matrix([np.pi / 2, 0, 0])
    sampler = PatchSampler(Placement(np.array([4.0, 4.0, 4.0]), (9, 9, 9), matrix))
    # The matrix takes the patch's h to the volume's w, and its w to minus h.
    expected = np.flip(volume, 1).transpose(0, 2, 1)
    np.testing.assert_array_equal(sampler.labels(volume), expected)
    np.testing.assert_allclose(sampler.image(volume, 0), expected, atol=1e-3)


def test_a_rotated_patch_within_the_volume_shows_no_border() -> None:
    ramp = np.broadcast_to(np.arange(60, dtype=np.int16)[:, None, None], (60, 60, 60))
    matrix = rotation_matrix(np.radians([25, -20, 30])) * 1.2
    image = PatchSampler(Placement(np.array([29.5] * 3), (16, 16, 16), matrix)).image(ramp, -30000)
    # A linear field is interpolated exactly: the patch is the ramp along the turned axis.
    offsets = np.stack(np.meshgrid(*[np.arange(16) - 7.5] * 3, indexing="ij"))
    expected = 29.5 + np.tensordot(matrix[0], offsets, axes=1)
    np.testing.assert_allclose(image, expected, atol=1e-3)


def test_a_rotated_patch_beyond_the_volume_is_filled() -> None:
    matrix = rotation_matrix(np.radians([10, 10, 10]))
    sampler = PatchSampler(Placement(np.array([500.0] * 3), (4, 4, 4), matrix))
    assert (sampler.image(VOLUME, -1024) == -1024).all()
    assert (sampler.labels(VOLUME) == 0).all()


def test_image_and_labels_of_a_scaled_patch_stay_together() -> None:
    volume = np.zeros((40, 40, 40), dtype=np.int16)
    volume[15:25, 15:25, 15:25] = 1000
    placement = Placement(np.array([19.5] * 3), (20, 20, 20), np.eye(3) * 0.5)
    sampler = PatchSampler(placement)
    labels = sampler.labels((volume > 0).astype(np.uint8))
    # Half the field of view: the cube of 10 voxels covers all 20 of the patch.
    assert labels.all()
    image = sampler.image(volume, 0)
    # The outermost centres lie a quarter of a voxel inside the cube's last voxel centres' cell, on each axis.
    assert image.min() == pytest.approx(1000 * 0.75**3)
    assert image[10, 10, 10] == 1000
