import time

import numpy as np

from medpipe.dicom.polygons import fill_polygons


def brute_force(polygon: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Even-odd by a ray to the right from each voxel centre, one by one."""
    mask = np.zeros(shape, bool)
    for h in range(shape[0]):
        for w in range(shape[1]):
            for (h0, w0), (h1, w1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
                if (h0 <= h) != (h1 <= h) and w0 + (h - h0) * (w1 - w0) / (h1 - h0) > w:
                    mask[h, w] = not mask[h, w]
    return mask


def fill_one(*polygons, shape=(12, 14)) -> np.ndarray:
    arrays = [np.asarray(polygon, dtype=float) for polygon in polygons]
    return fill_polygons(arrays, [0] * len(arrays), (1, *shape))[0]


def square(low: float, high: float) -> list[tuple[float, float]]:
    return [(low, low), (low, high), (high, high), (high, low)]


def test_random_polygons_agree_with_brute_force_also_beyond_the_border() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        polygon = rng.uniform(-4, 17, size=(rng.integers(3, 12), 2))
        np.testing.assert_array_equal(fill_one(polygon), brute_force(polygon, (12, 14)))


def test_random_polygons_with_vertices_on_voxel_centres_agree_with_brute_force_either_way_round() -> None:
    rng = np.random.default_rng(1)
    for _ in range(60):
        polygon = rng.integers(0, 12, size=(6, 2)).astype(float)
        filled = fill_one(polygon)
        # Shifted by less than any edge can miss a centre by, but more than the brute force's rounding errors.
        np.testing.assert_array_equal(filled, brute_force(polygon - [1e-7, 1e-4], (12, 14)))
        np.testing.assert_array_equal(filled, fill_one(polygon[::-1]))
        np.testing.assert_array_equal(filled, fill_one(np.roll(polygon, 2, axis=0)))


def test_squares_that_share_an_edge_on_voxel_centres_share_no_voxel_and_leave_none_out() -> None:
    left = [(2, 2), (2, 6), (8, 6), (8, 2)]
    right = [(2, 6), (2, 10), (8, 10), (8, 6)]
    together = [(2, 2), (2, 10), (8, 10), (8, 2)]
    assert not (fill_one(left) & fill_one(right)).any()
    np.testing.assert_array_equal(fill_one(left) | fill_one(right), fill_one(together))
    assert fill_one(together).sum() == 6 * 8


def test_a_vertex_a_rounding_error_off_a_voxel_centre_fills_as_if_it_were_on_it() -> None:
    exact = np.asarray(square(2, 8), float)
    for seed in range(20):
        noise = np.random.default_rng(seed).uniform(-1e-9, 1e-9, exact.shape)
        np.testing.assert_array_equal(fill_one(exact + noise), fill_one(exact))


def test_an_inner_polygon_is_a_hole_and_one_within_it_an_island() -> None:
    mask = fill_one(square(0.5, 10.5), square(2.5, 8.5), square(4.5, 6.5))
    assert mask.sum() == 100 - 36 + 4
    assert mask[5, 5]
    assert not mask[3, 3]


def test_a_keyhole_polygon_has_its_hole() -> None:
    keyhole = [*square(0.5, 10.5), (0.5, 0.5), (3.5, 3.5), (7.5, 3.5), (7.5, 7.5), (3.5, 7.5), (3.5, 3.5), (0.5, 0.5)]
    mask = fill_one(keyhole)
    assert mask.sum() == 100 - 16
    assert not mask[5, 5]


def test_separate_polygons_of_a_plane_are_joined_and_planes_stay_apart() -> None:
    polygons = [np.asarray(square(0.5, 2.5)), np.asarray(square(5.5, 8.5)), np.asarray(square(1.5, 2.5))]
    mask = fill_polygons(polygons, [0, 0, 2], (3, 12, 14))
    assert mask.sum(axis=(1, 2)).tolist() == [4 + 9, 0, 1]


def test_a_polygon_beyond_the_border_is_cut_and_one_outside_leaves_nothing() -> None:
    assert fill_one(square(-50, 50)).all()
    assert not fill_one(square(-9, -3)).any()
    assert not fill_one([(2, 20), (2, 30), (8, 30)]).any()
    assert not fill_polygons([], [], (2, 3, 4)).any()


def test_a_large_organ_is_filled_within_two_seconds() -> None:
    angle = np.linspace(0, 2 * np.pi, 1500, endpoint=False)
    outline = np.stack([256 + 200 * np.sin(angle), 256 + 240 * np.cos(angle)], axis=1)
    begin = time.perf_counter()
    mask = fill_polygons([outline] * 150, list(range(150)), (150, 512, 512))
    assert time.perf_counter() - begin < 2
    np.testing.assert_allclose(mask[0].sum(), np.pi * 200 * 240, rtol=1e-3)
