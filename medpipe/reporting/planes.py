"""The three planes of a volume as pictures, at one scale, with the letters of the patient's directions.

Arrays are canonical (d -> Superior, h -> Anterior, w -> Right). Drawn as radiologists look at them: axial from the
feet with anterior up, coronal from the front with superior up, the patient's right on the left of both; sagittal from
the patient's left, anterior on the left of the picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GROUND = "#101418"
HIDDEN_COLOUR = "#2b5a80"
FEWEST_PIXELS = 300  # along the longer side of a slice; coarser ones are interpolated, as viewers do
GAP_INCHES, TITLE_INCHES = 0.07, 0.26
Box = tuple[slice, slice, slice]


@final
@dataclass(frozen=True)
class Plane:
    """One of the three planes: the axis it cuts, and the axes that run up and to the left of the picture."""

    name: str
    axis: int
    up: int
    left: int
    letters: tuple[str, str, str, str]  # top, bottom, left, right

    def slice_of(self, array: np.ndarray, index: int) -> np.ndarray:
        """(up, right) picture: row 0 at the bottom, column 0 at the left."""
        return np.take(array, index, axis=self.axis)[:, ::-1]


PLANES = (
    Plane("axial", axis=0, up=1, left=2, letters=("A", "P", "R", "L")),
    Plane("coronal", axis=1, up=0, left=2, letters=("S", "I", "R", "L")),
    Plane("sagittal", axis=2, up=0, left=1, letters=("S", "I", "A", "P")),
)


def panel_grid(
    widths_mm: Sequence[float], heights_mm: Sequence[float], inches_a_mm: float
) -> tuple["Figure", list[list["Axes"]]]:
    """A dark figure and its panels by row and column, placed so that all show the same number of mm an inch."""
    from matplotlib.figure import Figure

    widths, heights = ([mm * inches_a_mm for mm in sizes] for sizes in (widths_mm, heights_mm))
    width = sum(widths) + GAP_INCHES * (len(widths) + 1)
    height = sum(heights) + (TITLE_INCHES + GAP_INCHES) * len(heights)
    figure = Figure(figsize=(width, height), facecolor=GROUND)
    panels: list[list[Axes]] = []
    for row in range(len(heights)):
        bottom = height - sum(heights[: row + 1]) - TITLE_INCHES * (row + 1) - GAP_INCHES * row
        lefts = [GAP_INCHES * (column + 1) + sum(widths[:column]) for column in range(len(widths))]
        places = [
            (left / width, bottom / height, w / width, heights[row] / height)
            for left, w in zip(lefts, widths, strict=True)
        ]
        panels.append([figure.add_axes(place, anchor="N") for place in places])
    return figure, panels


def show_slice(
    panel: "Axes",
    plane: Plane,
    volume: np.ndarray,
    index: int,
    spacing_mm: Sequence[float],
    *,
    limits: tuple[float, float],
    title: str,
) -> None:
    """Draw one slice of a (D, H, W) volume in grey between `limits`; NaN (hidden) voxels in blue."""
    from matplotlib import colormaps

    grey = colormaps["gray"].with_extremes(bad=HIDDEN_COLOUR)
    cut = plane.slice_of(volume, index).astype(np.float32)
    size_mm = (cut.shape[0] * spacing_mm[plane.up], cut.shape[1] * spacing_mm[plane.left])
    fine = _interpolated(np.clip(cut, *limits), size_mm)
    extent = (0.0, size_mm[1], 0.0, size_mm[0])
    panel.imshow(
        np.ma.masked_invalid(fine), cmap=grey, vmin=limits[0], vmax=limits[1],
        origin="lower", extent=extent, interpolation="none", aspect="equal",
    )  # fmt: skip
    panel.set_axis_off()
    panel.set_title(title, loc="left", fontsize=8.5, fontweight="normal", color="#d5dadf", pad=4)
    _direction_letters(panel, plane, size_mm)


def _interpolated(cut: np.ndarray, size_mm: tuple[float, float]) -> np.ndarray:
    """A coarse slice on finer, square pixels (linear, edges kept); as it is where fine already or partly hidden."""
    from scipy.ndimage import zoom

    if max(cut.shape) >= FEWEST_PIXELS or not np.isfinite(cut).all():
        return cut
    pixel_mm = max(size_mm) / FEWEST_PIXELS
    factors = [max(1.0, mm / pixel_mm / count) for mm, count in zip(size_mm, cut.shape, strict=True)]
    return np.asarray(zoom(cut, factors, order=1, mode="nearest", grid_mode=True))


def _direction_letters(panel: "Axes", plane: Plane, size_mm: tuple[float, float]) -> None:
    top, bottom, left, right = plane.letters
    height_mm, width_mm = size_mm
    inset_mm = 0.03 * max(size_mm)
    places = {
        top: (width_mm / 2, height_mm - inset_mm),
        bottom: (width_mm / 2, inset_mm),
        left: (inset_mm, height_mm / 2),
        right: (width_mm - inset_mm, height_mm / 2),
    }
    for letter, (x, y) in places.items():
        panel.text(
            x, y, letter, ha="center", va="center", color="white", fontsize=9, fontweight="bold", path_effects=halo(2.0)
        )


def halo(width: float) -> list[Any]:
    """A dark rim, so that letters and lines stand out on bone."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=width, foreground="black", alpha=0.55)]


def outline(
    panel: "Axes", plane: Plane, mask: np.ndarray, index: int, spacing_mm: Sequence[float], *, colour: str, dashed: bool
) -> None:
    """Draw the contour of one slice of a (D, H, W) mask; nothing where the slice is empty."""
    cut = plane.slice_of(mask, index)
    if not cut.any():
        return
    padded = np.pad(cut, 1).astype(np.float32)  # so that a structure at the border of the picture is closed
    x = (np.arange(padded.shape[1]) - 0.5) * spacing_mm[plane.left]
    y = (np.arange(padded.shape[0]) - 0.5) * spacing_mm[plane.up]
    style: Any = (0, (3.0, 1.6)) if dashed else "solid"
    lines = panel.contour(x, y, padded, levels=[0.5], colors=[colour], linewidths=[1.5], linestyles=[style])
    if not dashed:
        lines.set_path_effects(halo(2.5))
