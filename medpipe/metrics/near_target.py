"""Surface distance where it matters to the dose: on the organ's wall near the target."""

import math
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

WITHIN_MM = 20.0


@final
@dataclass(frozen=True, eq=False)
class NearDistances:
    """Distances in mm from the surface voxels near the target to the nearest of the whole other surface.

    A direction without a surface voxel near the target is left out; without one in both, metrics are NaN. Where one of
    the masks is empty the distances are infinite.
    """

    ref_to_pred_mm: NDArray[np.float64]
    pred_to_ref_mm: NDArray[np.float64]

    def _directions(self) -> list[NDArray[np.float64]]:
        return [one for one in (self.ref_to_pred_mm, self.pred_to_ref_mm) if one.size]

    def hd95_mm(self) -> float:
        found = self._directions()
        if any(np.isinf(one).any() for one in found):
            return math.inf
        return max((float(np.percentile(one, 95)) for one in found), default=math.nan)

    def assd_mm(self) -> float:
        found = self._directions()
        return float(np.concatenate(found).mean()) if found else math.nan

    def asd_mm(self) -> float:
        return float(self.pred_to_ref_mm.mean()) if self.pred_to_ref_mm.size else math.nan


def distances_near(
    mask_ref: NDArray[np.bool_],
    mask_pred: NDArray[np.bool_],
    target: NDArray[np.bool_],
    *,
    spacing_mm: tuple[float, float, float],
    within_mm: float = WITHIN_MM,
) -> NearDistances:
    """Surface voxels of either mask (D, H, W) whose centre lies within `within_mm` of the target's nearest voxel.

    Surfaces as in DESIGN: a mask's voxels less its erosion by the six neighbours, the border counting as outside.
    """
    from scipy.spatial import KDTree

    from medpipe.metrics.surface import surface

    spacing = np.asarray(spacing_mm)

    def points_of(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.argwhere(surface(mask)).astype(np.float64) * spacing

    ref, pred, wanted = points_of(mask_ref), points_of(mask_pred), points_of(target)
    if not len(wanted):
        raise ValueError("the target is empty: nothing lies near it")
    target_tree = KDTree(wanted)

    def near(points: NDArray[np.float64]) -> NDArray[np.float64]:
        if not len(points):
            return points
        # The nearest voxel of the target, seen from inside it, is the point's own: those count as near whatever the
        # distance to its surface.
        inside = target[tuple(np.rint(points / spacing).astype(np.intp).T)]
        far, _ = target_tree.query(points, distance_upper_bound=within_mm * (1 + 1e-9) + 1e-9)
        return points[np.isfinite(far) | inside]

    def nearest(points: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
        if not len(other):
            return np.full(len(points), np.inf)
        return np.asarray(KDTree(other).query(points)[0]) if len(points) else np.zeros(0)

    return NearDistances(nearest(near(ref), pred), nearest(near(pred), ref))
