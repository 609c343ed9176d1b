from pathlib import Path

import numpy as np
import pytest

from medpipe.dicom.linking import roi_masks
from medpipe.dicom.planes import roi_mask
from medpipe.dicom.rtstruct import Contour, Roi, read_rtstruct
from medpipe.dicom.series import read_series
from medpipe.geometry.faults import DataFault
from medpipe.geometry.nifti import read_mask
from medpipe.geometry.orientation import to_canonical
from medpipe.geometry.volume import Affine, Grid, check_same_grid

SHAPE = (7, 24, 31)


def region(grid: Grid, *polygons: list[tuple[float, float, float]]) -> Roi:
    """A region of polygons given as indices (d, h, w)."""
    contours = tuple(Contour(grid.index_to_world(np.asarray(polygon, float))) for polygon in polygons)
    return Roi(Path("rs.dcm"), 1, "bladder", contours, {}, "", "")


def square(d: float, low: float = 4.5, high: float = 14.5) -> list[tuple[float, float, float]]:
    return [(d, low, low), (d, low, high), (d, high, high), (d, high, low)]


@pytest.mark.parametrize("patient", ["STS_002", "STS_003", "STS_008", "STS_025"])
def test_published_contours_give_the_published_mask_voxel_for_voxel(real_data: Path, patient: str) -> None:
    folder = real_data / "ct_sarcoma"
    series = read_series(folder / "dicom" / patient)
    structure_set = read_rtstruct(next((folder / "dicom" / patient).rglob("RS.dcm")))
    mask = to_canonical(roi_masks(structure_set, series, {"gtv": "GTV_Mass_CT"}))
    published = to_canonical(read_mask(folder / "nifti" / patient / "CT_mask.nii.gz"))
    check_same_grid(published.grid, mask.grid, "the mask of the contours", "the published one")
    assert published.array.any()
    np.testing.assert_array_equal(mask.mask("gtv"), published.array > 0)


def test_contours_fill_their_own_slice_on_every_kind_of_grid(affine: Affine) -> None:
    grid = Grid(SHAPE, affine)
    mask = roi_mask(region(grid, square(2), square(3), square(3, 6.5, 9.5)), grid)
    expected = np.zeros(SHAPE, bool)
    expected[2:4, 5:15, 5:15] = True
    expected[3, 7:10, 7:10] = False
    np.testing.assert_array_equal(mask, expected)


def test_vertices_on_voxel_centres_fill_the_same_voxels_on_every_kind_of_grid(affine: Affine) -> None:
    grid = Grid(SHAPE, affine)
    mask = roi_mask(region(grid, square(2, 4, 14)), grid)
    assert np.argwhere(mask).min(axis=0).tolist() == [2, 4, 4]
    assert np.argwhere(mask).max(axis=0).tolist() == [2, 13, 13]


def test_a_region_without_contours_is_empty_and_noted(axial: Affine) -> None:
    grid, notes = Grid(SHAPE, axial), []
    assert not roi_mask(region(grid), grid, notes=notes).any()
    assert notes == ["rs.dcm: region 'bladder' has no closed contours: empty"]


def test_a_contour_between_the_voxel_centres_is_empty_and_noted(axial: Affine) -> None:
    grid, notes = Grid(SHAPE, axial), []
    assert not roi_mask(region(grid, square(2, 4.2, 4.8)), grid, notes=notes).any()
    assert "enclose no voxel centre" in notes[0]


def test_a_tilted_contour_is_refused_in_degrees(axial: Affine) -> None:
    grid = Grid(SHAPE, axial)
    tilted = [(2.0, 4, 4), (2.0, 4, 14), (3.0, 14, 14), (3.0, 14, 4)]  # 3 mm up over 10 rows of 0.7 mm: atan(3 / 7)
    with pytest.raises(DataFault, match=r"rs\.dcm: region 'bladder': a contour is tilted by 23\.2 degrees"):
        roi_mask(region(grid, tilted), grid)


@pytest.mark.parametrize(("offset", "outcome"), [(0.01, "silent"), (0.2, "noted"), (0.3, "refused"), (0.5, "refused")])
def test_a_contour_off_the_slices_is_noted_up_to_a_quarter_and_refused_beyond(
    axial: Affine, offset: float, outcome: str
) -> None:
    grid, notes = Grid(SHAPE, axial), []
    roi = region(grid, square(2 + offset), square(3 + offset))
    if outcome == "refused":
        with pytest.raises(DataFault, match="lies between slices"):
            roi_mask(roi, grid)
        return
    assert np.flatnonzero(roi_mask(roi, grid, notes=notes).any(axis=(1, 2))).tolist() == [2, 3]
    assert ("0.60 mm off the slices' planes" in "".join(notes)) == (outcome == "noted")


def test_two_planes_of_contours_on_one_slice_are_refused(axial: Affine) -> None:
    grid = Grid(SHAPE, axial)
    with pytest.raises(DataFault, match="contours of two planes fall on slice 3"):
        roi_mask(region(grid, square(2.8), square(3.2)), grid)


def test_contours_outside_the_image_are_refused_or_clipped(axial: Affine) -> None:
    grid, notes = Grid(SHAPE, axial), []
    beyond = region(grid, square(2), square(3, 4.5, 40.5))
    with pytest.raises(DataFault, match=r"leaves the image in 1 of 2 contours, by up to 11\.9 mm"):  # 17 rows of 0.7 mm
        roi_mask(beyond, grid)
    mask = roi_mask(beyond, grid, outside="clip", notes=notes)
    assert mask[3, 5:, 5:].all()
    assert mask[3].sum() == 19 * 26
    assert "clipped" in notes[0]


@pytest.mark.parametrize("d", [-1, 7])
def test_a_contour_beyond_the_last_slice_is_refused_or_left_out(axial: Affine, d: int) -> None:
    grid = Grid(SHAPE, axial)
    roi = region(grid, square(0), square(d)) if d < 0 else region(grid, square(6), square(d))
    with pytest.raises(DataFault, match=r"leaves the image in 1 of 2 contours, by up to 1\.5 mm"):
        roi_mask(roi, grid)
    assert roi_mask(roi, grid, outside="clip").sum() == 100


def test_a_contour_along_the_images_border_is_no_contour_outside(axial: Affine) -> None:
    grid = Grid(SHAPE, axial)
    border = [(2, -0.9, -0.9), (2, -0.9, 30.9), (2, 23.9, 30.9), (2, 23.9, -0.9)]
    assert roi_mask(region(grid, border), grid)[2].all()


def test_slices_skipped_while_drawing_are_refused_or_kept_empty(axial: Affine) -> None:
    grid, notes = Grid(SHAPE, axial), []
    sparse = region(grid, square(1), square(3), square(6))
    with pytest.raises(DataFault, match=r"no contours in 3 slices between others \(slices 2, 4-5\)"):
        roi_mask(sparse, grid)
    mask = roi_mask(sparse, grid, gaps="keep", notes=notes)
    assert np.flatnonzero(mask.any(axis=(1, 2))).tolist() == [1, 3, 6]
    assert "kept empty" in notes[0]


def test_separate_parts_with_a_gap_are_no_skipped_slices(axial: Affine) -> None:
    grid, notes = Grid(SHAPE, axial), []
    parts = region(grid, square(1, 2.5, 6.5), square(4, 12.5, 18.5))
    assert roi_mask(parts, grid, notes=notes).sum() == 16 + 36
    assert "(slices 2-3): kept empty" in notes[0]
