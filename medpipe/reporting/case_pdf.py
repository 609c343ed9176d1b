"""One predicted case as a PDF of two pages: what was found, by which model, and the three planes with the outlines."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medpipe.geometry.orientation import to_canonical
from medpipe.geometry.volume import LabelMap, MaskStack, Volume
from medpipe.reporting.colours import STRUCTURE_COLOURS, colour_of
from medpipe.reporting.pictures import drawing_style
from medpipe.reporting.planes import PLANES, halo, outline, panel_grid, show_slice

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SOFT_TISSUE_HU = (-160.0, 240.0)
RESEARCH_USE = "Research use only. Not a medical device; not reviewed or approved by a physician."
_ROWS_A_PAGE = 44


@dataclass(frozen=True)
class FoundStructure:
    """One line of the table."""

    name: str
    volume_ml: float
    num_slices: int


def found_structures(prediction: LabelMap | MaskStack, structures: Sequence[str]) -> list[FoundStructure]:
    """Volume and number of slices of each structure."""
    found = []
    for index, name in enumerate(structures):
        stack = isinstance(prediction, MaskStack)
        mask = prediction.array[index] if stack else prediction.array == index + 1
        volume_ml = float(np.count_nonzero(mask)) * prediction.grid.voxel_ml
        found.append(FoundStructure(name, volume_ml, int(mask.any(axis=(1, 2)).sum())))
    return found


def case_pdf(
    volume: Volume, prediction: LabelMap | MaskStack, structures: Sequence[str], facts: Sequence[tuple[str, str]]
) -> bytes:
    """The PDF's bytes, the same for the same case; `facts` are the lines above the table."""
    from matplotlib.backends.backend_pdf import PdfPages

    buffer = io.BytesIO()
    found = found_structures(prediction, structures)
    with drawing_style(), PdfPages(buffer, metadata={"CreationDate": None, "Producer": None, "Creator": None}) as pages:
        for start in range(0, max(len(found), 1), _ROWS_A_PAGE):
            pages.savefig(_table_page(found[start : start + _ROWS_A_PAGE], facts, start))
        pages.savefig(_planes_page(to_canonical(volume), _turned(prediction), structures), facecolor="#101418")
    return buffer.getvalue()


def _turned(prediction: LabelMap | MaskStack) -> LabelMap | MaskStack:
    if isinstance(prediction, MaskStack):
        return to_canonical(prediction)
    return to_canonical(prediction)


def _table_page(found: Sequence[FoundStructure], facts: Sequence[tuple[str, str]], first: int) -> "Figure":
    from matplotlib.figure import Figure

    page = Figure(figsize=(8.27, 11.69))
    page.text(0.08, 0.95, "Automatic segmentation", fontsize=16, fontweight="bold")
    page.text(0.08, 0.93, RESEARCH_USE, fontsize=9, color="#b00020")
    y = 0.905
    for name, value in facts:
        page.text(0.08, y, name, color="#59636e")
        page.text(0.26, y, value if len(value) <= 78 else f"{value[:77]}…")
        y -= 0.016
    y -= 0.012
    for x, title, side in ((0.08, "structure", "left"), (0.62, "volume (ml)", "right"), (0.78, "slices", "right")):
        page.text(x, y, title, fontweight="bold", ha=side)
    for number, row in enumerate(found, start=first):
        y -= 0.0165
        colour = colour_of(number, STRUCTURE_COLOURS)  # of its outline on the page of the planes
        page.text(0.062, y, "\u25a0", color=colour, path_effects=halo(0.8))
        page.text(0.08, y, row.name)
        page.text(0.62, y, f"{row.volume_ml:.1f}" if row.num_slices else "not found", ha="right")
        page.text(0.78, y, f"{row.num_slices}", ha="right")
    return page


def _planes_page(volume: Volume, prediction: LabelMap | MaskStack, structures: Sequence[str]) -> "Figure":
    """The three planes through the middle of everything that was found."""
    array = prediction.array
    anything = array.any(axis=0) if isinstance(prediction, MaskStack) else array > 0
    places = np.argwhere(anything)
    centre = np.round(places.mean(axis=0)).astype(int) if len(places) else np.asarray(volume.shape) // 2
    sizes_mm = np.asarray(volume.shape) * np.asarray(volume.spacing_mm)
    widths = [float(sizes_mm[plane.left]) for plane in PLANES]
    heights = [float(sizes_mm[plane.up]) for plane in PLANES]
    figure, panels = panel_grid(widths, [max(heights)], 11.0 / sum(widths))
    for plane, panel in zip(PLANES, panels[0], strict=True):
        index = int(centre[plane.axis])
        title = f"{plane.name} {index + 1} of {volume.shape[plane.axis]}"
        show_slice(panel, plane, volume.array, index, volume.spacing_mm, limits=SOFT_TISSUE_HU, title=title)
        for number in range(len(structures)):
            mask = array[number] if isinstance(prediction, MaskStack) else array == number + 1
            colour = colour_of(number, STRUCTURE_COLOURS)
            outline(panel, plane, mask, index, volume.spacing_mm, colour=colour, dashed=False)
    figure.text(0.01, 0.01, RESEARCH_USE, color="#ff8a80", fontsize=7)
    return figure
