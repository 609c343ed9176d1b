"""Figures of cases: contours of reference and prediction on CT, and a masked volume reconstructed."""

import numpy as np

from medpipe.reporting.colours import STRUCTURE_COLOURS, colour_of
from medpipe.reporting.content import CaseView, Reconstruction
from medpipe.reporting.pictures import Picture, drawing_style, picture
from medpipe.reporting.planes import PLANES, Box, outline, panel_grid, show_slice

SOFT_TISSUE_HU = (-160.0, 240.0)  # window 400, level 40
MARGIN_MM = 25.0  # of the picture around what is outlined
CASE_INCHES = (10.72, 4.8)  # at most, width and height of the three planes
RECONSTRUCTION_INCHES = 2.7  # longest side of one panel


def contour_figure(view: CaseView) -> Picture:
    """Contours of every structure, reference solid and prediction dashed, in three planes at one scale."""
    centre, box = view_centre(view), _view_box(view)
    size_mm = [(part.stop - part.start) * step for part, step in zip(box, view.spacing_mm, strict=True)]
    widths_mm, heights_mm = [size_mm[plane.left] for plane in PLANES], [size_mm[plane.up] for plane in PLANES]
    with drawing_style():
        inches_a_mm = min(CASE_INCHES[0] / sum(widths_mm), CASE_INCHES[1] / max(heights_mm))
        figure, panels = panel_grid(widths_mm, [max(heights_mm)], inches_a_mm)
        for plane, panel in zip(PLANES, panels[0], strict=True):
            place = centre[plane.axis]
            index = place - box[plane.axis].start
            title = f"{plane.name}, slice {place + 1} of {view.volume.shape[plane.axis]}"
            show_slice(panel, plane, view.volume[box], index, view.spacing_mm, limits=SOFT_TISSUE_HU, title=title)
            for s, structure in enumerate(view.structures):
                colour = colour_of(s, STRUCTURE_COLOURS)
                for masks, dashed in ((view.reference, False), (view.prediction, True)):
                    if structure in masks:
                        outline(
                            panel, plane, masks[structure][box], index, view.spacing_mm, colour=colour, dashed=dashed
                        )
        what = "axial, coronal and sagittal planes with contours of reference (solid) and prediction (dashed)"
        return picture(figure, f"CT of case {view.case_id} in {what}: {', '.join(view.structures)}.")


def view_centre(view: CaseView) -> tuple[int, int, int]:
    """(d, h, w) of the three planes: through the centre of `focus`, or where most of all structures is seen at once."""
    focus = [view.reference[name] for name in view.focus if name in view.reference and view.reference[name].any()]
    if focus:
        voxels = np.argwhere(np.logical_or.reduce(focus))
        d, h, w = voxels[np.argmin(((voxels - voxels.mean(axis=0)) ** 2).sum(axis=1))]
        return int(d), int(h), int(w)
    return _fullest_slice(view, 0), _fullest_slice(view, 1), _fullest_slice(view, 2)


def _fullest_slice(view: CaseView, axis: int) -> int:
    """Where the diameters of all structures, each relative to its own largest, sum up to most; else the middle."""
    others = tuple(other for other in range(3) if other != axis)
    seen = np.zeros(view.volume.shape[axis])
    for masks in (view.reference, view.prediction):
        for mask in masks.values():
            areas = np.count_nonzero(mask, axis=others)
            seen += np.sqrt(areas / max(areas.max(), 1))
    return int(seen.argmax()) if seen.any() else view.volume.shape[axis] // 2


def _view_box(view: CaseView) -> Box:
    """The box around every structure with a margin; the whole volume where there is none."""
    limits = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        occupied = [mask.any(axis=others) for masks in (view.reference, view.prediction) for mask in masks.values()]
        places = np.flatnonzero(np.logical_or.reduce(occupied)) if occupied else np.empty(0, dtype=int)
        size = view.volume.shape[axis]
        margin = round(MARGIN_MM / view.spacing_mm[axis])
        low, high = (int(places[0]) - margin, int(places[-1]) + 1 + margin) if places.size else (0, size)
        limits.append(slice(max(low, 0), min(high, size)))
    return limits[0], limits[1], limits[2]


def reconstruction_figure(example: Reconstruction) -> Picture:
    """Original, masked and reconstructed volume, side by side, in three planes through the middle."""
    shape = example.original.shape
    size_mm = [count * step for count, step in zip(shape, example.spacing_mm, strict=True)]
    heights_mm, width_mm = [size_mm[plane.up] for plane in PLANES], max(size_mm[plane.left] for plane in PLANES)
    columns = {"original": example.original, "masked": example.masked, "reconstructed": example.reconstructed}
    limits = tissue_limits(example.original)
    with drawing_style():
        figure, panels = panel_grid([width_mm] * 3, heights_mm, RECONSTRUCTION_INCHES / max(width_mm, *heights_mm))
        for row, plane in enumerate(PLANES):
            index = shape[plane.axis] // 2
            for panel, (name, volume) in zip(panels[row], columns.items(), strict=True):
                title = f"{name}, {plane.name}"
                show_slice(panel, plane, volume, index, example.spacing_mm, limits=limits, title=title)
        return picture(figure, f"Case {example.case_id}: original, masked and reconstructed volume in three planes.")


def tissue_limits(volume: np.ndarray) -> tuple[float, float]:
    """Darkest and brightest value to show, of whatever scale: 2nd and 98th percentile of all that is not air.

    Air is taken to be the lowest tenth of the range; with it in the percentiles soft tissue would be one grey.
    """
    known = volume[np.isfinite(volume)]
    if known.size == 0 or known.min() == known.max():
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    tissue = known[known >= low + 0.1 * (high - low)]
    darkest, brightest = np.percentile(tissue, (2, 98))
    return float(darkest), float(max(brightest, darkest + 1e-6 * (high - low)))
