"""A region's contours to a mask on the grid they were drawn on: which slice each lies in, and what does not fit it.

Contours are placed by their position along the grid's own normal, so that oblique and feet-first series lose none.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medpipe.dicom.polygons import fill_polygons
from medpipe.dicom.rtstruct import Roi
from medpipe.geometry.faults import DataFault
from medpipe.geometry.volume import Grid

# Slices. Half a slice off is between two of them and could be either; a quarter leaves no doubt.
_OFF_PLANE = 0.25
_WORTH_A_NOTE = 0.02
# Voxels (d, h, w) that an outline may reach beyond the image's outer edge: contours along the border are drawn that
# loosely. There is no slice beyond the last one.
_BEYOND = np.array([0.0, 0.5, 0.5])


def roi_mask(
    roi: Roi,
    grid: Grid,
    *,
    outside: Literal["refuse", "clip"] = "refuse",
    gaps: Literal["refuse", "keep"] = "refuse",
    notes: list[str] | None = None,
) -> NDArray[np.bool_]:
    """Mask (D, H, W) of a region: even-odd fill at voxel centres, all contours of a slice combined by exclusive or.

    A region without contours gives an empty mask. DataFault for contours that are tilted against the slices or lie more
    than a quarter of a slice off any, and for two planes of contours on one slice (drawn on other images, then).
    outside   contours that leave the image by more than half a voxel: refuse, or clip with a note
    gaps      empty slices between contours that overlap in plane (every other slice drawn, say): refuse, or keep them
              empty with a note. Where the neighbours do not overlap, the region has separate parts: noted, kept.
    """
    found: list[str] = []
    indices = [grid.world_to_index(contour.points_mm) for contour in roi.contours]
    if not indices:
        found.append("has no closed contours: empty")
    planes = _planes(roi, grid, indices, found)
    kept = _inside(roi, grid, indices, planes, outside, found)
    mask = fill_polygons([indices[i][:, 1:] for i in kept], [int(planes[i]) for i in kept], grid.shape)
    _check_gaps(roi, mask, sorted({int(planes[i]) for i in kept}), gaps, found)
    if kept and not mask.any():
        found.append("its contours enclose no voxel centre: empty")
    if notes is not None:
        notes.extend(f"{roi.path.name}: region {roi.name!r} {sentence}" for sentence in found)
    return mask


def _planes(roi: Roi, grid: Grid, indices: Sequence[NDArray[np.float64]], notes: list[str]) -> NDArray[np.int64]:
    """The slice d of each contour, also of one beyond the first or last slice."""
    planes = np.asarray([round(float(index[:, 0].mean())) for index in indices], dtype=np.int64)
    worst = 0.0
    middle: dict[int, float] = {}
    for plane, index in zip(planes.tolist(), indices, strict=True):
        offset = index[:, 0] - plane
        worst = max(worst, float(np.abs(offset).max()))
        if worst > _OFF_PLANE:
            raise DataFault(roi.path, f"region {roi.name!r}: {_misfit(index, plane, grid)}")
        if abs(middle.setdefault(plane, float(offset.mean())) - float(offset.mean())) > _OFF_PLANE / 2:
            raise DataFault(
                roi.path, f"region {roi.name!r}: contours of two planes fall on slice {plane}; "
                "it was drawn on images with closer slices",
            )  # fmt: skip
    if worst > _WORTH_A_NOTE:
        notes.append(f"lies up to {worst * grid.spacing_mm[0]:.2f} mm off the slices' planes")
    return planes


def _misfit(index: NDArray[np.float64], plane: int, grid: Grid) -> str:
    spread_mm = float(np.ptp(index[:, 0])) * grid.spacing_mm[0]
    if np.ptp(index[:, 0]) > _OFF_PLANE:
        centred = (index - index.mean(axis=0)) * np.asarray(grid.spacing_mm)
        normal = np.linalg.svd(centred, full_matrices=False)[2][-1]
        degrees = np.degrees(np.arccos(np.clip(abs(normal[0]), 0, 1)))
        return f"a contour is tilted by {degrees:.1f} degrees against the slices ({spread_mm:.2f} mm through them)"
    off_mm = (float(index[:, 0].mean()) - plane) * grid.spacing_mm[0]
    return (
        f"a contour lies between slices, {abs(off_mm):.2f} mm off the nearest at a spacing of "
        f"{grid.spacing_mm[0]:g} mm: it was drawn on other images"
    )


def _inside(
    roi: Roi,
    grid: Grid,
    indices: Sequence[NDArray[np.float64]],
    planes: NDArray[np.int64],
    outside: str,
    notes: list[str],
) -> list[int]:
    """Contours that lie on a slice of the image; those that leave it are refused, or clipped."""
    size = np.asarray(grid.shape)
    num_beyond, farthest_mm, kept = 0, 0.0, []
    for i, index in enumerate(indices):
        extent = np.array([[planes[i], *index[:, 1:].min(axis=0)], [planes[i], *index[:, 1:].max(axis=0)]])
        beyond = np.maximum(-0.5 - extent[0], extent[1] - (size - 0.5))
        if np.any(beyond > _BEYOND):
            num_beyond += 1
            farthest_mm = max(farthest_mm, float((beyond * np.asarray(grid.spacing_mm)).max()))
        if 0 <= planes[i] < size[0]:
            kept.append(i)
    if num_beyond:
        sentence = f"leaves the image in {num_beyond} of {len(indices)} contours, by up to {farthest_mm:.1f} mm"
        if outside == "refuse":
            raise DataFault(roi.path, f"region {roi.name!r} {sentence}; does it belong to this series?")
        notes.append(f"{sentence}: clipped")
    return kept


def _check_gaps(roi: Roi, mask: NDArray[np.bool_], planes: list[int], gaps: str, notes: list[str]) -> None:
    """Slices without contours between slices with some."""
    skipped = [(a, b) for a, b in pairwise(planes) if b - a > 1]
    continued = [(a, b) for a, b in skipped if bool((mask[a] & mask[b]).any())]
    if skipped:
        count = sum(b - a - 1 for a, b in skipped)
        places = ", ".join(f"{a + 1}-{b - 1}" if b - a > 2 else f"{a + 1}" for a, b in skipped[:5])
        sentence = f"has no contours in {count} slices between others (slices {places}{', ...' * (len(skipped) > 5)})"
        if continued and gaps == "refuse":
            raise DataFault(
                roi.path, f"region {roi.name!r} {sentence}, though it goes on after them: skipped while drawing? "
                "Draw or interpolate them in the planning system, or accept them as empty",
            )  # fmt: skip
        notes.append(f"{sentence}: kept empty")
