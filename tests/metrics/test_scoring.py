"""One structure's scores and the four kinds of case."""

import math
from dataclasses import asdict

import numpy as np
import pytest

from medpipe.metrics.overlap import dice, iou, volume_ml
from medpipe.metrics.scoring import score_masks
from medpipe.metrics.surface import surface_distances

SPACING_MM = (2.0, 1.0, 0.5)


def box(low: int, high: int) -> np.ndarray:
    mask = np.zeros((12, 12, 12), dtype=bool)
    mask[low:high, low:high, low:high] = True
    return mask


def test_a_score_is_the_numbers_of_its_functions() -> None:
    mask_ref, mask_pred = box(2, 8), box(3, 10)
    score = score_masks(mask_ref, mask_pred, spacing_mm=SPACING_MM, tolerance_mm=2.0)
    distances = surface_distances(mask_ref, mask_pred, spacing_mm=SPACING_MM)
    assert asdict(score) == {
        "status": "scored",
        "dice": dice(mask_ref, mask_pred),
        "iou": iou(mask_ref, mask_pred),
        "hd_mm": distances.hd_mm(),
        "hd95_mm": distances.hd95_mm(),
        "assd_mm": distances.assd_mm(),
        "asd_mm": distances.asd_mm(),
        "nsd": distances.nsd(2.0),
        "tolerance_mm": 2.0,
        "volume_ref_ml": volume_ml(mask_ref, spacing_mm=SPACING_MM),
        "volume_pred_ml": volume_ml(mask_pred, spacing_mm=SPACING_MM),
    }


@pytest.mark.parametrize(
    ("mask_ref", "mask_pred", "status"), [(box(2, 6), box(0, 0), "missed"), (box(0, 0), box(2, 6), "false")]
)
def test_a_missed_and_a_false_structure_score_zero_and_infinite(
    mask_ref: np.ndarray, mask_pred: np.ndarray, status: str
) -> None:
    score = score_masks(mask_ref, mask_pred, spacing_mm=SPACING_MM, tolerance_mm=2.0)
    assert score.status == status
    assert (score.dice, score.iou, score.nsd) == (0.0, 0.0, 0.0)
    assert {score.hd_mm, score.hd95_mm, score.assd_mm, score.asd_mm} == {math.inf}
    assert {score.volume_ref_ml, score.volume_pred_ml} == {0.0, 4**3 * 1.0 / 1000}


def test_an_absent_structure_is_undefined() -> None:
    score = score_masks(box(0, 0), box(0, 0), spacing_mm=SPACING_MM, tolerance_mm=2.0)
    assert score.status == "absent"
    undefined = (score.dice, score.iou, score.nsd, score.hd_mm, score.hd95_mm, score.assd_mm, score.asd_mm)
    assert all(math.isnan(value) for value in undefined)
    assert score.volume_ref_ml == score.volume_pred_ml == 0.0


def test_one_voxel_against_itself_is_perfect() -> None:
    score = score_masks(box(5, 6), box(5, 6), spacing_mm=SPACING_MM, tolerance_mm=0.0)
    assert (score.dice, score.iou, score.nsd, score.hd_mm) == (1.0, 1.0, 1.0, 0.0)
