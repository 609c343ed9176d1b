"""Holes joined to the outline around them by a channel of no width, as DICOM asks for in closed planar contours.

PS3.3 C.8.8.6.3: an inner void of a CLOSED_PLANAR contour is drawn by the keyhole technique, one outline that runs in to
the hole and back on the same line. Readers that fill each contour by itself see the hole then, too.
"""

import numpy as np
from numpy.typing import NDArray

Polygon = NDArray[np.float64]


def join_holes(polygons: list[Polygon]) -> list[Polygon]:
    """The outlines of `mask_to_contours` with every hole joined to what lies to its left; filled, they are the same.

    The channel leaves a hole at the upper end of its leftmost edge and runs to the left, along voxel edges and within
    the mask, to the next outline: the one around it, or another hole of the same part.
    """
    holes = [index for index, polygon in enumerate(polygons) if _is_hole(polygon)]
    if not holes:
        return polygons
    owners = _upright_edges(polygons)
    vertices = [polygon.tolist() for polygon in polygons]
    joined_to = list(range(len(polygons)))
    # From the left: what lies to the left of a hole has its own holes already.
    for index in sorted(holes, key=lambda hole: float(polygons[hole][:, 1].min())):
        start = _upper_left(polygons[index])
        column, owner = _to_the_left(owners[int(start[0] + 0.5)], start[1])
        outline = joined_to[owner]
        vertices[outline] = _spliced(vertices[outline], (start[0], column), vertices[index], start)
        joined_to[index] = outline
    return [np.asarray(vertices[index]) for index in range(len(polygons)) if index not in set(holes)]


def _is_hole(polygon: Polygon) -> bool:
    """The mask lies to the right of each outline, so around a hole the signed area has the other sign."""
    h, w = polygon.T
    return float(np.sum(w * np.roll(h, -1) - np.roll(w, -1) * h)) < 0


def _upright_edges(polygons: list[Polygon]) -> dict[int, list[tuple[float, int]]]:
    """Row of voxels -> (column position, polygon) of each outline edge in it, from the left."""
    edges: dict[int, list[tuple[float, int]]] = {}
    for index, polygon in enumerate(polygons):
        following = np.roll(polygon, -1, axis=0)
        for (h, w), (next_h, _) in zip(polygon.tolist(), following.tolist(), strict=True):
            for row in range(int(min(h, next_h) + 0.5), int(max(h, next_h) + 0.5)):
                edges.setdefault(row, []).append((w, index))
    for row in edges.values():
        row.sort()
    return edges


def _upper_left(polygon: Polygon) -> tuple[float, float]:
    leftmost = polygon[polygon[:, 1] == polygon[:, 1].min()]
    return float(leftmost[:, 0].min()), float(leftmost[0, 1])


def _to_the_left(row: list[tuple[float, int]], column: float) -> tuple[float, int]:
    return max(edge for edge in row if edge[0] < column)


def _spliced(
    outline: list[list[float]], at: tuple[float, float], hole: list[list[float]], start: tuple[float, float]
) -> list[list[float]]:
    """The outline with the way to the hole, around it and back put in at the point `at` on one of its edges."""
    first = hole.index(list(start))
    way = [list(at), *hole[first:], *hole[:first], list(start), list(at)]
    for index, (h, w) in enumerate(outline):
        next_h, next_w = outline[(index + 1) % len(outline)]
        # An edge that begins or ends at `at` will do; the channel starts there and returns there.
        if w == next_w == at[1] and min(h, next_h) <= at[0] <= max(h, next_h) and h != next_h:
            return _without_repeats([*outline[: index + 1], *way, *outline[index + 1 :]])
    raise AssertionError(f"no edge of the outline passes {at}")


def _without_repeats(vertices: list[list[float]]) -> list[list[float]]:
    return [vertex for index, vertex in enumerate(vertices) if vertex != vertices[index - 1]]
