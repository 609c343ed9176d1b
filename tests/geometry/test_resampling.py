import time

import numpy as np
import pytest

from medpipe.geometry.orientation import to_canonical
from medpipe.geometry.resampling import (
    resample_label_map,
    resample_like,
    resample_masks,
    resample_volume,
    resampled_grid,
)
from medpipe.geometry.volume import Grid, LabelMap, MaskStack, Volume

CANONICAL = np.array([[0, 0, 1.0], [0, 1, 0], [1, 0, 0]])


def grid(shape=(20, 24, 28), spacing=(2.0, 1.5, 1.0), turn=None) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if turn is None else turn) @ CANONICAL * spacing
    affine[:3, 3] = (-11.0, 7.0, 23.0)
    return Grid(shape, affine)


def turned(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def world(g: Grid) -> np.ndarray:
    """RAS mm (D, H, W, 3) of each voxel centre."""
    return g.index_to_world(np.indices(g.shape).reshape(3, -1).T).reshape(*g.shape, 3)


def ramp(g: Grid) -> np.ndarray:
    return (world(g) @ [3.0, -2.0, 1.5] + 40).astype(np.float32)


def ball(g: Grid, radius_mm: float) -> np.ndarray:
    centre = g.corners_mm().mean(axis=0)
    return np.linalg.norm(world(g) - centre, axis=-1) < radius_mm


def interior(g: Grid, source: Grid, margin: float) -> np.ndarray:
    """Voxels of `g` at least `margin` voxels of the source away from the centres of its border voxels."""
    index = source.world_to_index(world(g).reshape(-1, 3))
    inside = (index >= margin) & (index <= np.asarray(source.shape) - 1 - margin)
    return inside.all(axis=1).reshape(g.shape)


def test_a_resampled_grid_fills_the_same_box_at_exactly_the_spacing() -> None:
    source = grid(turn=turned(20))
    target = resampled_grid(source, (1.0, 1.0, 2.0))
    assert target.shape == (40, 36, 14)
    np.testing.assert_allclose(target.spacing_mm, (1, 1, 2))
    np.testing.assert_allclose(target.corners_mm(), source.corners_mm(), atol=1e-12)


def test_a_resampled_grid_that_does_not_divide_is_centred_and_within_a_quarter_voxel() -> None:
    source = grid((7, 9, 11))
    spacing = (3.3, 0.77, 20.0)
    target = resampled_grid(source, spacing)
    assert target.shape == (4, 18, 1)
    np.testing.assert_allclose(target.corners_mm().mean(axis=0), source.corners_mm().mean(axis=0), atol=1e-12)
    offset = np.abs(target.corners_mm() - source.corners_mm()) @ CANONICAL
    assert (offset[:, :2] <= 0.25 * np.asarray(spacing[:2]) + 1e-12).all()
    with pytest.raises(ValueError, match="above 0 mm"):
        resampled_grid(source, (1.0, 0.0, 1.0))


@pytest.mark.parametrize("degrees", [0, 20])
def test_a_linear_ramp_in_the_world_is_kept_exactly_by_linear_resampling(degrees: float) -> None:
    source = grid()
    target = Grid((22, 25, 20), resampled_grid(grid(turn=turned(degrees)), (1.3, 1.1, 1.7)).affine)
    resampled = resample_volume(Volume(ramp(source), source.affine), target, interpolation="linear", fill=0)
    inside = interior(target, source, 0)
    assert inside.sum() > 500
    np.testing.assert_allclose(resampled.array[inside], ramp(target)[inside], atol=2e-4)  # float32 of some 100 HU


@pytest.mark.parametrize("spacing", [(2.0, 1.5, 1.0), (6.0, 0.6, 0.6)])
def test_a_spline_keeps_a_ramp_to_a_thousandth_away_from_the_border(spacing: tuple[float, float, float]) -> None:
    source = grid((30, 30, 30), spacing)
    target = resampled_grid(source, (1.7, 1.1, 1.3))
    resampled = resample_volume(Volume(ramp(source), source.affine), target)
    # The mirrored border rings into the image, by 0.27 a voxel: 1e-5 of its 100 HU after nine.
    inside = interior(target, source, 9)
    assert inside.sum() > 100
    np.testing.assert_allclose(resampled.array[inside], ramp(target)[inside], atol=1e-3)


def test_a_spline_through_thick_slices_does_not_ring_across_them() -> None:
    source = grid((12, 30, 30), (5.0, 1.0, 1.0))
    array = np.full(source.shape, 50, np.float32)
    array[6:] = -1000  # the patient ends between two slices
    target = resampled_grid(source, (1.0, 1.0, 1.0))
    separate = resample_volume(Volume(array, source.affine), target).array
    assert separate.min() >= -1000.01
    assert separate.max() <= 50.01
    thin = Grid(source.shape, grid((12, 30, 30), (2.9, 1.0, 1.0)).affine)
    ringing = resample_volume(Volume(array, thin.affine), resampled_grid(thin, (1.0, 1.0, 1.0))).array
    assert ringing.max() > 60  # what separating the axis avoids


def test_thick_slices_on_a_turned_grid_are_linear() -> None:
    source = grid((12, 30, 30), (5.0, 1.0, 1.0))
    volume = Volume(ramp(source), source.affine)
    target = Grid((20, 20, 20), grid((20, 20, 20), (1.0, 1.0, 1.0), turned(10)).affine)
    np.testing.assert_array_equal(
        resample_volume(volume, target).array, resample_volume(volume, target, interpolation="linear").array
    )


def test_the_same_grid_gives_the_same_values_and_outside_is_filled() -> None:
    source = grid()
    volume = Volume(np.random.default_rng(0).normal(0, 50, source.shape).astype(np.float32), source.affine)
    np.testing.assert_allclose(resample_volume(volume, source).array, volume.array, atol=1e-3)
    for spacing in ((2.0, 1.5, 1.0), (9.0, 1.5, 1.0)):
        volume = Volume(volume.array, grid(spacing=spacing).affine)
        wide = volume.grid.box((-3, -3, -3), (23, 27, 31))
        padded = resample_volume(volume, wide).array
        np.testing.assert_allclose(padded[3:-3, 3:-3, 3:-3], volume.array, atol=1e-3)
        padded[3:-3, 3:-3, 3:-3] = -1024
        assert (padded == -1024).all()


def test_int16_stays_int16_and_is_rounded_not_cut() -> None:
    source = grid()
    array = np.random.default_rng(0).integers(-1000, 1000, source.shape).astype(np.int16)
    target = resampled_grid(source, (1.0, 1.0, 1.0))
    resampled = resample_volume(Volume(array, source.affine), target).array
    exact = resample_volume(Volume(array.astype(np.float32), source.affine), target).array
    assert resampled.dtype == np.int16
    np.testing.assert_array_equal(resampled, np.rint(exact))


def test_one_slice_and_one_voxel_are_resampled() -> None:
    for shape in ((1, 8, 8), (1, 1, 1), (2, 3, 9)):
        source = grid(shape)
        volume = Volume(np.full(shape, 7, np.float32), source.affine)
        np.testing.assert_allclose(resample_volume(volume, resampled_grid(source, (0.7, 0.7, 0.7))).array, 7, atol=1e-4)


def test_the_number_of_threads_changes_nothing() -> None:
    source = grid()
    volume = Volume(ramp(source), source.affine)
    target = resampled_grid(source, (1.1, 1.3, 1.7))
    np.testing.assert_array_equal(
        resample_volume(volume, target, num_threads=1).array, resample_volume(volume, target, num_threads=2).array
    )


@pytest.mark.parametrize("degrees", [0, 20])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 2.0, 2.0)])
def test_the_volume_of_a_ball_is_kept_within_two_percent(spacing: tuple[float, float, float], degrees: float) -> None:
    source = grid((30, 40, 60))
    mask = ball(source, 26)
    target = resampled_grid(grid((30, 40, 60), turn=turned(degrees)), spacing)
    target = target.box((-8, -14, -14), tuple(size + 14 for size in target.shape))  # type: ignore[arg-type]
    volume_ml = mask.sum() * source.voxel_ml
    masks = resample_masks(MaskStack(mask[None], source.affine, ("bladder",)), target)
    assert masks.array.sum() * target.voxel_ml == pytest.approx(volume_ml, rel=0.02)
    labels = resample_label_map(LabelMap(mask.astype(np.uint8), source.affine), target)
    np.testing.assert_array_equal(labels.array > 0, masks.array[0])


def test_a_sheet_of_one_voxel_survives_halving_and_doubling() -> None:
    source = grid((20, 24, 28), (1.0, 1.0, 1.0))
    for place in (6, 7):
        sheet = np.zeros(source.shape, bool)
        sheet[place, 4:20, 4:24] = True
        for spacing in ((2.0, 2.0, 2.0), (0.5, 0.5, 0.5)):
            target = resampled_grid(source, spacing)
            mask = resample_masks(MaskStack(sheet[None], source.affine, ("wall",)), target).array[0]
            label = resample_label_map(LabelMap(sheet.astype(np.int16), source.affine), target).array
            # Its four outermost corners are rounded off where it is refined: 0.75 cubed is less than half.
            assert mask.any(axis=0).sum() == sheet.sum() / spacing[0] ** 2 - (4 if spacing[0] < 1 else 0)
            np.testing.assert_array_equal(label > 0, mask)


def test_a_structure_too_small_for_the_grid_is_noted() -> None:
    source = grid((20, 24, 28), (1.0, 1.0, 1.0))
    masks = np.zeros((2, *source.shape), bool)
    masks[0, 5, 5, 5] = masks[1, 4:12, 4:12, 4:12] = True
    notes: list[str] = []
    stack = MaskStack(masks, source.affine, ("point_a", "bladder"))
    resample_masks(stack, resampled_grid(source, (3.0, 4.0, 4.0)), notes=notes)
    assert notes == ["point_a (1 voxels) was too small and is lost by resampling to 3 x 4 x 4 mm"]


def label_map_by_definition(label_map: LabelMap, target: Grid) -> np.ndarray:
    """Every label and the background interpolated on the whole grid, then the first of the largest, background last."""
    values = np.unique(label_map.array)
    shares = []
    for value in [*values[values > 0], 0]:
        share = (label_map.array == value).astype(np.float32)
        fill = 1.0 if value == 0 else 0.0
        shares.append(resample_volume(Volume(share, label_map.affine), target, interpolation="linear", fill=fill).array)
    # Rounded, so that exact ties are ties in float32 too.
    return np.asarray([*values[values > 0], 0])[np.argmax(np.round(shares, 3), axis=0)]


@pytest.mark.parametrize("highest", [4, 90_000])
def test_label_maps_follow_their_definition(highest: int) -> None:
    source = grid((12, 13, 14))
    coarse = np.random.default_rng(0).integers(0, 5, (4, 5, 5))
    labels = np.kron(coarse, np.ones((3, 3, 3), int))[:12, :13, :14]
    labels[labels == 4] = highest
    label_map = LabelMap(labels.astype(np.int32), source.affine)
    # Spacings without a common measure: no tie depends on rounding but those that are exact.
    target = resampled_grid(source, (1.37, 1.13, 0.83))
    resampled = resample_label_map(label_map, target)
    assert resampled.array.dtype == np.int32
    by_definition = label_map_by_definition(label_map, target)
    # The definition's rounding to a thousandth makes ties of its own.
    assert (resampled.array != by_definition).mean() < 2e-3
    assert set(np.unique(resampled.array)) == set(np.unique(labels))


def test_labels_outside_the_old_box_are_background() -> None:
    source = grid((6, 6, 6))
    label_map = LabelMap(np.full((6, 6, 6), 3, np.uint8), source.affine)
    wide = source.box((-2, -2, -2), (8, 8, 8))
    resampled = resample_label_map(label_map, wide).array
    assert (resampled[2:-2, 2:-2, 2:-2] == 3).all()
    assert resampled.sum() == 3 * 6**3
    with pytest.raises(ValueError, match="negative label"):
        resample_label_map(LabelMap(label_map.array.astype(np.int16) - 4, source.affine), wide)


def test_sixty_labels_take_seconds_and_the_memory_of_one() -> None:
    source = grid((100, 160, 160), (3.0, 1.0, 1.0))
    labels = np.zeros(source.shape, np.uint8)
    for label, (d, h, w) in enumerate(np.ndindex(4, 4, 4), start=1):
        labels[d * 24 + 2 : d * 24 + 22, h * 40 + 3 : h * 40 + 37, w * 40 + 3 : w * 40 + 37] = label
    begin = time.perf_counter()
    resampled = resample_label_map(LabelMap(labels, source.affine), resampled_grid(source, (1.5, 1.5, 1.5)))
    assert time.perf_counter() - begin < 10  # 1 s on an idle core; without boxes it is 64 whole volumes
    assert len(np.unique(resampled.array)) == 65


def test_labels_like_another_grid_are_those_of_the_nearest_voxel_and_back_again_identical() -> None:
    source = grid((12, 13, 14))
    labels = np.random.default_rng(0).integers(0, 200, source.shape).astype(np.uint8)
    fine = resampled_grid(source, (1.0, 0.75, 0.5))
    doubled = resample_like(LabelMap(labels, source.affine), fine)
    np.testing.assert_array_equal(doubled.array, labels.repeat(2, 0).repeat(2, 1).repeat(2, 2))
    masks = MaskStack(np.stack([labels > 100, labels < 50]), source.affine, ("a", "b"))
    like = resample_like(masks, fine)
    assert like.structures == ("a", "b")
    np.testing.assert_array_equal(like.mask("b"), doubled.array < 50)


def test_a_volume_like_another_grid_is_linear() -> None:
    source = grid()
    volume = Volume(ramp(source), source.affine)
    target = resampled_grid(source, (1.0, 1.0, 1.0))
    expected = resample_volume(volume, target, interpolation="linear").array
    np.testing.assert_array_equal(resample_like(volume, target).array, expected)


def test_resampling_and_turning_to_canonical_axes_commute() -> None:
    affine = grid().affine[:, [2, 0, 1, 3]].copy()
    affine[:, 1] *= -1
    volume = Volume(np.random.default_rng(0).normal(0, 50, (9, 10, 11)).astype(np.float32), affine)
    target = resampled_grid(volume.grid, (1.3, 1.3, 1.3))
    turned_after = to_canonical(resample_volume(volume, target, interpolation="linear"))
    canonical = to_canonical(volume)
    turned_before = resample_volume(canonical, resampled_grid(canonical.grid, (1.3, 1.3, 1.3)), interpolation="linear")
    np.testing.assert_allclose(turned_after.array, turned_before.array, atol=1e-3)
