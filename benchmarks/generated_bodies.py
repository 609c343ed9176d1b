"""Seeded pairs of label maps that stand for a reference and a prediction of one body: smooth organs, smooth errors."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import ndimage

Variant = Literal["near", "displaced", "islands"]

SPACING_MM = (2.5, 0.8, 0.8)


def generate_pair(
    shape: tuple[int, int, int],
    num_structures: int,
    seed: int = 0,
    *,
    spacing_mm: Sequence[float] = SPACING_MM,
    variant: Variant = "near",
) -> tuple[np.ndarray, np.ndarray]:
    """Reference and prediction (D, H, W), uint8, structures 1 to num_structures.

    Radii run from about 75 mm (a liver) down to 10 mm; the prediction's boundary is moved by a smooth field of 1 to
    10 mm, different for each structure. near: the last structure is missed, the one before it displaced by 100 mm (one
    alone is neither). displaced: every structure by 48 to 100 mm. islands: every structure has a small island far away.
    """
    rng = np.random.default_rng(seed)
    ref, pred = np.zeros(shape, dtype=np.uint8), np.zeros(shape, dtype=np.uint8)
    spacing = np.asarray(spacing_mm)
    size_mm = np.asarray(shape) * spacing
    largest_mm = min(75.0, 0.4 * float(size_mm.min())) if num_structures < 20 else min(55.0, 0.3 * float(size_mm.min()))
    for label in range(1, num_structures + 1):
        radius_mm = largest_mm * (10 / largest_mm) ** ((label - 1) / max(1, num_structures - 1))
        radii = np.minimum(radius_mm * rng.uniform(0.8, 1.2, 3), 0.45 * size_mm)
        centre = rng.uniform(radii, size_mm - radii)
        error_mm = rng.uniform(1, 10) * min(1.0, radius_mm / 25)
        is_near = variant == "near" and num_structures > 1
        shift_mm = np.zeros(3)
        if variant == "displaced" or (is_near and label == num_structures - 1):
            axis = 1 if centre[1] < size_mm[1] / 2 else -1
            shift_mm[1] = axis * (100.0 if is_near else rng.uniform(48, 100))
        paint(ref, label, centre, radii, 0.0, spacing, rng)
        if not (is_near and label == num_structures):
            paint(pred, label, centre + shift_mm, radii, error_mm, spacing, rng)
        if variant == "islands":
            paint(pred, label, (centre + size_mm / 2) % size_mm, np.full(3, 6.0), 0.0, spacing, rng)
    return ref, pred


def paint(
    labels: np.ndarray,
    label: int,
    centre_mm: np.ndarray,
    radii_mm: np.ndarray,
    error_mm: float,
    spacing: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """An ellipsoid whose boundary is moved by a smooth field of up to about error_mm, inside its own box."""
    reach = radii_mm * 1.15 + error_mm
    low = np.maximum(0, np.floor((centre_mm - reach) / spacing)).astype(int)
    high = np.minimum(labels.shape, np.ceil((centre_mm + reach) / spacing).astype(int) + 1)
    if (high <= low).any():
        return
    axes = [np.arange(a, b) * s - c for a, b, s, c in zip(low, high, spacing, centre_mm, strict=True)]
    grids = np.ix_(*axes)
    level = np.zeros(np.asarray(high - low))
    for grid, radius in zip(grids, radii_mm, strict=True):
        level += (grid / radius) ** 2
    level = np.sqrt(level)
    coarse = ndimage.gaussian_filter(rng.standard_normal((12, 12, 12)), 1.5, mode="wrap")
    coarse /= np.abs(coarse).max()
    zoom = [size / 12 for size in level.shape]
    field = ndimage.zoom(coarse, zoom, order=1, grid_mode=True, mode="nearest")[tuple(slice(n) for n in level.shape)]
    field = np.pad(np.asarray(field), [(0, a - b) for a, b in zip(level.shape, field.shape, strict=True)], mode="edge")
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    labels[box][level < 1 + field * max(error_mm, 0.03 * radii_mm.min()) / radii_mm.min()] = label
