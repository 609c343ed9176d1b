"""Two label maps on one grid: every structure's voxels and boxes in one pass, then its surfaces and distances.

First use compiles the loops of `surface_kernels`; `warm_up` does it at a chosen moment.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from medpipe.metrics import surface_kernels as kernels
from medpipe.metrics.masks import check_spacing
from medpipe.metrics.surface import AreaSurfaceDistances, SurfaceDistances
from medpipe.metrics.surface_area import corner_measures
from medpipe.metrics.surface_points import SurfacePoints, corner_points, nearest_mm, voxel_points

Spacing = tuple[float, float, float]


@final
@dataclass(frozen=True, eq=False)
class LabelMapPair:
    """Reference and prediction (D, H, W), contiguous integers, with what one pass over both found.

    counts  (3, labels): voxels in the reference, in the prediction, in both
    boxes   (2, labels, 6): lowest and highest z, y, x in each
    is_flat  a 2D pair, as one slice
    """

    ref: NDArray[Any]
    pred: NDArray[Any]
    spacing_mm: Spacing
    counts: NDArray[np.int64]
    boxes: NDArray[np.int64]
    is_flat: bool = False

    @classmethod
    def of(
        cls,
        ref: NDArray[Any],
        pred: NDArray[Any],
        labels: Sequence[int],
        spacing_mm: Sequence[float],
        *,
        num_threads: int = 1,
        is_flat: bool = False,
    ) -> "LabelMapPair":
        """One pass over both maps; labels that are not named and negative ones are passed over."""
        check_spacing(spacing_mm, 3)
        ref, pred = _one_type(ref, pred)
        counts, boxes = _scan(ref, pred, max(labels) + 1, num_threads)
        sz, sy, sx = (float(size) for size in spacing_mm)
        return cls(ref, pred, (sz, sy, sx), counts, boxes, is_flat)

    @classmethod
    def of_masks(cls, mask_ref: NDArray[Any], mask_pred: NDArray[Any], spacing_mm: Sequence[float]) -> "LabelMapPair":
        """A pair of masks (bool, two or three axes) as label maps of 1."""
        if mask_ref.ndim not in (2, 3):
            raise ValueError(f"a mask has two or three axes, got {mask_ref.ndim}: {mask_ref.shape}")
        is_flat = mask_ref.ndim == 2
        if is_flat:
            mask_ref, mask_pred, spacing_mm = mask_ref[None], mask_pred[None], (1.0, *spacing_mm)
        return cls.of(mask_ref, mask_pred, [1], spacing_mm, is_flat=is_flat)

    def structure(self, label: int) -> "StructurePair":
        """One structure of both maps."""
        return StructurePair(self, label)


@final
@dataclass(frozen=True, eq=False)
class StructurePair:
    """One structure of two label maps."""

    maps: LabelMapPair
    label: int

    @property
    def num_ref(self) -> int:
        return int(self.maps.counts[0, self.label])

    @property
    def num_pred(self) -> int:
        return int(self.maps.counts[1, self.label])

    @property
    def num_common(self) -> int:
        return int(self.maps.counts[2, self.label])

    def distances(self) -> SurfaceDistances:
        """Between surface voxels."""
        ref, pred = self._points(voxel_points)
        spacing = self.maps.spacing_mm
        return SurfaceDistances(nearest_mm(ref, pred, spacing), nearest_mm(pred, ref, spacing))

    def area_distances(self) -> AreaSurfaceDistances:
        """Between corners on the surfaces."""
        ref, pred = self._points(corner_points)
        spacing = self.maps.spacing_mm
        measures = corner_measures(spacing[1:] if self.maps.is_flat else spacing)
        assert ref.codes is not None
        assert pred.codes is not None
        return AreaSurfaceDistances(
            nearest_mm(ref, pred, spacing), nearest_mm(pred, ref, spacing), measures[ref.codes], measures[pred.codes]
        )

    def _points(self, points_of: Any) -> tuple[SurfacePoints, SurfacePoints]:
        maps = self.maps
        found = [
            points_of(array, self.label, maps.boxes[side, self.label], is_flat=maps.is_flat)
            if count
            else _no_points(with_codes=points_of is corner_points)
            for side, (array, count) in enumerate(((maps.ref, self.num_ref), (maps.pred, self.num_pred)))
        ]
        return found[0], found[1]


def over_structures(
    pair: LabelMapPair, labels: Sequence[int], works: Sequence[Callable[[StructurePair], Any]], *, num_threads: int
) -> dict[int, list[Any]]:
    """What each of `works` makes of each label's structure; the largest first, `num_threads` at a time."""
    largest_first = sorted(labels, key=lambda label: -int(pair.counts[:2, label].sum()))
    with ThreadPoolExecutor(num_threads) as pool:
        begun = {label: [pool.submit(work, pair.structure(label)) for work in works] for label in largest_first}
        return {label: [task.result() for task in begun[label]] for label in labels}


def distances_of(
    pair: LabelMapPair, labels: Sequence[int], *, num_threads: int
) -> dict[int, tuple[SurfaceDistances, AreaSurfaceDistances]]:
    """Both kinds of distances of each label."""
    works = (StructurePair.distances, StructurePair.area_distances)
    found = over_structures(pair, labels, works, num_threads=num_threads)
    return {label: (by_voxel, by_area) for label, (by_voxel, by_area) in found.items()}


def warm_up() -> None:
    """Compile the loops, or load them from the disk's cache, for the narrow kinds of label maps."""
    for dtype in (np.uint8, np.int16):
        maps = np.zeros((2, 3, 40, 80), dtype=dtype)
        maps[0, 1, 1:3, 1:3] = 1
        maps[1, 1, 30:33, 70:74] = 1
        distances_of(LabelMapPair.of(maps[0], maps[1], [1], (1, 1, 1)), [1], num_threads=1)


def _one_type(ref: NDArray[Any], pred: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both as contiguous uint8 or int16 or int32, the wider of the two; without a copy where they are that already."""
    for name, array in (("reference", ref), ("prediction", pred)):
        if array.dtype.kind not in "biu" or array.ndim != 3:
            raise ValueError(f"the {name} is {array.dtype} {array.shape}, expected a label map (D, H, W) of integers")
    if ref.shape != pred.shape:
        raise ValueError(
            f"the reference is {ref.shape}, the prediction {pred.shape}; "
            "bring the prediction to the reference's grid first (resample_like)"
        )
    arrays = [array.view(np.uint8) if array.dtype == np.bool_ else array for array in (ref, pred)]
    wider = np.result_type(*arrays)
    fitting = next((kind for kind in (np.uint8, np.int16, np.int32, np.int64) if np.can_cast(wider, kind)), np.int64)
    first, second = (np.ascontiguousarray(array, dtype=fitting) for array in arrays)
    return first, second


def _scan(
    ref: NDArray[Any], pred: NDArray[Any], num_labels: int, num_threads: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts and boxes; slabs of slices side by side."""
    depth, _, width = ref.shape
    row_bytes = width * ref.dtype.itemsize
    word = next(w for w in (np.uint64, np.uint32, np.uint16, np.uint8) if row_bytes % np.dtype(w).itemsize == 0)
    words = ref.view(word), pred.view(word)
    element = np.uint64(2 ** (8 * ref.dtype.itemsize) - 1)
    edges = np.linspace(0, depth, num_threads + 1).astype(int)
    empty = np.concatenate([np.full(3, np.iinfo(np.int64).max), np.full(3, -1)])
    parts = [
        (np.zeros((3, num_labels), dtype=np.int64), np.tile(empty, (2, num_labels, 1)).astype(np.int64))
        for _ in range(num_threads)
    ]
    scans = [
        partial(kernels.scan, ref, pred, *words, int(first), int(last), element, counts, boxes)
        for first, last, (counts, boxes) in zip(edges[:-1], edges[1:], parts, strict=True)
    ]
    with ThreadPoolExecutor(num_threads) as pool:
        for done in [pool.submit(scan) for scan in scans]:
            done.result()
    boxes = np.stack([part[1] for part in parts])
    joined = np.concatenate([boxes[..., :3].min(axis=0), boxes[..., 3:].max(axis=0)], axis=-1)
    return np.sum([part[0] for part in parts], axis=0), np.ascontiguousarray(joined)


def _no_points(*, with_codes: bool) -> SurfacePoints:
    codes = np.empty(0, dtype=np.uint8) if with_codes else None
    return SurfacePoints((0, 0), (0, 0), np.zeros(1, dtype=np.int64), np.empty(0, dtype=np.int32), codes)


def values_in(labels: NDArray[Any]) -> dict[int, int]:
    """Each label above 0 of a label map (D, H, W), and its voxels; one pass, without a sorted copy of the map."""
    labels, _ = _one_type(labels, labels)
    counts, _ = _scan(labels, labels, int(labels.max()) + 1, 1)
    return {int(value): int(counts[0, value]) for value in np.flatnonzero(counts[0])}
