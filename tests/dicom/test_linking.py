from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medpipe.dicom.linking import check_linked, check_roi_linked, roi_masks
from medpipe.dicom.rtstruct import Contour, RtStruct, read_rtstruct
from medpipe.dicom.series import Series, read_series
from medpipe.dicom.write_rtstruct import write_rtstruct
from medpipe.geometry.faults import DataFault


@pytest.fixture
def structure_set(series: Series, make_masks, tmp_path: Path) -> RtStruct:
    return write_rtstruct(tmp_path / "rs.dcm", make_masks(series.volume.affine), series)


def test_masks_are_read_by_the_names_asked_for(structure_set: RtStruct, series: Series, make_masks) -> None:
    masks = roi_masks(structure_set, series, {"target": "ctv_high_risk", "womb": "uterus"})
    assert masks.structures == ("target", "womb")
    np.testing.assert_array_equal(masks.mask("target"), make_masks(series.volume.affine).mask("ctv_high_risk"))


def test_another_frame_of_reference_is_refused_with_both_uids(structure_set: RtStruct, series: Series) -> None:
    with pytest.raises(
        DataFault, match=rf"rs\.dcm: its frame of reference is {series.frame_of_reference_uid}.* 1\.2\.3"
    ):
        check_linked(structure_set, replace(series, frame_of_reference_uid="1.2.3"))


def test_another_series_is_refused_with_both_uids(structure_set: RtStruct, series: Series) -> None:
    with pytest.raises(DataFault, match=rf"refers to the series {series.series_uid}, the CT .* is the series 1\.2\.4"):
        check_linked(structure_set, replace(series, series_uid="1.2.4"))


def test_one_of_both_links_may_be_missing_with_a_note_but_not_both(structure_set: RtStruct, series: Series) -> None:
    notes: list[str] = []
    check_linked(structure_set, replace(series, frame_of_reference_uid=""), notes=notes)
    check_linked(replace(structure_set, series_uids=()), series, notes=notes)
    assert [note.split("by its ")[1] for note in notes] == ["series alone", "frame of reference alone"]
    with pytest.raises(DataFault, match="nothing links it to a CT"):
        check_linked(replace(structure_set, series_uids=(), frame_of_reference_uids=()), series)


def test_a_region_in_another_frame_of_reference_is_refused(structure_set: RtStruct, series: Series) -> None:
    roi = replace(structure_set.rois[0], frame_of_reference_uid="1.2.5")
    with pytest.raises(DataFault, match=r"region 'ctv_high_risk' lies in frame of reference 1\.2\.5"):
        check_roi_linked(roi, series)


def test_a_contour_off_the_image_it_names_is_refused_and_one_of_an_unknown_image_noted(
    structure_set: RtStruct, series: Series
) -> None:
    roi = structure_set.rois[0]
    moved = replace(roi, contours=(Contour(roi.contours[0].points_mm, series.sop_uids[-1]),))
    with pytest.raises(DataFault, match=r"lies 15\.00 mm off the image it refers to"):  # slice 1 against slice 6
        check_roi_linked(moved, series)
    notes: list[str] = []
    check_roi_linked(replace(roi, contours=(Contour(roi.contours[0].points_mm, "1.2.6"),)), series, notes=notes)
    assert "1 of 1 contours refer to images that the series does not hold" in notes[0]


def test_published_invalid_references_are_refused_by_uid(real_data: Path) -> None:
    folder = real_data / "dicom_oblique" / "mock_data"
    series = read_series(folder)
    with pytest.raises(DataFault, match=r"rt\.dcm: its frame of reference is 1\.2\.826"):
        roi_masks(read_rtstruct(folder / "rt.dcm"), series, {"a": "ROI-1"})
    # Both hold contours on five slices, of which the folder has two.
    for name in ("invalid_reference_rt.dcm", "non_existent_reference_rt.dcm"):
        notes: list[str] = []
        structure_set = read_rtstruct(folder / name)
        with pytest.raises(DataFault, match=r"region 'ROI-1' leaves the image in 1 of 3 contours"):
            roi_masks(structure_set, series, {"a": "ROI-1"}, notes=notes)
        assert any("1 of 3 contours refer to images" in note for note in notes)
        assert roi_masks(structure_set, series, {"a": "ROI-1"}, outside="clip").array.any()
