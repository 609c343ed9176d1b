"""All scores of one structure in one case."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from medpipe.metrics.masks import check_mask_pair, joint_box
from medpipe.metrics.overlap import dice, iou, volume_ml
from medpipe.metrics.surface import surface_distances

Status = Literal["scored", "missed", "false", "absent"]


@final
@dataclass(frozen=True)
class Score:
    """The scores of one predicted mask against its reference, and what kind of case it was.

    status: `scored` both masks hold voxels; `missed` the prediction is empty; `false` the reference is empty;
    `absent` both are. Missed and false: Dice, IoU, NSD 0, distances infinite. Absent: all NaN.
    """

    status: Status
    dice: float
    iou: float
    hd_mm: float
    hd95_mm: float
    assd_mm: float
    asd_mm: float
    nsd: float
    tolerance_mm: float  # of nsd
    volume_ref_ml: float
    volume_pred_ml: float


def score_masks(
    mask_ref: np.ndarray, mask_pred: np.ndarray, *, spacing_mm: Sequence[float], tolerance_mm: float
) -> Score:
    """Every score of one structure; surfaces are extracted once and distances looked up once.

    mask_ref, mask_pred: bool, on one grid (the reference's), spacing_mm along its axes; tolerance_mm of the NSD.
    """
    check_mask_pair(mask_ref, mask_pred, spacing_mm)
    box = joint_box(mask_ref, mask_pred)
    if box is not None:  # outside it both are empty: no score changes
        mask_ref, mask_pred = mask_ref[box], mask_pred[box]
    distances = surface_distances(mask_ref, mask_pred, spacing_mm=spacing_mm)
    return Score(
        status=status_of(has_reference=bool(mask_ref.any()), has_prediction=bool(mask_pred.any())),
        dice=dice(mask_ref, mask_pred),
        iou=iou(mask_ref, mask_pred),
        hd_mm=distances.hd_mm(),
        hd95_mm=distances.hd95_mm(),
        assd_mm=distances.assd_mm(),
        asd_mm=distances.asd_mm(),
        nsd=distances.nsd(tolerance_mm),
        tolerance_mm=float(tolerance_mm),
        volume_ref_ml=volume_ml(mask_ref, spacing_mm=spacing_mm),
        volume_pred_ml=volume_ml(mask_pred, spacing_mm=spacing_mm),
    )


def status_of(*, has_reference: bool, has_prediction: bool) -> Status:
    """Which of the four cases a pair of masks is."""
    if has_reference:
        return "scored" if has_prediction else "missed"
    return "false" if has_prediction else "absent"
