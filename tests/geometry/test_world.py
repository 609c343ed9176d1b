import numpy as np
import SimpleITK as sitk

from medpipe.geometry.volume import Grid
from medpipe.geometry.world import affine_from_dicom, flip_affine, flip_points, reverse_axes, to_sitk


def oblique_grid() -> Grid:
    rng = np.random.default_rng(3)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = rotation * [3.0, 0.7, 1.1]
    affine[:3, 3] = [12.0, -40.0, 7.0]
    return Grid((4, 5, 6), affine)


def test_simpleitk_places_each_voxel_where_the_affine_does() -> None:
    grid = oblique_grid()
    array = np.arange(120, dtype=np.float32).reshape(grid.shape)
    image = to_sitk(array, grid)
    for d, h, w in [(0, 0, 0), (3, 4, 5), (1, 2, 4)]:
        assert image.GetPixel(w, h, d) == array[d, h, w]
        ras = flip_points(np.asarray(image.TransformIndexToPhysicalPoint((w, h, d))))
        np.testing.assert_allclose(ras, grid.index_to_world(np.array([[d, h, w]]))[0], atol=1e-9)
    assert isinstance(image, sitk.Image)


def test_flips_and_reversals_undo_themselves() -> None:
    affine = oblique_grid().affine
    np.testing.assert_array_equal(flip_affine(flip_affine(affine)), affine)
    np.testing.assert_array_equal(reverse_axes(reverse_axes(affine)), affine)


def test_a_supine_head_first_slice_runs_left_back_and_up() -> None:
    affine = affine_from_dicom(np.array([1, 0, 0]), np.array([0, 1, 0]), (3.0, 0.5, 0.6), np.array([-100, -120, 40]))
    # RAS: columns run to the left (-x), rows to the back (-y), slices to the head (+z).
    np.testing.assert_allclose(affine[:3, :3], [[0, 0, -0.6], [0, -0.5, 0], [3.0, 0, 0]])
    np.testing.assert_allclose(affine[:3, 3], [100, 120, 40])
