"""Distances between the surfaces of two masks, looked up once; every surface metric is a number of that one look-up."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np

# A tolerance is met up to a nanometre: spacings pass through float32 in file headers (0.8 becomes 0.800000012),
# and a surface exactly one voxel off must not fall out of a tolerance of one voxel for that.
TOLERANCE_SLACK_MM = 1e-6


def surface(mask: np.ndarray) -> np.ndarray:
    """The surface voxels of a mask: its voxels less its erosion by the face neighbours (6 in a volume).

    What lies outside the array counts as outside the mask, so voxels on the image border are surface. This is the
    definition; `surface_kernels` finds the same voxels as points.
    """
    interior = mask.copy()
    for axis in range(mask.ndim):
        along, inner = np.moveaxis(mask, axis, 0), np.moveaxis(interior, axis, 0)
        inner[1:] &= along[:-1]
        inner[:-1] &= along[1:]
        inner[[0, -1]] = False
    return mask & ~interior


@final
@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """For each surface voxel of one mask, the distance in mm to the nearest surface voxel of the other.

    Both directions empty: both masks were empty, every metric is NaN. One direction empty: that mask was empty,
    and the distances of the other are infinite.
    """

    ref_to_pred_mm: np.ndarray  # (surface voxels of the reference,) float64
    pred_to_ref_mm: np.ndarray  # (surface voxels of the prediction,) float64

    @property
    def is_defined(self) -> bool:
        """Whether both masks have a surface."""
        return bool(self.ref_to_pred_mm.size and self.pred_to_ref_mm.size)

    @property
    def _undefined(self) -> float:
        return math.inf if self.ref_to_pred_mm.size or self.pred_to_ref_mm.size else math.nan

    def hd_mm(self) -> float:
        """Hausdorff distance: the largest distance of either direction.

        Definition: Huttenlocher et al., 1993, doi:10.1109/34.232073.
        """
        if not self.is_defined:
            return self._undefined
        return float(max(self.ref_to_pred_mm.max(), self.pred_to_ref_mm.max()))

    def hd95_mm(self) -> float:
        """The larger of the two directed 95th percentiles (linear interpolation between order statistics)."""
        return max(self._directed) if self.is_defined else self._undefined

    def hd95_pooled_mm(self) -> float:
        """The 95th percentile over both directions pooled, as MedPy and nnU-Net v1 have it."""
        if not self.is_defined:
            return self._undefined
        return float(np.percentile(np.concatenate([self.ref_to_pred_mm, self.pred_to_ref_mm]), 95))

    def hd95_mean_mm(self) -> float:
        """The mean of the two directed 95th percentiles."""
        return sum(self._directed) / 2 if self.is_defined else self._undefined

    @cached_property
    def _directed(self) -> tuple[float, float]:
        return float(np.percentile(self.ref_to_pred_mm, 95)), float(np.percentile(self.pred_to_ref_mm, 95))

    def assd_mm(self) -> float:
        """Average symmetric surface distance: the mean over the surface voxels of both masks, pooled."""
        if not self.is_defined:
            return self._undefined
        total_mm = self.ref_to_pred_mm.sum() + self.pred_to_ref_mm.sum()
        return float(total_mm / (self.ref_to_pred_mm.size + self.pred_to_ref_mm.size))

    def asd_mm(self) -> float:
        """Average surface distance from the prediction to the reference (one direction)."""
        return float(self.pred_to_ref_mm.mean()) if self.is_defined else self._undefined

    def nsd(self, tolerance_mm: float) -> float:
        """Normalised surface Dice: the share of both masks' surface voxels within `tolerance_mm` of the other surface.

        One mask empty: 0; both: NaN. Counted in voxels; `AreaSurfaceDistances.nsd` weighs by area.
        """
        limit_mm = tolerance_limit(tolerance_mm)
        if not self.is_defined:
            return 0.0 if self._undefined == math.inf else math.nan
        within = np.count_nonzero(self.ref_to_pred_mm <= limit_mm) + np.count_nonzero(self.pred_to_ref_mm <= limit_mm)
        return float(within / (self.ref_to_pred_mm.size + self.pred_to_ref_mm.size))


@final
@dataclass(frozen=True, eq=False)
class AreaSurfaceDistances:
    """For each corner between voxels on one surface, the distance in mm to the nearest of the other, and its area.

    On non-empty masks the numbers are those of DeepMind's surface-distance: Nikolov et al., 2021, doi:10.2196/26151.
    Areas in mm2 (lengths in mm of a 2D mask). Empty masks as in `SurfaceDistances`.
    """

    ref_to_pred_mm: np.ndarray
    pred_to_ref_mm: np.ndarray
    area_ref: np.ndarray
    area_pred: np.ndarray

    @property
    def _undefined(self) -> float | None:
        if self.area_ref.size and self.area_pred.size:
            return None
        return math.inf if self.area_ref.size or self.area_pred.size else math.nan

    def hd95_mm(self) -> float:
        """The larger of the two directed distances at which the cumulative area reaches 95 %."""
        if self._undefined is not None:
            return self._undefined
        return max(
            _area_percentile(self.ref_to_pred_mm, self.area_ref), _area_percentile(self.pred_to_ref_mm, self.area_pred)
        )

    def nsd(self, tolerance_mm: float) -> float:
        """Surface Dice: the share of both surfaces' area within `tolerance_mm` of the other; one empty 0, both NaN."""
        limit_mm = tolerance_limit(tolerance_mm)
        if self._undefined is not None:
            return 0.0 if self._undefined == math.inf else math.nan
        within = self.area_ref[self.ref_to_pred_mm <= limit_mm].sum()
        within += self.area_pred[self.pred_to_ref_mm <= limit_mm].sum()
        return float(within / (self.area_ref.sum() + self.area_pred.sum()))


def tolerance_limit(tolerance_mm: float) -> float:
    """The distance up to which a tolerance is met; refuses what is no tolerance."""
    if not (tolerance_mm >= 0 and math.isfinite(tolerance_mm)):
        raise ValueError(f"tolerance_mm is {tolerance_mm}, expected a finite number of mm, 0 or more")
    return tolerance_mm + TOLERANCE_SLACK_MM


def _area_percentile(distances_mm: np.ndarray, areas: np.ndarray) -> float:
    """The smallest distance whose cumulative area reaches 95 %, without interpolation."""
    order = np.argsort(distances_mm)
    cumulative = np.cumsum(areas[order])
    position = int(np.searchsorted(cumulative / cumulative[-1], 0.95))
    return float(distances_mm[order[min(position, len(order) - 1)]])


def surface_distances(mask_ref: np.ndarray, mask_pred: np.ndarray, *, spacing_mm: Sequence[float]) -> SurfaceDistances:
    """Distances between the voxel centres of both surfaces in mm, in both directions; exact.

    mask_ref, mask_pred: bool, one shape, two or three axes (a volume is (D, H, W)); spacing_mm follows the axes.
    """
    return _of_masks(mask_ref, mask_pred, spacing_mm).distances()


def area_surface_distances(
    mask_ref: np.ndarray, mask_pred: np.ndarray, *, spacing_mm: Sequence[float]
) -> AreaSurfaceDistances:
    """Distances between the corners on both surfaces with their areas; arguments as for `surface_distances`."""
    return _of_masks(mask_ref, mask_pred, spacing_mm).area_distances()


def _of_masks(mask_ref: np.ndarray, mask_pred: np.ndarray, spacing_mm: Sequence[float]):
    from medpipe.metrics.label_maps import LabelMapPair
    from medpipe.metrics.masks import check_mask_pair

    check_mask_pair(mask_ref, mask_pred, spacing_mm)
    return LabelMapPair.of_masks(mask_ref, mask_pred, spacing_mm).structure(1)
