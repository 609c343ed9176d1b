import pickle

import numpy as np
import pytest

from medpipe.geometry.volume import Grid, LabelMap, MaskStack, Volume, check_same_grid


def grid(shape=(4, 5, 6), spacing=(3.0, 1.0, 2.0), origin=(10.0, 20.0, 30.0)) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]]) * np.asarray(spacing)
    affine[:3, 3] = origin
    return Grid(shape, affine)


def test_index_and_world_are_inverse_and_spacing_follows_the_axes() -> None:
    g = grid()
    assert g.spacing_mm == (3.0, 1.0, 2.0)
    # d runs along S with 3 mm, h along A with 1 mm, w along R with 2 mm.
    np.testing.assert_allclose(g.index_to_world(np.array([[1, 2, 3]])), [[16, 22, 33]])
    points = np.random.default_rng(0).normal(size=(20, 3)) * 50
    np.testing.assert_allclose(g.index_to_world(g.world_to_index(points)), points, atol=1e-12)
    assert g.voxel_ml == pytest.approx(0.006)


def test_corners_are_voxel_edges() -> None:
    corners = grid().corners_mm()
    np.testing.assert_allclose(corners.min(axis=0), [9.0, 19.5, 28.5])
    np.testing.assert_allclose(corners.max(axis=0), [21.0, 24.5, 40.5])


def test_a_box_keeps_its_place_in_the_world() -> None:
    g = grid()
    part = g.box((1, 2, 3), (3, 4, 6))
    assert part.shape == (2, 2, 3)
    np.testing.assert_array_equal(part.index_to_world(np.zeros((1, 3))), g.index_to_world(np.array([[1, 2, 3]])))


def test_a_label_map_one_slice_shorter_is_refused_with_both_shapes() -> None:
    with pytest.raises(ValueError, match=r"gyn_017.*\(3, 5, 6\) against \(4, 5, 6\).*resample_like"):
        check_same_grid(grid(), grid(shape=(3, 5, 6)), "label map of gyn_017")


def test_an_origin_40_mm_off_is_refused_in_mm_and_a_twentieth_of_a_voxel_is_not() -> None:
    with pytest.raises(ValueError, match=r"origin is off by 40\.00 mm"):
        check_same_grid(grid(), grid(origin=(10.0, 20.0, 70.0)))
    check_same_grid(grid(), grid(origin=(10.0, 20.0, 30.15)))  # 0.05 of the 3 mm voxel
    with pytest.raises(ValueError, match=r"origin is off by 0\.33 mm"):
        check_same_grid(grid(), grid(origin=(10.0, 20.0, 30.33)))  # 0.11 of a voxel


def test_a_flipped_axis_is_refused_in_degrees() -> None:
    flipped = grid().affine.copy()
    flipped[:, 2] *= -1
    with pytest.raises(ValueError, match=r"turned by 0\.00, 0\.00, 180\.00 degrees"):
        check_same_grid(grid(), Grid((4, 5, 6), flipped))


@pytest.mark.parametrize(("degrees", "is_refused"), [(0.05, False), (0.07, True)])
def test_a_direction_may_be_off_by_a_thousandth(degrees: float, is_refused: bool) -> None:
    # sin(0.05 degrees) = 8.7e-4, sin(0.07 degrees) = 1.22e-3
    angle = np.radians(degrees)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turned = Grid((4, 5, 6), turn @ grid(origin=(0, 0, 0)).affine)
    if is_refused:
        with pytest.raises(ValueError, match="turned by"):
            check_same_grid(grid(origin=(0, 0, 0)), turned)
    else:
        check_same_grid(grid(origin=(0, 0, 0)), turned)


def test_another_spacing_is_refused_in_mm() -> None:
    with pytest.raises(ValueError, match=r"spacing is 3 x 1 x 2\.01 against 3 x 1 x 2 mm"):
        check_same_grid(grid(), grid(spacing=(3.0, 1.0, 2.01)))


@pytest.mark.parametrize(
    "affine", [np.zeros((4, 4)), np.eye(3), np.full((4, 4), np.nan), np.diag([1.0, 1.0, 0.0, 1.0])]
)
def test_an_affine_that_places_nothing_is_refused(affine: np.ndarray) -> None:
    with pytest.raises(ValueError, match="affine"):
        Grid((2, 2, 2), affine)


def test_arrays_of_the_wrong_kind_are_refused() -> None:
    with pytest.raises(ValueError, match=r"volume .* float64"):
        Volume(np.zeros((2, 2, 2)), np.eye(4))
    with pytest.raises(ValueError, match="label map"):
        LabelMap(np.zeros((2, 2, 2), np.float32), np.eye(4))
    with pytest.raises(ValueError, match="mask stack"):
        MaskStack(np.zeros((2, 2, 2), bool), np.eye(4), ("bladder", "rectum"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="different names"):
        MaskStack(np.zeros((2, 2, 2, 2), bool), np.eye(4), ("bladder", "bladder"))
    with pytest.raises(ValueError, match="volume"):
        Volume(np.zeros((2, 2, 2), np.dtype(np.float32).newbyteorder(">")), np.eye(4))


def test_a_mask_is_found_by_its_structure_and_an_unknown_one_lists_the_known() -> None:
    masks = np.zeros((2, 2, 3, 4), bool)
    masks[1, 0, 0, 0] = True
    stack = MaskStack(masks, np.eye(4), ("bladder", "rectum"))
    assert stack.shape == (2, 3, 4)
    assert stack.mask("rectum").sum() == 1
    with pytest.raises(ValueError, match="'uterus'; there are bladder, rectum"):
        stack.mask("uterus")


def test_volumes_survive_pickling_between_processes() -> None:
    volume = Volume(np.ones((2, 3, 4), np.float32), np.diag([3.0, 2.0, 1.0, 1.0]))
    assert volume.grid.spacing_mm == (3.0, 2.0, 1.0)
    copy = pickle.loads(pickle.dumps(volume))
    np.testing.assert_array_equal(copy.array, volume.array)
    assert copy.grid.spacing_mm == (3.0, 2.0, 1.0)
