import math

import numpy as np
import pytest

from medpipe.datasets.augmentation import (
    AugmentationConfig,
    augment_intensity,
    blur,
    change_contrast,
    change_gamma,
    check_mirroring,
    draw_factor,
    draw_mirrored_axes,
    draw_spatial,
    lower_resolution,
    rotation_matrix,
)


def patch(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((16, 18, 20), dtype=np.float32)


def test_mirroring_left_and_right_is_refused_where_they_are_labels() -> None:
    with pytest.raises(
        ValueError, match=r"mirror_axes \[depth, width\] exchanges left and right .* but femur_left, rib_right_2"
    ):
        check_mirroring(["bladder", "femur_left", "rib_right_2"], ("depth", "width"))
    check_mirroring(["femur_left"], ("depth", "height"))
    check_mirroring(["bladder", "upright_thing", "cleft"], ("depth", "height", "width"))


def test_a_rotation_is_one_of_millimetres_whatever_the_spacing() -> None:
    config = AugmentationConfig(rotation_probability=1.0, scale_probability=0.0)
    spacing = np.array([5.0, 1.0, 2.0])
    matrix = draw_spatial(config, spacing.tolist(), np.random.default_rng(1))
    assert matrix is not None
    in_mm = spacing[:, None] * matrix / spacing[None, :]
    np.testing.assert_allclose(in_mm @ in_mm.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(in_mm) == pytest.approx(1.0)
    assert not np.allclose(in_mm, np.eye(3))


def test_rotating_about_d_turns_h_towards_w() -> None:
    np.testing.assert_allclose(rotation_matrix([math.pi / 2, 0, 0]) @ [0, 1, 0], [0, 0, 1], atol=1e-12)


def test_each_change_comes_as_often_as_its_probability_says() -> None:
    config = AugmentationConfig()
    rng = np.random.default_rng(0)
    drawn = [draw_spatial(config, (1, 1, 1), rng) for _ in range(4000)]
    changed = [matrix for matrix in drawn if matrix is not None]
    # 1 - 0.8 * 0.8 = 0.36; five standard errors of 4000 draws are 0.038.
    assert abs(len(changed) / 4000 - 0.36) < 0.038
    scales = np.cbrt([np.linalg.det(matrix) for matrix in changed])
    scaled = scales[np.abs(scales - 1) > 1e-9]
    assert 0.7 <= scaled.min() < 0.72
    assert 1.38 < scaled.max() <= 1.4


def test_a_factor_lies_under_and_over_one_with_equal_chance() -> None:
    rng = np.random.default_rng(0)
    factors = np.array([draw_factor((0.7, 1.5), rng) for _ in range(4000)])
    assert factors.min() >= 0.7
    assert factors.max() <= 1.5
    assert abs(np.mean(factors < 1) - 0.5) < 0.04  # five standard errors
    assert draw_factor((1.2, 1.2), rng) == pytest.approx(1.2)
    assert max(draw_factor((0.5, 0.9), rng) for _ in range(100)) <= 0.9


def test_a_range_in_the_wrong_order_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a range is \(low, high\)"):
        AugmentationConfig(gamma=(1.5, 0.7))


def test_mirror_axes_are_drawn_with_probability_one_half() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_mirrored_axes(AugmentationConfig(mirror_axes=("depth", "height")), rng) for _ in range(2000)]
    assert abs(np.mean([0 in axes for axes in drawn]) - 0.5) < 0.056  # five standard errors
    assert set(drawn) == {(), (0,), (1,), (0, 1)}
    assert draw_mirrored_axes(AugmentationConfig(), rng) == ()


def test_contrast_keeps_the_mean_and_the_range() -> None:
    x = patch()
    wider = change_contrast(x, 1.25)
    assert wider.min() >= x.min()
    assert wider.max() <= x.max()
    inner = (wider > x.min()) & (wider < x.max())
    np.testing.assert_allclose((wider - x.mean())[inner], 1.25 * (x - x.mean())[inner], atol=1e-5)


@pytest.mark.parametrize("exponent", [0.7, 1.5])
def test_gamma_keeps_mean_and_sd_and_the_order_of_the_values(exponent: float) -> None:
    x = patch()
    changed = change_gamma(x, exponent)
    assert changed.mean() == pytest.approx(x.mean(), abs=1e-5)
    assert changed.std() == pytest.approx(x.std(), rel=1e-4)
    assert (np.diff(changed.ravel()[np.argsort(x.ravel(), kind="stable")]) >= 0).all()


def test_a_flat_patch_survives_gamma() -> None:
    flat = np.full((4, 4, 4), -1.5, dtype=np.float32)
    np.testing.assert_array_equal(change_gamma(flat, 1.4), flat)


def test_a_lower_resolution_keeps_size_and_a_linear_ramp() -> None:
    ramp = np.broadcast_to(np.arange(20, dtype=np.float32), (16, 18, 20)).copy()
    lowered = lower_resolution(ramp, 0.5)
    assert lowered.shape == ramp.shape
    # Nearest at half the voxels is off by half a voxel, and the ends are held: at most one voxel in all.
    assert np.abs(lowered - ramp).max() <= 1.0
    np.testing.assert_array_equal(lower_resolution(ramp, 1.0), ramp)


def test_blur_spreads_a_voxel_and_keeps_its_sum() -> None:
    x = np.zeros((17, 17, 17), dtype=np.float32)
    x[8, 8, 8] = 1
    blurred = blur(x, (1.0, 0.5, 1.0))
    assert blurred.sum() == pytest.approx(1, abs=1e-5)
    assert blurred[8, 8, 9] > blurred[8, 9, 8] > 0


def test_the_same_generator_gives_the_same_patch_and_float32() -> None:
    config = AugmentationConfig(
        noise_probability=1, blur_probability=1, brightness_probability=1, contrast_probability=1,
        low_resolution_probability=1, inverted_gamma_probability=1, gamma_probability=1,
    )  # fmt: skip
    first, second = (augment_intensity(patch(), config, np.random.default_rng([3, 4])) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    assert not np.array_equal(first, patch())


def test_without_any_probability_nothing_changes() -> None:
    off = {name: 0.0 for name in AugmentationConfig.model_fields if name.endswith("probability")}
    np.testing.assert_array_equal(
        augment_intensity(patch(), AugmentationConfig(**off), np.random.default_rng(0)), patch()
    )
