import numpy as np
import pytest

from medpipe.geometry.rigid import nearest_rotation, rigid_affine


def sheared(amount: float) -> np.ndarray:
    affine = np.diag([2.0, 1.0, 3.0, 1.0])
    affine[0, 2] = 3.0 * amount  # the third axis leans towards the first
    affine[:3, 3] = 5
    return affine


def test_a_slight_shear_is_projected_to_the_nearest_rotation_and_noted() -> None:
    notes: list[str] = []
    result = rigid_affine(sheared(1.5e-4), notes)  # the projection shares it: cosines end 7.5e-5 off
    directions = result[:3, :3] / np.linalg.norm(result[:3, :3], axis=0)
    np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(result[:3, :3], axis=0), [2, 1, 3], rtol=1e-7)
    assert len(notes) == 1
    assert "nearest rotation" in notes[0]


def test_more_shear_is_refused_with_the_angles() -> None:
    with pytest.raises(ValueError, match=r"90\.000, 89\.427, 90\.000 degrees"):
        rigid_affine(sheared(0.01))


def test_float32_rounding_changes_nothing_and_is_not_noted() -> None:
    angle = 0.3
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    rounded = affine.astype(np.float32).astype(np.float64)
    notes: list[str] = []
    np.testing.assert_array_equal(rigid_affine(rounded, notes), rounded)
    assert notes == []


def test_a_left_handed_affine_stays_left_handed() -> None:
    directions = np.diag([1.0, 1.0, -1.0]) + 1e-5
    rotation = nearest_rotation(directions)
    assert np.linalg.det(rotation) == pytest.approx(-1)
