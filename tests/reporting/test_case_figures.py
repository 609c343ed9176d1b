"""Directions, places and scales of the pictures of cases."""

import numpy as np
import pytest

from medpipe.reporting.case_figures import tissue_limits, view_centre
from medpipe.reporting.content import CaseView, Reconstruction
from medpipe.reporting.planes import PLANES, outline, panel_grid, show_slice

SHAPE = (6, 8, 10)
MARKS = {"S": (5, 4, 5), "I": (0, 4, 5), "A": (3, 7, 5), "P": (3, 0, 5), "R": (3, 4, 9), "L": (3, 4, 0)}


def view(reference: dict, **more) -> CaseView:
    return CaseView("a", np.zeros(SHAPE, dtype=np.float32), (3.0, 1.0, 1.0), reference, {}, {}, **more)


@pytest.mark.parametrize("plane", PLANES, ids=lambda plane: plane.name)
def test_each_letter_stands_where_the_patient_has_that_side(plane) -> None:
    top, bottom, left, right = plane.letters
    for letter, (row, column) in {top: (-1, None), bottom: (0, None), left: (None, 0), right: (None, -1)}.items():
        marked = np.zeros(SHAPE)
        marked[MARKS[letter]] = 1
        cut = plane.slice_of(marked, MARKS[letter][plane.axis])  # row 0 at the bottom, column 0 at the left
        assert cut.sum() == 1
        y, x = np.argwhere(cut)[0]
        assert row is None or y == row % cut.shape[0]
        assert column is None or x == column % cut.shape[1]


def test_pictures_and_contours_are_in_millimetres_at_one_scale() -> None:
    spacing_mm = (3.0, 1.0, 0.5)
    figure, panels = panel_grid([5.0, 5.0, 8.0], [18.0], inches_a_mm=0.1)
    inches = figure.get_size_inches()
    mask = np.zeros(SHAPE, dtype=bool)
    mask[2:4, 3:5, 6:8] = True
    for plane, panel in zip(PLANES, panels[0], strict=True):
        show_slice(panel, plane, np.zeros(SHAPE), 3, spacing_mm, limits=(-160, 240), title=plane.name)
        size_mm = (SHAPE[plane.left] * spacing_mm[plane.left], SHAPE[plane.up] * spacing_mm[plane.up])
        assert panel.images[0].get_extent() == [0, size_mm[0], 0, size_mm[1]]
        assert panel.get_position().width * inches[0] == pytest.approx(0.1 * size_mm[0], rel=1e-6)
        outline(panel, plane, mask, 3 if plane.axis < 2 else 6, spacing_mm, colour="#ffffff", dashed=False)
    drawn = panels[0][0].collections[0].get_paths()[0].vertices  # axial: h up, w to the left
    # Between the centres of the outermost voxel and its neighbour: half a voxel beyond the centre, as its edge.
    assert (drawn[:, 1].min(), drawn[:, 1].max()) == pytest.approx((3.0, 5.0))
    assert (drawn[:, 0].min(), drawn[:, 0].max()) == pytest.approx(((10 - 8) * 0.5, (10 - 6) * 0.5))


def test_an_outline_outside_the_slice_draws_nothing() -> None:
    _, panels = panel_grid([10.0], [8.0], inches_a_mm=0.1)
    outline(panels[0][0], PLANES[0], np.zeros(SHAPE, dtype=bool), 3, (1, 1, 1), colour="#ffffff", dashed=True)
    assert not panels[0][0].collections


def test_planes_go_through_the_focus_or_where_most_is_seen() -> None:
    target, organ = np.zeros((2, *SHAPE), dtype=bool)
    target[1:4, 2:5, 3:6] = True
    organ[4:6, 6:8, 7:10] = True
    assert view_centre(view({"target": target, "organ": organ}, focus=("target",))) == (2, 3, 4)
    assert view_centre(view({"organ": organ})) == (4, 6, 7)
    assert view_centre(view({})) == (3, 4, 5)
    overlapping = np.zeros(SHAPE, dtype=bool)
    overlapping[3:6, 4:7, 5:8] = True
    assert view_centre(view({"target": target, "other": overlapping})) == (3, 4, 5)  # both are cut only there


def test_grey_levels_are_those_of_tissue_whatever_the_scale() -> None:
    tissue = np.linspace(-100, 300, 1001)
    volume = np.concatenate([np.full(5000, -1000.0), tissue])
    low, high = tissue_limits(volume)
    assert (low, high) == pytest.approx((-92, 292), abs=1e-6)  # 2 % of 400 HU from both ends
    assert tissue_limits(volume / 500 + 3) == pytest.approx((low / 500 + 3, high / 500 + 3), abs=1e-6)
    assert tissue_limits(np.zeros(5)) == (0.0, 1.0)


def test_volumes_of_unequal_shape_are_no_reconstruction() -> None:
    with pytest.raises(ValueError, match="case a: the three volumes of a reconstruction"):
        Reconstruction("a", np.zeros((2, 2, 2)), np.zeros((2, 2, 2)), np.zeros((2, 2, 3)))
