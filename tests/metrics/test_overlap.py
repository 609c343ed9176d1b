"""Dice, IoU and volume, by hand and against MONAI's published cases."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from medpipe.metrics.overlap import dice, iou, volume_ml


def test_dice_and_iou_of_a_hand_count() -> None:
    mask_ref = np.array([[1, 1, 1, 0]], dtype=bool)
    mask_pred = np.array([[0, 1, 1, 1]], dtype=bool)
    assert dice(mask_ref, mask_pred) == 4 / 6
    assert iou(mask_ref, mask_pred) == 2 / 4


def test_empty_masks_are_undefined_together_and_zero_alone() -> None:
    empty, full = np.zeros((2, 2), dtype=bool), np.ones((2, 2), dtype=bool)
    for metric in (dice, iou):
        assert math.isnan(metric(empty, empty))
        assert metric(empty, full) == metric(full, empty) == 0.0


def test_volume_in_millilitres() -> None:
    mask = np.zeros((10, 10, 10), dtype=bool)
    mask[:5, :4, :2] = True
    assert volume_ml(mask, spacing_mm=(2.5, 1.0, 0.8)) == pytest.approx(40 * 2.0 / 1000, rel=1e-12)


def test_labels_are_not_taken_for_masks() -> None:
    labels = np.array([0, 2, 5])
    with pytest.raises(ValueError, match=r"reference mask is int64, expected bool; .*label_map == value"):
        dice(labels, labels)


def test_masks_of_two_grids_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3, 3\), the prediction \(3, 4\).*resample_like"):
        dice(np.ones((3, 3), dtype=bool), np.ones((3, 4), dtype=bool))


def as_masks(array: object) -> np.ndarray:
    """(batch, channel, ...) masks of a published argument."""
    if isinstance(array, dict):
        ((kind, shape),) = array.items()
        return np.full(shape, kind == "ones")
    return np.asarray(array) > 0.5


def test_published_dice_of_monai_is_reproduced_where_the_reference_is_not_empty(real_data: Path) -> None:
    published = json.loads((real_data / "metric_vectors" / "monai_mean_dice.json").read_text())
    compared = 0
    for case in published["cases"]:
        options, masks = case["args"][0], case["args"][-1]
        mask_ref, mask_pred = as_masks(masks["y"]), as_masks(masks["y_pred"])
        if not options.get("include_background", True):
            mask_ref, mask_pred = mask_ref[:, 1:], mask_pred[:, 1:]
        ours = np.array(
            [[dice(r, p) for r, p in zip(*pair, strict=True)] for pair in zip(mask_ref, mask_pred, strict=True)]
        )
        # MONAI leaves out whatever has an empty reference; ours gives 0 to a false structure (DESIGN section 6).
        ours[~mask_ref.reshape(*ours.shape, -1).any(axis=2)] = np.nan
        expected = np.array(case["expected"], dtype=float)
        if options.get("ignore_empty", True) is False:
            continue  # its convention for empty references, not ours
        compared += 1
        assert monai_reduction(ours, options.get("reduction")) == pytest.approx(expected, abs=1e-4), case["name"]
    assert compared == 7


def monai_reduction(values: np.ndarray, reduction: str | None) -> np.ndarray | float:
    """MONAI's reductions over (batch, channel), which skip NaN and give 0 where nothing is left."""
    known = ~np.isnan(values)
    if reduction is None:
        return values
    total, count = np.nansum(values, axis=0), known.sum(axis=0)
    if reduction == "sum_batch":
        return total
    if reduction == "mean_batch":
        return np.where(count > 0, total / np.maximum(count, 1), 0.0)
    assert reduction == "mean"  # over the channels of each item, then over the items
    per_item = np.nansum(values, axis=1) / np.maximum(known.sum(axis=1), 1)
    return per_item[known.any(axis=1)].mean()
