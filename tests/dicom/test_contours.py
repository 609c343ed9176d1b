import numpy as np
import pytest

from medpipe.dicom.contours import mask_to_contours
from medpipe.dicom.polygons import fill_polygons


def refill(mask: np.ndarray) -> np.ndarray:
    polygons = mask_to_contours(mask)
    return fill_polygons(polygons, [0] * len(polygons), (1, *mask.shape))[0]


def signed_area(polygon: np.ndarray) -> float:
    h, w = polygon.T
    return float(np.sum(w * np.roll(h, -1) - h * np.roll(w, -1)) / 2)


def test_two_hundred_random_masks_come_back_identical() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        shape = tuple(rng.integers(1, 20, size=2))
        mask = rng.random(shape) < rng.uniform(0.05, 0.95)
        np.testing.assert_array_equal(refill(mask), mask)


@pytest.mark.parametrize(
    "mask",
    [
        np.ones((1, 1), bool),
        np.ones((5, 7), bool),
        np.eye(6, dtype=bool),
        ~np.eye(6, dtype=bool),
        np.indices((7, 8)).sum(axis=0) % 2 == 0,
        np.zeros((4, 4), bool),
    ],
    ids=["one voxel", "full slice", "diagonal", "diagonal background", "chessboard", "empty"],
)
def test_awkward_masks_come_back_identical(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(refill(mask), mask)


def test_the_areas_of_the_polygons_are_the_voxels_and_holes_count_against() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        mask = rng.random((15, 18)) < 0.6
        assert sum(signed_area(polygon) for polygon in mask_to_contours(mask)) == mask.sum()


def test_one_voxel_is_a_square_around_its_centre() -> None:
    mask = np.zeros((4, 5), bool)
    mask[2, 3] = True
    (polygon,) = mask_to_contours(mask)
    assert sorted(map(tuple, polygon)) == [(1.5, 2.5), (1.5, 3.5), (2.5, 2.5), (2.5, 3.5)]


def test_straight_edges_have_corners_only_at_their_ends_and_a_hole_is_a_second_polygon() -> None:
    mask = np.ones((9, 9), bool)
    mask[3:6, 3:6] = False
    outer, hole = sorted(mask_to_contours(mask), key=signed_area, reverse=True)
    assert len(outer) == len(hole) == 4
    assert signed_area(outer) == 81
    assert signed_area(hole) == -9


def test_voxels_that_touch_at_a_corner_get_polygons_of_their_own() -> None:
    assert [len(polygon) for polygon in mask_to_contours(np.eye(3, dtype=bool))] == [4, 4, 4]
