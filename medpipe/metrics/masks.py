"""What every metric asks of its two masks, and the box that holds both."""

from collections.abc import Sequence

import numpy as np


def check_mask_pair(mask_ref: np.ndarray, mask_pred: np.ndarray, spacing_mm: Sequence[float] | None = None) -> None:
    """Refuse masks that are not boolean or not on one grid, and a spacing that is not one positive number an axis."""
    for name, mask in (("reference", mask_ref), ("prediction", mask_pred)):
        if mask.dtype != np.bool_:
            raise ValueError(
                f"the {name} mask is {mask.dtype}, expected bool; pick one structure first: label_map == value"
            )
    if mask_ref.shape != mask_pred.shape:
        raise ValueError(
            f"the reference mask is {mask_ref.shape}, the prediction {mask_pred.shape}; "
            "bring the prediction to the reference's grid first (resample_like)"
        )
    if spacing_mm is not None:
        check_spacing(spacing_mm, mask_ref.ndim)


def check_spacing(spacing_mm: Sequence[float], num_axes: int) -> None:
    """Refuse a spacing that is not one positive, finite number of millimetres an axis."""
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    if spacing.shape != (num_axes,) or not (np.isfinite(spacing) & (spacing > 0)).all():
        raise ValueError(f"spacing_mm is {tuple(spacing_mm)}, expected {num_axes} positive numbers in mm, one an axis")


def joint_box(mask_a: np.ndarray, mask_b: np.ndarray) -> tuple[slice, ...] | None:
    """The smallest box that holds every voxel of both masks; None where both are empty.

    Axis by axis, each time inside what is left, so that only the first pass reads the whole masks.
    """
    box: list[slice] = []
    for axis in range(mask_a.ndim):
        others = tuple(other for other in range(mask_a.ndim) if other != axis)
        occupied = np.flatnonzero(mask_a.any(axis=others) | mask_b.any(axis=others))
        if occupied.size == 0:
            return None
        box.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
        here = (slice(None),) * axis + (box[-1],)
        mask_a, mask_b = mask_a[here], mask_b[here]
    return tuple(box)
