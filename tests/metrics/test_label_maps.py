"""All structures of two label maps at once: against brute force, near and far, at borders, of any integer type."""

import importlib.util
import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist

from medpipe.metrics.label_maps import LabelMapPair, distances_of
from medpipe.metrics.surface import AreaSurfaceDistances, SurfaceDistances, area_surface_distances, surface
from medpipe.metrics.surface_area import corner_measures

SPACING_MM = (2.5, 0.8, 0.7)


def blob(rng: np.random.Generator, shape: tuple[int, ...], share: float) -> np.ndarray:
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), 1.5)
    return noise > np.quantile(noise, 1 - share)


def brute_force_mm(from_mask: np.ndarray, to_mask: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Every surface voxel against every other, in the order of the array."""
    points, others = (np.argwhere(surface(mask)) * np.asarray(spacing_mm) for mask in (from_mask, to_mask))
    return cdist(points, others).min(axis=1) if len(others) else np.full(len(points), np.inf)


def codes_of(mask: np.ndarray) -> np.ndarray:
    """The code of the voxels around each corner, one lattice corner at a time."""
    padded = np.pad(mask.astype(int), 1)
    corners = [range(size + 1) for size in mask.shape]
    weights = 2 ** np.arange(2**mask.ndim)[::-1].reshape((2,) * mask.ndim)
    codes = np.zeros([len(axis) for axis in corners], dtype=int)
    for corner in itertools.product(*corners):
        codes[corner] = int((padded[tuple(slice(c, c + 2) for c in corner)] * weights).sum())
    return codes


def plain_area_distances(ref: np.ndarray, pred: np.ndarray, spacing_mm: tuple[float, ...]) -> AreaSurfaceDistances:
    """The definition, corner by corner, distances by brute force."""
    full = 2 ** (2**ref.ndim) - 1
    measures = corner_measures(spacing_mm)
    points, areas = [], []
    for mask in (ref, pred):
        codes = codes_of(mask)
        is_surface = (codes > 0) & (codes < full)
        points.append(np.argwhere(is_surface) * np.asarray(spacing_mm))
        areas.append(measures[codes[is_surface]])
    apart = cdist(*points)
    return AreaSurfaceDistances(apart.min(axis=1), apart.min(axis=0), *areas)


def check_pair(ref: np.ndarray, pred: np.ndarray, found: SurfaceDistances) -> None:
    assert found.ref_to_pred_mm == pytest.approx(brute_force_mm(ref, pred, SPACING_MM), abs=1e-9)
    assert found.pred_to_ref_mm == pytest.approx(brute_force_mm(pred, ref, SPACING_MM), abs=1e-9)


@pytest.mark.parametrize("seed", range(200))
def test_random_pairs_agree_with_brute_force_voxel_by_voxel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(size) for size in rng.integers(1, 16, 3))
    share = (0.0, 0.05, 0.3, 0.9, 1.0)
    ref, pred = (blob(rng, shape, float(rng.choice(share))) for _ in range(2))
    if seed % 10 == 0:  # one voxel each, at opposite corners
        ref[...], pred[...] = False, False
        ref.flat[0], pred.flat[-1] = True, True
    pair = LabelMapPair.of_masks(ref, pred, SPACING_MM)
    check_pair(ref, pred, pair.structure(1).distances())
    assert pair.counts[:, 1].tolist() == [ref.sum(), pred.sum(), (ref & pred).sum()]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64])
@pytest.mark.parametrize("width", [16, 17, 18, 20])
def test_many_structures_of_any_type_are_those_of_their_masks(dtype: type, width: int) -> None:
    rng = np.random.default_rng(width)
    labels = (1, 2, 7) if dtype is np.uint8 else (1, 300, 1234)
    ref, pred = (np.zeros((9, 14, width), dtype=dtype) for _ in range(2))
    for label in labels:
        for array in (ref, pred):
            array[blob(rng, array.shape, 0.15)] = label
    pred[pred == labels[2]] = 0  # missed
    if dtype not in (np.uint8, np.uint16):
        ref[0, 0, :3] = -1  # voxels that are left out
    pair = LabelMapPair.of(ref, pred, labels, SPACING_MM, num_threads=3)
    for label, (by_voxel, by_area) in distances_of(pair, labels, num_threads=2).items():
        alone = LabelMapPair.of_masks(ref == label, pred == label, SPACING_MM).structure(1)
        check_pair(ref == label, pred == label, by_voxel)
        assert pair.counts[:, label].tolist() == [alone.num_ref, alone.num_pred, alone.num_common]
        assert by_area.pred_to_ref_mm.tolist() == alone.area_distances().pred_to_ref_mm.tolist()
        assert by_area.area_ref.tolist() == alone.area_distances().area_ref.tolist()


@pytest.mark.parametrize("shift", [(0, 0, 90), (0, 60, 3), (20, 0, 0), (15, -50, 70)])
def test_displaced_structures_and_far_islands_are_exact(shift: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(1)
    ref, pred = np.zeros((32, 130, 130), dtype=bool), np.zeros((32, 130, 130), dtype=bool)
    ref[4:12, 58:70, 10:26] = blob(rng, (8, 12, 16), 0.6)
    moved = np.roll(ref, shift, axis=(0, 1, 2))
    check_pair(ref, moved, LabelMapPair.of_masks(ref, moved, SPACING_MM).structure(1).distances())
    pred[...] = ref
    pred[28:30, 3:6, 120:125] = True
    check_pair(ref, pred, LabelMapPair.of_masks(ref, pred, SPACING_MM).structure(1).distances())
    check_pair(pred, moved, LabelMapPair.of_masks(pred, moved, SPACING_MM).structure(1).distances())


def test_views_that_are_not_contiguous_give_the_same() -> None:
    rng = np.random.default_rng(2)
    ref, pred = blob(rng, (12, 14, 16), 0.3), blob(rng, (12, 14, 16), 0.3)
    check_pair(ref.T, pred.T, LabelMapPair.of_masks(ref.T, pred.T, SPACING_MM).structure(1).distances())


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("num_axes", [2, 3])
def test_the_area_weighted_form_is_its_definition(seed: int, num_axes: int) -> None:
    rng = np.random.default_rng(seed)
    spacing_mm = SPACING_MM[:num_axes]
    ref, pred = (blob(rng, (8, 9, 10)[:num_axes], 0.3) for _ in range(2))
    found, expected = (
        area_surface_distances(ref, pred, spacing_mm=spacing_mm),
        plain_area_distances(ref, pred, spacing_mm),
    )
    for name in ("ref_to_pred_mm", "pred_to_ref_mm", "area_ref", "area_pred"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1e-9)
    assert found.hd95_mm() == pytest.approx(expected.hd95_mm())
    assert found.nsd(1.5) == pytest.approx(expected.nsd(1.5))


def test_the_surface_elements_are_the_published_ones() -> None:
    """monai carries the same tables for its own forms of these metrics."""
    if importlib.util.find_spec("monai") is None:
        pytest.skip("monai is not installed")
    from monai.metrics.utils import (
        create_table_neighbour_code_to_contour_length,
        create_table_neighbour_code_to_surface_area,
    )

    areas, _ = create_table_neighbour_code_to_surface_area(SPACING_MM)
    lengths, _ = create_table_neighbour_code_to_contour_length(SPACING_MM[:2])
    assert corner_measures(SPACING_MM) == pytest.approx(np.asarray(areas, dtype=float), rel=1e-6)
    assert corner_measures(SPACING_MM[:2]) == pytest.approx(np.asarray(lengths, dtype=float), rel=1e-6)


def test_the_area_of_a_ball_is_near_its_closed_form() -> None:
    axes = np.ogrid[-12:13, -12:13, -12:13]
    ball = sum(axis**2 for axis in axes) <= 100
    found = area_surface_distances(ball, ball, spacing_mm=(1, 1, 1))
    assert found.area_ref.sum() == pytest.approx(4 * math.pi * 100, rel=0.1)
    assert (found.hd95_mm(), found.nsd(0)) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("case", "spacing_mm", "pooled", "mean"),
    [("A", (1, 1, 1), 0, 0), ("F", (1, 1, 1), 0, 12.031), ("F", (2, 1, 1), 0, 16.882), ("B", (1, 1, 1), 2, 2),
     ("B", (3, 1, 1), 6, 6), ("C", (1, 1, 1), 6, 5.5), ("C", (1, 1, 3), 18, 11.5), ("D", (1, 1, 1), 2.236, 2.236)],
)  # fmt: skip
def test_golden_vectors_of_the_other_forms_of_hd95(
    case: str, spacing_mm: tuple[float, ...], pooled: float, mean: float
) -> None:
    ref = np.zeros((64, 64, 64), dtype=bool)
    ref[20:40, 20:40, 20:40] = True
    pred = ref.copy()
    if case in "AF":
        end = {"A": 55, "F": 57}[case]
        pred[50:end, 50:end, 50:end] = True
    elif case == "B":
        pred = np.roll(ref, 2, axis=0)
    elif case == "C":
        pred[:, :, 34:] = False
    else:
        radius = np.sqrt(sum((axis - 32) ** 2 for axis in np.ogrid[:64, :64, :64]))
        ref, pred = radius <= 10, radius <= 12
    found = LabelMapPair.of_masks(ref, pred, spacing_mm).structure(1).distances()
    assert found.hd95_pooled_mm() == pytest.approx(pooled, abs=5e-4)
    assert found.hd95_mean_mm() == pytest.approx(mean, abs=5e-4)


def test_arrays_that_are_no_label_maps_are_refused() -> None:
    labels = np.zeros((3, 4, 5), dtype=np.uint8)
    with pytest.raises(ValueError, match="float64"):
        LabelMapPair.of(labels.astype(float), labels, [1], SPACING_MM)
    with pytest.raises(ValueError, match="grid first"):
        LabelMapPair.of(labels, labels[:2], [1], SPACING_MM)
    with pytest.raises(ValueError, match="spacing_mm"):
        LabelMapPair.of(labels, labels, [1], (1, 0, 1))
