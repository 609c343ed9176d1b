"""One structure's scores and the four kinds of case."""

import math

import numpy as np
import pytest

from medpipe.metrics.overlap import dice, iou, volume_ml
from medpipe.metrics.scoring import LabelledMap, Masks, score_masks, score_structures
from medpipe.metrics.surface import area_surface_distances, surface_distances

SPACING_MM = (2.0, 1.0, 0.5)


def box(low: int, high: int) -> np.ndarray:
    mask = np.zeros((12, 12, 12), dtype=bool)
    mask[low:high, low:high, low:high] = True
    return mask


def test_a_score_is_the_numbers_of_its_functions() -> None:
    mask_ref, mask_pred = box(2, 8), box(3, 10)
    score = score_masks(mask_ref, mask_pred, spacing_mm=SPACING_MM, tolerances_mm=[2.0, 1.0])
    distances = surface_distances(mask_ref, mask_pred, spacing_mm=SPACING_MM)
    by_area = area_surface_distances(mask_ref, mask_pred, spacing_mm=SPACING_MM)
    volume_ref_ml, volume_pred_ml = (volume_ml(mask, spacing_mm=SPACING_MM) for mask in (mask_ref, mask_pred))
    assert score.row() == {
        "status": "scored",
        "dice": dice(mask_ref, mask_pred),
        "iou": iou(mask_ref, mask_pred),
        "hd_mm": distances.hd_mm(),
        "hd95_mm": distances.hd95_mm(),
        "hd95_pooled_mm": distances.hd95_pooled_mm(),
        "hd95_mean_mm": distances.hd95_mean_mm(),
        "hd95_area_mm": by_area.hd95_mm(),
        "assd_mm": distances.assd_mm(),
        "asd_mm": distances.asd_mm(),
        "nsd_2mm": distances.nsd(2.0),
        "nsd_1mm": distances.nsd(1.0),
        "nsd_area_2mm": by_area.nsd(2.0),
        "nsd_area_1mm": by_area.nsd(1.0),
        "volume_ref_ml": volume_ref_ml,
        "volume_pred_ml": volume_pred_ml,
        "volume_difference_ml": pytest.approx(volume_pred_ml - volume_ref_ml),
        "volume_ratio": pytest.approx(volume_pred_ml / volume_ref_ml),
    }


@pytest.mark.parametrize(
    ("mask_ref", "mask_pred", "status"), [(box(2, 6), box(0, 0), "missed"), (box(0, 0), box(2, 6), "false")]
)
def test_a_missed_and_a_false_structure_score_zero_and_infinite(
    mask_ref: np.ndarray, mask_pred: np.ndarray, status: str
) -> None:
    score = score_masks(mask_ref, mask_pred, spacing_mm=SPACING_MM, tolerances_mm=[2.0, 1.0])
    assert score.status == status
    assert (score.dice, score.iou, score.nsd[2.0]) == (0.0, 0.0, 0.0)
    assert {score.hd_mm, score.hd95_mm, score.hd95_area_mm, score.hd95_pooled_mm, score.assd_mm} == {math.inf}
    assert score.nsd_area[2.0] == 0.0
    assert score.volume_ratio == (0.0 if status == "missed" else math.inf)
    assert {score.volume_ref_ml, score.volume_pred_ml} == {0.0, 4**3 * 1.0 / 1000}


def test_an_absent_structure_is_undefined() -> None:
    score = score_masks(box(0, 0), box(0, 0), spacing_mm=SPACING_MM, tolerances_mm=[2.0, 1.0])
    assert score.status == "absent"
    undefined = (score.dice, score.iou, score.nsd[2.0], score.hd_mm, score.hd95_mm, score.assd_mm, score.asd_mm)
    assert all(math.isnan(value) for value in undefined)
    assert score.volume_ref_ml == score.volume_pred_ml == 0.0


def test_one_voxel_against_itself_is_perfect() -> None:
    score = score_masks(box(5, 6), box(5, 6), spacing_mm=SPACING_MM, tolerances_mm=[0.0])
    assert (score.dice, score.iou, score.nsd[0.0], score.hd_mm) == (1.0, 1.0, 1.0, 0.0)


def test_label_maps_with_other_numbers_and_masks_score_the_same() -> None:
    rng = np.random.default_rng(0)
    ref = rng.integers(0, 4, (8, 9, 10)).astype(np.uint8)
    pred = rng.integers(0, 4, (8, 9, 10)).astype(np.int16)
    pred[pred == 3] = 300
    maps = LabelledMap(ref, {"a": 1, "b": 2, "c": 3}), LabelledMap(pred, {"b": 1, "a": 2, "d": 300})
    masks = Masks({"a": ref == 1, "b": ref == 2, "c": ref == 3}), Masks({"b": pred == 1, "a": pred == 2})
    options = {"spacing_mm": SPACING_MM, "tolerances_mm": [1.0]}
    found = score_structures(*maps, ["a", "b", "c"], **options)
    assert found == score_structures(*masks, ["a", "b", "c"], **options)
    assert found["c"].status == "missed"
    assert found["a"].dice == dice(ref == 1, pred == 2)
