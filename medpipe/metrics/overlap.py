"""Overlap of two masks: Dice and intersection over union; and the volume of one."""

import math
from collections.abc import Sequence

import numpy as np

from medpipe.metrics.masks import check_mask_pair, check_spacing


def dice(mask_ref: np.ndarray, mask_pred: np.ndarray) -> float:
    """Dice coefficient: twice the common voxels over the sum of both masks' voxels.

    Both masks empty: NaN (undefined); one empty: 0 (a missed or a false structure).
    Definition: Dice, 1945, doi:10.2307/1932409.
    """
    check_mask_pair(mask_ref, mask_pred)
    both = int(np.count_nonzero(mask_ref)) + int(np.count_nonzero(mask_pred))
    return 2 * _common_voxels(mask_ref, mask_pred) / both if both else math.nan


def iou(mask_ref: np.ndarray, mask_pred: np.ndarray) -> float:
    """Intersection over union (Jaccard index); undefined and empty cases as for `dice`."""
    check_mask_pair(mask_ref, mask_pred)
    common = _common_voxels(mask_ref, mask_pred)
    union = int(np.count_nonzero(mask_ref)) + int(np.count_nonzero(mask_pred)) - common
    return common / union if union else math.nan


def volume_ml(mask: np.ndarray, *, spacing_mm: Sequence[float]) -> float:
    """Volume of a mask in millilitres: its voxels times the volume of one."""
    check_spacing(spacing_mm, mask.ndim)
    return int(np.count_nonzero(mask)) * math.prod(map(float, spacing_mm)) / 1000


def _common_voxels(mask_ref: np.ndarray, mask_pred: np.ndarray) -> int:
    return int(np.count_nonzero(mask_ref & mask_pred))
