"""Surface distances that are counted near the target alone."""

import math

import numpy as np
import pytest

from medpipe.metrics.near_target import distances_near

SPACING = (2.0, 1.0, 1.0)


def test_only_the_wall_near_the_target_counts() -> None:
    """Two slabs that agree near the target and are 6 mm apart far from it, then the other way round."""
    reference, prediction, target = (np.zeros((6, 40, 60), bool) for _ in range(3))
    reference[:, 10:20, 2:58] = True
    prediction[:, 10:20, 2:30] = True
    prediction[:, 16:26, 30:58] = True
    target[:, 0:4, 2:8] = True
    near = distances_near(reference, prediction, target, spacing_mm=SPACING, within_mm=12)
    assert near.hd95_mm() == near.assd_mm() == near.asd_mm() == 0
    target = target[:, :, ::-1]
    near = distances_near(reference, prediction, target, spacing_mm=SPACING, within_mm=12)
    assert near.hd95_mm() == pytest.approx(6)
    # The prediction's own wall there is beyond 12 mm of the target: one direction is left.
    assert near.pred_to_ref_mm.size == 0
    assert near.assd_mm() == pytest.approx(near.ref_to_pred_mm.mean())


def test_against_the_definition_by_brute_force() -> None:
    from medpipe.metrics.surface import surface

    rng = np.random.default_rng(3)
    reference, prediction = (rng.random((6, 9, 10)) < 0.5 for _ in range(2))
    target = np.zeros((6, 9, 10), bool)
    target[2:4, 3:6, 3:5] = True
    found = distances_near(reference, prediction, target, spacing_mm=SPACING, within_mm=3.0)
    points = [np.argwhere(mask) * np.array(SPACING) for mask in (surface(reference), surface(prediction), target)]

    def apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=2)).min(axis=1)

    ref, pred = (one[apart(one, points[2]) <= 3.0] for one in points[:2])
    assert found.ref_to_pred_mm == pytest.approx(apart(ref, points[1]))
    assert found.pred_to_ref_mm == pytest.approx(apart(pred, points[0]))


def test_empty_masks_and_nothing_near() -> None:
    mask, empty, target = (np.zeros((4, 8, 30), bool) for _ in range(3))
    mask[1:3, 2:6, 2:6] = True
    target[1, 4, 8] = True
    missed = distances_near(mask, empty, target, spacing_mm=SPACING)
    assert missed.hd95_mm() == missed.assd_mm() == math.inf
    assert math.isnan(missed.asd_mm())
    far = distances_near(mask, mask, np.roll(target, 20, axis=2), spacing_mm=SPACING, within_mm=5)
    assert math.isnan(far.hd95_mm())
    assert math.isnan(far.assd_mm())
    with pytest.raises(ValueError, match="target is empty"):
        distances_near(mask, mask, empty, spacing_mm=SPACING)
