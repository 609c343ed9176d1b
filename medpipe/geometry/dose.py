"""A dose on a grid, in Gy, and how one is read from NIfTI."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medpipe.geometry.faults import DataFault
from medpipe.geometry.nifti import read_volume
from medpipe.geometry.volume import Affine, Grid, checked_affine

_REFUSED = -1.0  # stands for NaN and infinity until negative doses are refused
# Gy. No voxel of a brachytherapy plan is cut off below it; a grid in cGy reaches beyond.
IMPLAUSIBLE_GY = 100_000.0


@dataclass(frozen=True, eq=False)
class Dose:
    """`gy` (D, H, W) float32 or float64, finite and not negative; values stand for the voxel centres of `affine`."""

    gy: NDArray[Any]
    affine: Affine

    def __post_init__(self) -> None:
        if self.gy.ndim != 3 or self.gy.dtype not in (np.float32, np.float64):
            raise ValueError(f"a dose is an array (D, H, W) of floats in Gy, got {self.gy.dtype} {self.gy.shape}")
        if min(self.gy.shape) < 2:
            raise ValueError(f"a dose of one plane ({self.gy.shape}): between planes nothing can be interpolated")
        object.__setattr__(self, "affine", checked_affine(self.affine))

    @cached_property
    def grid(self) -> Grid:
        d, h, w = self.gy.shape
        return Grid((d, h, w), self.affine)


def read_dose_nifti(path: Path | str, *, notes: list[str] | None = None) -> Dose:
    """A NIfTI of Gy. DataFault for negative, NaN or infinite voxels, for one plane and for a dose of 0 throughout."""
    path = Path(path)
    volume = read_volume(path, nonfinite_hu=_REFUSED, notes=[])
    return checked_dose(path, volume.array, volume.affine, notes)


def checked_dose(path: Path, gy: NDArray[Any], affine: Affine, notes: list[str] | None = None) -> Dose:
    """The dose of a file, its numbers checked."""
    is_wrong = ~(gy >= 0) | ~np.isfinite(gy)
    if is_wrong.any():
        where = tuple(int(i) for i in np.argwhere(is_wrong)[0])
        raise DataFault(
            path,
            f"{np.count_nonzero(is_wrong)} voxels are negative, NaN or infinite, the first at (d, h, w) = {where}; "
            "a dose in Gy is 0 or more",
        )
    largest = float(gy.max())
    if largest == 0:
        raise DataFault(path, "the dose is 0 Gy in every voxel")
    if largest > IMPLAUSIBLE_GY:
        raise DataFault(
            path, f"the dose reaches {largest:g}, which is not in Gy; a grid in cGy is divided by 100 first"
        )
    if notes is not None:
        notes.append(f"{path.name}: dose up to {largest:.4g} Gy")
    try:
        return Dose(gy, affine)
    except ValueError as error:
        raise DataFault(path, str(error)) from None
