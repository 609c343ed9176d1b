"""Affines whose axes are not quite perpendicular: projected to the nearest rotation, or refused."""

import numpy as np
from numpy.typing import NDArray

from medpipe.geometry.volume import Affine, Grid

SHEAR_TOLERANCE = 1e-4  # of a direction cosine; a 300 mm scan is then bent by at most 0.03 mm
ROUNDING = 2e-6  # of a direction cosine: what float32 affines and six printed decimals leave, not worth a note


def nearest_rotation(directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """The orthogonal matrix nearest to `directions` (3, 3) in the Frobenius norm, handedness kept (polar factor)."""
    u, _, vt = np.linalg.svd(directions)
    return u @ vt


def rigid_affine(affine: Affine, notes: list[str] | None = None) -> Affine:
    """The affine with perpendicular axes.

    Direction cosines off by 2e-6 at most stay as they are, those within 1e-4 are projected to the nearest rotation
    (spacing and origin kept) with a note. ValueError beyond, with the deviation and the angles between the axes.
    """
    grid = Grid((1, 1, 1), affine)
    rotation = nearest_rotation(grid.direction)
    deviation = float(np.abs(rotation - grid.direction).max())
    if deviation <= ROUNDING:
        return grid.affine
    if deviation > SHEAR_TOLERANCE:
        pairs = [grid.direction[:, a] @ grid.direction[:, b] for a, b in ((0, 1), (0, 2), (1, 2))]
        angles = ", ".join(f"{angle:.3f}" for angle in np.degrees(np.arccos(np.clip(pairs, -1, 1))))
        raise ValueError(
            f"the axes are sheared: angles between them are {angles} degrees, direction cosines are {deviation:.1e} "
            f"off the nearest rotation, {SHEAR_TOLERANCE:.0e} is allowed; resample the image to perpendicular axes"
        )
    projected = grid.affine.copy()
    projected[:3, :3] = rotation * np.asarray(grid.spacing_mm)
    if notes is not None:
        notes.append(f"axes not quite perpendicular (cosines {deviation:.1e} off): projected to the nearest rotation")
    return projected
