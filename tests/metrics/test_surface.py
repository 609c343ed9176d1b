"""Surface metrics against the golden vectors, against brute force, and at the edges."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, gaussian_filter

from medpipe.metrics.overlap import dice
from medpipe.metrics.surface import SurfaceDistances, surface, surface_distances


def cube(low: int = 20, high: int = 40) -> np.ndarray:
    mask = np.zeros((64, 64, 64), dtype=bool)
    mask[low:high, low:high, low:high] = True
    return mask


def ball(radius: float) -> np.ndarray:
    axes = np.ogrid[:64, :64, :64]
    return sum((axis - 32) ** 2 for axis in axes) <= radius**2


def with_block(mask: np.ndarray, block: slice) -> np.ndarray:
    mask = mask.copy()
    mask[block, block, block] = True
    return mask


def without_last_slices(mask: np.ndarray) -> np.ndarray:
    mask = mask.copy()
    mask[:, :, 34:] = False
    return mask


ISLAND_A = (cube(), with_block(cube(), slice(50, 55)))
ISLAND_F = (cube(), with_block(cube(), slice(50, 57)))
SHIFTED_B = (cube(), np.roll(cube(), 2, axis=0))
SHORTER_C = (cube(), without_last_slices(cube()))
BALLS_D = (ball(10), ball(12))

# name, (reference, prediction), spacing; Dice, HD, HD95 (larger, pooled, mean of directed), ASD (p -> r, r -> p),
# ASSD (pooled, mean of means), NSD at 2 mm
GOLDEN = [
    ("A", ISLAND_A, (1, 1, 1), 0.9922, 25.981, (0, 0, 0), (0.9783, 0), (0.5000, 0.4892), 0.9779),
    ("F", ISLAND_F, (1, 1, 1), 0.9790, 29.445, (24.062, 0, 12.031), (2.2349, 0), (1.1709, 1.1174), 0.9521),
    ("F, 2 mm", ISLAND_F, (2, 1, 1), 0.9790, 41.641, (33.764, 0, 16.882), (3.1539, 0), (1.6524, 1.5769), 0.9521),
    ("B", SHIFTED_B, (1, 1, 1), 0.9000, 2, (2, 2, 2), (0.6716, 0.6716), (0.6716, 0.6716), 1.0),
    ("B, 3 mm", SHIFTED_B, (3, 1, 1), 0.9000, 6, (6, 6, 6), (1.7122, 1.7122), (1.7122, 1.7122), 0.6900),
    ("C", SHORTER_C, (1, 1, 1), 0.8235, 6, (6, 6, 5.5), (0.6332, 1.6328), (1.1918, 1.1330), 0.7876),
    ("C, 3 mm", SHORTER_C, (1, 1, 3), 0.8235, 18, (18, 18, 11.5), (0.6659, 4.8985), (3.0309, 2.7822), 0.7485),
    ("D", BALLS_D, (1, 1, 1), 0.7364, 2.449, (2.236, 2.236, 2.236), (1.9074, 1.8672), (1.8909, 1.8873), 0.7286),
]


@pytest.mark.parametrize(("name", "masks", "spacing_mm", "overlap", "hd", "hd95", "asd", "assd", "nsd"), GOLDEN)
def test_golden_vectors_are_reproduced_to_their_printed_precision(
    name, masks, spacing_mm, overlap, hd, hd95, asd, assd, nsd
) -> None:
    distances = surface_distances(*masks, spacing_mm=spacing_mm)
    directed_95 = [np.percentile(d, 95) for d in (distances.ref_to_pred_mm, distances.pred_to_ref_mm)]
    pooled = np.concatenate([distances.ref_to_pred_mm, distances.pred_to_ref_mm])
    means = [distances.ref_to_pred_mm.mean(), distances.pred_to_ref_mm.mean()]
    half = {4: 0.5e-4, 3: 0.5e-3}  # half a unit of the last printed place
    assert dice(*masks) == pytest.approx(overlap, abs=half[4])
    assert distances.hd_mm() == pytest.approx(hd, abs=half[3])
    assert distances.hd95_mm() == pytest.approx(hd95[0], abs=half[3])
    # The forms of other libraries are numbers of the same look-up.
    assert np.percentile(pooled, 95) == pytest.approx(hd95[1], abs=half[3])
    assert np.mean(directed_95) == pytest.approx(hd95[2], abs=half[3])
    assert distances.asd_mm() == pytest.approx(asd[0], abs=half[4])
    assert means[0] == pytest.approx(asd[1], abs=half[4])
    assert distances.assd_mm() == pytest.approx(assd[0], abs=half[4])
    assert np.mean(means) == pytest.approx(assd[1], abs=half[4])
    assert distances.nsd(2.0) == pytest.approx(nsd, abs=half[4])


def brute_force_surface(mask: np.ndarray) -> np.ndarray:
    return mask & ~binary_erosion(mask, border_value=0)  # scipy's default structure: the face neighbours


def brute_force_distances(
    mask_ref: np.ndarray, mask_pred: np.ndarray, spacing_mm: tuple[float, ...]
) -> list[np.ndarray]:
    points = [np.argwhere(brute_force_surface(mask)) * spacing_mm for mask in (mask_ref, mask_pred)]
    apart = np.sqrt(((points[0][:, None] - points[1][None]) ** 2).sum(axis=2))
    return [apart.min(axis=1), apart.min(axis=0)]


def random_blob(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Smooth islands that often touch the border; now and then only one voxel."""
    if rng.random() < 0.1:
        mask = np.zeros(shape, dtype=bool)
        mask[tuple(rng.integers(0, shape))] = True
        return mask
    field = gaussian_filter(rng.standard_normal(shape), sigma=rng.uniform(0.7, 2.5))
    return field > np.quantile(field, rng.uniform(0.6, 0.97))


@pytest.mark.parametrize("seed", range(100))
def test_random_blobs_agree_with_the_brute_force_definition(seed: int) -> None:
    rng = np.random.default_rng([2601, seed])
    shape = tuple(int(n) for n in rng.integers(3, 13, size=3))
    spacing_mm = tuple(float(s) for s in rng.uniform(0.4, 5.0, size=3))
    mask_ref, mask_pred = random_blob(rng, shape), random_blob(rng, shape)
    distances = surface_distances(mask_ref, mask_pred, spacing_mm=spacing_mm)
    to_pred, to_ref = brute_force_distances(mask_ref, mask_pred, spacing_mm)
    pooled = np.concatenate([to_pred, to_ref])
    tolerance_mm = float(rng.uniform(0, 4))
    exact = {"abs": 1e-9, "rel": 0}  # both in float64, distances under 100 mm: rounding is below 1e-12
    assert distances.hd_mm() == pytest.approx(pooled.max(), **exact)
    assert distances.hd95_mm() == pytest.approx(max(np.percentile(to_pred, 95), np.percentile(to_ref, 95)), **exact)
    assert distances.assd_mm() == pytest.approx(pooled.mean(), **exact)
    assert distances.asd_mm() == pytest.approx(to_ref.mean(), **exact)
    assert distances.nsd(tolerance_mm) == pytest.approx((pooled <= tolerance_mm).mean(), **exact)


def test_the_surface_is_the_mask_less_its_six_neighbour_erosion_with_the_border_outside() -> None:
    rng = np.random.default_rng(7)
    for shape in ((1, 5, 6), (9, 8, 7), (4, 4, 4)):
        mask = random_blob(rng, shape)
        assert np.array_equal(surface(mask), brute_force_surface(mask))
    full = np.ones((5, 5, 5), dtype=bool)
    assert surface(full).sum() == 5**3 - 3**3  # the image border counts as outside


def test_two_voxels_two_slices_apart_are_six_millimetres_apart() -> None:
    mask_ref, mask_pred = np.zeros((2, 9, 9, 9), dtype=bool)
    mask_ref[3, 4, 4] = mask_pred[5, 4, 4] = True
    distances = surface_distances(mask_ref, mask_pred, spacing_mm=(3.0, 1.0, 1.0))
    assert distances.hd_mm() == distances.hd95_mm() == distances.assd_mm() == distances.asd_mm() == 6.0


def metric_numbers(distances: SurfaceDistances) -> list[float]:
    return [distances.hd_mm(), distances.hd95_mm(), distances.assd_mm(), distances.asd_mm(), distances.nsd(1.0)]


def test_one_empty_mask_gives_infinite_distances_and_two_give_nan() -> None:
    empty, full = np.zeros((4, 4, 4), dtype=bool), np.ones((4, 4, 4), dtype=bool)
    for masks in ((empty, full), (full, empty)):
        assert metric_numbers(surface_distances(*masks, spacing_mm=(1, 1, 1))) == [math.inf] * 4 + [0.0]
    assert all(math.isnan(x) for x in metric_numbers(surface_distances(empty, empty, spacing_mm=(1, 1, 1))))


def test_a_surface_one_voxel_off_is_within_a_tolerance_of_one_voxel_whatever_the_header_rounds() -> None:
    spacing = float(np.float32(0.8))  # 0.800000012
    mask_ref, mask_pred = np.zeros((2, 5, 5, 5), dtype=bool)
    mask_ref[1, 2, 2] = mask_pred[2, 2, 2] = True
    assert surface_distances(mask_ref, mask_pred, spacing_mm=(spacing,) * 3).nsd(0.8) == 1.0
    assert surface_distances(mask_ref, mask_pred, spacing_mm=(0.801,) * 3).nsd(0.8) == 0.0


def test_the_box_changes_nothing() -> None:
    rng = np.random.default_rng(3)
    small_ref, small_pred = random_blob(rng, (10, 9, 8)), random_blob(rng, (10, 9, 8))
    large_ref, large_pred = (np.pad(mask, ((30, 5), (0, 17), (4, 40))) for mask in (small_ref, small_pred))
    small = surface_distances(small_ref, small_pred, spacing_mm=(2.5, 0.8, 0.9))
    large = surface_distances(large_ref, large_pred, spacing_mm=(2.5, 0.8, 0.9))
    assert metric_numbers(small) == metric_numbers(large)


@pytest.mark.parametrize("spacing_mm", [(1, 1), (1, 1, 0), (1, 1, -2), (1, 1, math.nan), (1, 1, math.inf)])
def test_a_spacing_that_is_no_spacing_is_refused(spacing_mm: tuple[float, ...]) -> None:
    mask = np.ones((3, 3, 3), dtype=bool)
    with pytest.raises(ValueError, match=r"spacing_mm is .*expected 3 positive numbers in mm"):
        surface_distances(mask, mask, spacing_mm=spacing_mm)


def test_a_negative_tolerance_is_refused() -> None:
    mask = np.ones((3, 3, 3), dtype=bool)
    with pytest.raises(ValueError, match="tolerance_mm is -1"):
        surface_distances(mask, mask, spacing_mm=(1, 1, 1)).nsd(-1)


# Cases of surface-distance whose published Hausdorff distances do not depend on its surface elements; its averages
# and overlaps do (weighted by area, at voxel corners) and are another definition.
def test_published_vectors_of_surface_distance_agree_where_the_definitions_do(real_data: Path) -> None:
    published = json.loads((real_data / "metric_vectors" / "deepmind_surface_distance.json").read_text())
    assert len(published["cases"]) == 9
    for case in published["cases"]:
        mask_ref, mask_pred = (published_mask(case, name) for name in ("gt", "pred"))
        distances = surface_distances(mask_ref, mask_pred, spacing_mm=case["spacing_mm"])
        both_empty = not mask_ref.any() and not mask_pred.any()
        expected_mm = [math.nan] * 2 if both_empty else [float(case["hd100"]), float(case["hd95"])]
        assert [distances.hd_mm(), distances.hd95_mm()] == pytest.approx(expected_mm, abs=5e-4, nan_ok=True), case[
            "name"
        ]
        assert dice(mask_ref, mask_pred) == pytest.approx(float(case["dice"]), abs=5e-4, nan_ok=True), case["name"]
        if not (mask_ref.any() and mask_pred.any()):  # one or both empty: surface Dice is 0 or undefined for both
            assert distances.nsd(1.0) == pytest.approx(float(case["surface_dice_1mm"]), nan_ok=True), case["name"]


def published_mask(case: dict, name: str) -> np.ndarray:
    mask = np.zeros(case["shape"], dtype=bool)
    if f"{name}_box" in case:
        mask[tuple(slice(*limits) for limits in case[f"{name}_box"])] = True
    for voxel in case.get(f"{name}_ones", []):
        mask[tuple(voxel)] = True
    return mask
