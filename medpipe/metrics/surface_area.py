"""The area of the surface that passes each corner between voxels, as DeepMind's surface-distance reckons it."""

import json
import math
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

# Contour length by the code of the 2 x 2 pixels around a corner: lengths along y and x, and diagonals.
_CONTOUR = {
    1: "d", 2: "d", 3: "x", 4: "d", 5: "y", 6: "dd", 7: "d",
    8: "d", 9: "dd", 10: "y", 11: "d", 12: "x", 13: "d", 14: "d",
}  # fmt: skip


@lru_cache(maxsize=16)
def corner_measures(spacing_mm: tuple[float, ...]) -> NDArray[np.float64]:
    """For each neighbourhood code, the surface's area in mm2 (three spacings, 256 codes) or length in mm (two, 16).

    The triangles of each code (marching cubes) are those of surface-distance: Nikolov et al., 2021, doi:10.2196/26151.
    """
    if len(spacing_mm) == 2:
        sy, sx = spacing_mm
        lengths = {"y": sy, "x": sx, "d": 0.5 * math.hypot(sy, sx)}
        return np.array([sum(lengths[part] for part in _CONTOUR.get(code, "")) for code in range(16)])
    sz, sy, sx = spacing_mm
    faces = np.array([sy * sx, sz * sx, sz * sy])
    measures = np.zeros(256)
    for code, normals in enumerate(_elements()):
        digits = np.array([int(digit) for digit in normals], dtype=np.float64).reshape(-1, 3) / 8
        measures[code] = np.sqrt(((digits * faces) ** 2).sum(axis=1)).sum()
    return measures


def _elements() -> Sequence[str]:
    """For each of 256 codes its normals, three digits each: absolute components in eighths."""
    text = files("medpipe.metrics").joinpath("surface_elements.json").read_text(encoding="utf-8")
    return json.loads(text)["elements"]
