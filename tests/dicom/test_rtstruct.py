import warnings
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from medpipe.dicom.rtstruct import is_rtstruct, read_rtstruct
from medpipe.dicom.series import Series
from medpipe.dicom.write_rtstruct import write_rtstruct
from medpipe.geometry.faults import DataFault


@pytest.fixture
def path(series: Series, make_masks, tmp_path: Path) -> Path:
    write_rtstruct(tmp_path / "rs.dcm", make_masks(series.volume.affine), series)
    return tmp_path / "rs.dcm"


def contour(kind: str, points: list[float] | None) -> Dataset:
    item = Dataset()
    item.ContourGeometricType = kind
    if points is not None:
        item.ContourData = [f"{value:g}" for value in points]
    return item


def add_contours(path: Path, roi: int, *items: Dataset) -> None:
    dataset = dcmread(path)
    target = dataset.ROIContourSequence[roi]
    target.ContourSequence = [*(target.ContourSequence if "ContourSequence" in target else []), *items]
    dataset.save_as(path)


def test_brachytherapy_structure_sets_are_read_with_unknown_in_their_dates(real_data: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pdr = read_rtstruct(real_data / "brachytherapy" / "PDR" / "RS.PDR.dcm")
        hdr = read_rtstruct(real_data / "brachytherapy" / "HDR" / "RS.HDR.dcm")
    assert pdr.names == (
        "right ovoid", "left ovoid", "tandem", "ctv", "bladder", "rectum", "LT OVOID", "RT OVOID", "BODY",
    )  # fmt: skip
    counts = {roi.name: len(roi.contours) for roi in pdr.rois}
    assert (counts["ctv"], counts["bladder"], counts["rectum"], counts["BODY"], counts["tandem"]) == (
        36,
        27,
        30,
        107,
        0,
    )
    assert pdr.roi("tandem").skipped == {"OPEN_NONPLANAR": 1}
    assert hdr.roi("HRCTV").interpreted_type == "CTV"
    assert len(hdr.roi("HRCTV").contours) == 27
    assert hdr.roi("Normal tissue").contours == ()
    assert hdr.patient_id == "UNKNOWN"


def test_points_are_ras(real_data: Path) -> None:
    path = real_data / "brachytherapy" / "PDR" / "RS.PDR.dcm"
    item = dcmread(path).ROIContourSequence[3].ContourSequence[0]
    lps = np.asarray(item.ContourData, float).reshape(-1, 3)
    np.testing.assert_array_equal(read_rtstruct(path).rois[3].contours[0].points_mm, lps * [-1, -1, 1])


def test_points_and_open_lines_and_repeated_and_degenerate_contours_are_skipped_with_a_note(path: Path) -> None:
    square = [0, 0, 0, 5, 0, 0, 5, 5, 0, 0, 5, 0]
    add_contours(
        path, 2,
        contour("POINT", [1, 2, 3]),
        contour("OPEN_PLANAR", square),
        contour("OPEN_NONPLANAR", square),
        contour("CLOSED_PLANAR", [0, 0, 0, 1, 1, 0]),
        contour("CLOSED_PLANAR", square),
        contour("CLOSED_PLANAR", square),
    )  # fmt: skip
    notes: list[str] = []
    roi = read_rtstruct(path, notes=notes).roi("uterus")
    assert len(roi.contours) == 1
    assert roi.skipped == {
        "POINT": 1, "OPEN_PLANAR": 1, "OPEN_NONPLANAR": 1, "of fewer than three points": 1, "repeated": 1,
    }  # fmt: skip
    assert any("'uterus'" in note and "1 POINT" in note for note in notes)


def test_a_region_without_contours_or_without_its_item_is_empty(path: Path) -> None:
    dataset = dcmread(path)
    del dataset.ROIContourSequence[2]
    dataset.save_as(path)
    assert read_rtstruct(path).roi("uterus").contours == ()
    assert "RTROIObservationsSequence" in dataset
    del dataset.RTROIObservationsSequence, dataset.ROIContourSequence
    dataset.save_as(path)
    assert read_rtstruct(path).names == ("ctv_high_risk", "bladder", "uterus")


def test_duplicate_names_are_ambiguous_unless_one_alone_has_contours(path: Path) -> None:
    dataset = dcmread(path)
    dataset.StructureSetROISequence[2].ROIName = "bladder"
    dataset.save_as(path)
    assert read_rtstruct(path).roi("bladder").number == 2
    dataset.StructureSetROISequence[0].ROIName = "bladder"
    dataset.save_as(path)
    with pytest.raises(DataFault, match=r"3 regions of interest are named 'bladder': numbers 1 .*2 .*3 "):
        read_rtstruct(path).roi("bladder")
    with pytest.raises(DataFault, match=r"rs\.dcm: no region of interest 'rectum'; there are bladder"):
        read_rtstruct(path).roi("rectum")


@pytest.mark.parametrize(
    ("points", "reason"),
    [([0.0, 1.0], "2 numbers, finite triples"), (None, "without ContourData")],
)
def test_contours_that_are_no_points_are_refused_by_region(path: Path, points: list[float] | None, reason: str) -> None:
    add_contours(path, 2, contour("CLOSED_PLANAR", points))
    with pytest.raises(DataFault, match=rf"rs\.dcm: region 'uterus' has a contour.*{reason}"):
        read_rtstruct(path)


def test_a_coordinate_that_is_a_word_is_refused(path: Path) -> None:
    add_contours(path, 2, contour("CLOSED_PLANAR", [765432] * 9))
    path.write_bytes(path.read_bytes().replace(b"765432\\", b"UNKNOW\\", 1))
    with pytest.raises(DataFault, match="region 'uterus': a coordinate is not a number"):
        read_rtstruct(path)


def test_two_regions_of_one_number_are_refused(path: Path) -> None:
    dataset = dcmread(path)
    dataset.StructureSetROISequence[1].ROINumber = 1
    dataset.save_as(path)
    with pytest.raises(DataFault, match="two regions of interest have the number 1"):
        read_rtstruct(path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.97])
def test_a_truncated_structure_set_is_refused_by_name(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataFault, match=r"rs\.dcm: "):
        read_rtstruct(path)


def test_a_ct_image_is_no_structure_set(series: Series, path: Path) -> None:
    image = next(series.folder.iterdir())
    assert is_rtstruct(path)
    assert not is_rtstruct(image)
    with pytest.raises(DataFault, match="holds CT, an RTSTRUCT is expected"):
        read_rtstruct(image)
