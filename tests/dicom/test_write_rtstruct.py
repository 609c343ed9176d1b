import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from medpipe.dicom.linking import roi_masks
from medpipe.dicom.maker import Model
from medpipe.dicom.read_back import WrittenOtherwise
from medpipe.dicom.rtstruct import read_rtstruct
from medpipe.dicom.series import Series, read_series
from medpipe.dicom.write_rtstruct import write_rtstruct
from medpipe.dicom.write_series import write_series
from medpipe.geometry.orientation import to_canonical
from medpipe.geometry.volume import Affine, MaskStack


def test_masks_come_back_voxel_for_voxel_on_every_kind_of_grid(
    affine: Affine, make_volume, make_masks, tmp_path: Path
) -> None:
    series = write_series(tmp_path / "ct", make_volume(affine), patient_id="p", uid_seed="s")
    masks = make_masks(affine)
    write_rtstruct(tmp_path / "rs.dcm", masks, series)
    names = {structure: structure for structure in masks.structures}
    again = roi_masks(read_rtstruct(tmp_path / "rs.dcm"), read_series(tmp_path / "ct"), names)
    assert (masks.mask("ctv_high_risk") & masks.mask("bladder")).any()  # they overlap
    for structure in masks.structures:
        np.testing.assert_array_equal(again.mask(structure), masks.mask(structure))


def test_masks_with_other_axes_or_slices_the_other_way_are_turned_to_the_series(
    axial: Affine, make_volume, make_masks, tmp_path: Path
) -> None:
    against = axial.copy()
    against[:, 0] *= -1
    series = write_series(tmp_path / "ct", make_volume(against), patient_id="p", uid_seed="s")
    masks = make_masks(against)
    names = {structure: structure for structure in masks.structures}
    for number, given in enumerate((masks, to_canonical(masks))):
        structure_set = write_rtstruct(tmp_path / f"{number}.dcm", given, series)
        again = to_canonical(roi_masks(structure_set, series, names))
        np.testing.assert_array_equal(again.array, to_canonical(masks).array)


def test_references_status_and_labels_are_what_an_importer_asks_for(series: Series, make_masks, tmp_path: Path) -> None:
    write_rtstruct(
        tmp_path / "rs.dcm", make_masks(series.volume.affine), series, roi_names={"bladder": "Bladder"},
        interpreted_types={"uterus": "AVOIDANCE"},
    )  # fmt: skip
    written, image = dcmread(tmp_path / "rs.dcm"), dcmread(next(series.folder.iterdir()))
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName", "StudyDate"):
        assert written[keyword].value == image[keyword].value
    frame = written.ReferencedFrameOfReferenceSequence[0]
    referenced = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert frame.FrameOfReferenceUID == image.FrameOfReferenceUID
    assert referenced.SeriesInstanceUID == image.SeriesInstanceUID != written.SeriesInstanceUID
    assert [item.ReferencedSOPInstanceUID for item in referenced.ContourImageSequence] == list(series.sop_uids)
    assert written.ApprovalStatus == "UNAPPROVED"
    assert "research use only" in written.SeriesDescription
    assert "research use only" in written.StructureSetName
    assert "RESEARCH" in written.StructureSetLabel
    assert [roi.ROIName for roi in written.StructureSetROISequence] == ["ctv_high_risk", "Bladder", "uterus"]
    assert {roi.ROIGenerationAlgorithm for roi in written.StructureSetROISequence} == {"AUTOMATIC"}
    types = [item.RTROIInterpretedType for item in written.RTROIObservationsSequence]
    assert types == ["CTV", "ORGAN", "AVOIDANCE"]
    assert "ContourSequence" not in written.ROIContourSequence[2]  # the empty one


def test_each_contour_names_the_image_of_its_own_slice(series: Series, make_masks, tmp_path: Path) -> None:
    structure_set = write_rtstruct(tmp_path / "rs.dcm", make_masks(series.volume.affine), series)
    for roi in structure_set.rois:
        for contour in roi.contours:
            d = series.volume.grid.world_to_index(contour.points_mm)[:, 0]
            np.testing.assert_allclose(d, series.sop_uids.index(contour.image_uid), atol=1e-6)


def test_decimal_strings_have_sixteen_characters_at_most(series: Series, make_masks, tmp_path: Path) -> None:
    write_rtstruct(tmp_path / "rs.dcm", make_masks(series.volume.affine), series)
    for item in dcmread(tmp_path / "rs.dcm").ROIContourSequence[0].ContourSequence:
        raw = item.get_item("ContourData").value
        assert max(len(number) for number in raw.split(b"\\")) <= 16
        assert item.NumberOfContourPoints * 3 == len(raw.split(b"\\"))


def test_a_contour_of_more_than_64_kibibytes_is_written(axial: Affine, make_volume, tmp_path: Path) -> None:
    shape = (1, 90, 90)
    series = write_series(tmp_path / "ct", make_volume(axial, shape=shape), patient_id="p", uid_seed="s")
    comb = np.zeros(shape, bool)
    comb[:, 0] = comb[:, :, ::3] = comb[:, 1::2, 1::3] = True  # 30 teeth on a spine, with 45 knobs each
    structure_set = write_rtstruct(tmp_path / "rs.dcm", MaskStack(comb[None], axial, ("bowel",)), series)
    longest = max(len(contour.points_mm) for contour in structure_set.roi("bowel").contours)
    assert longest * 3 * 6 > 2**16  # three coordinates of at least five characters and a separator
    # Explicit lengths could not hold it: such a contour would be written as of unknown type.
    assert dcmread(tmp_path / "rs.dcm").file_meta.TransferSyntaxUID.is_implicit_VR


def test_the_same_masks_give_the_same_bytes_and_others_another_uid(series: Series, make_masks, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_rtstruct(tmp_path / name, make_masks(series.volume.affine, seed=seed), series)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read_rtstruct(tmp_path / "a").sop_uid != read_rtstruct(tmp_path / "c").sop_uid


def test_invalid_dates_and_codes_of_the_ct_are_not_handed_on(series: Series, make_masks, tmp_path: Path) -> None:
    spoiled = replace(series, study={**series.study, "PatientBirthDate": "UNKNOWN", "PatientSex": "UNKNOWN",
                                     "StudyDate": "20201399", "StudyTime": "142047.44"})  # fmt: skip
    write_rtstruct(tmp_path / "rs.dcm", make_masks(series.volume.affine), spoiled)
    written = dcmread(tmp_path / "rs.dcm")
    values = [written[keyword].value for keyword in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime")]
    assert values == ["", "", "", "142047.44"]


def test_a_file_that_reads_back_otherwise_is_never_left_behind(
    series: Series, make_masks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A writer that mirrors columns, the fault of several published ones.
    monkeypatch.setattr(
        "medpipe.dicom.write_rtstruct.mask_to_contours", lambda mask: [np.array([(1.5, 1.5), (1.5, 4.5), (4.5, 4.5)])]
    )
    with pytest.raises(WrittenOtherwise, match="voxels differ"):
        write_rtstruct(tmp_path / "rs.dcm", make_masks(series.volume.affine), series)
    assert [path.name for path in tmp_path.iterdir()] == ["ct"]


def test_a_grid_that_is_mirrored_against_the_images_is_found_out(series: Series, make_masks, tmp_path: Path) -> None:
    # The reader's fault instead of the writer's: a grid whose columns run the other way than the pixels of the files.
    mirrored = series.volume.affine.copy()
    mirrored[:3, 3] += mirrored[:3, 2] * (series.volume.shape[2] - 1)
    mirrored[:3, 2] *= -1
    wrong = replace(series, volume=replace(series.volume, affine=mirrored))
    with pytest.raises(WrittenOtherwise, match="mm off its image"):
        write_rtstruct(tmp_path / "rs.dcm", make_masks(mirrored), wrong)


def test_the_model_and_its_weights_stand_in_contributing_equipment(series: Series, make_masks, tmp_path: Path) -> None:
    masks = make_masks(series.volume.affine)
    for name, weights in (("a", "0" * 64), ("b", "1" * 64)):
        write_rtstruct(tmp_path / name, masks, series, model=Model("gyn", weights), uid_root="1.2.3.4")
    a, b = dcmread(tmp_path / "a"), dcmread(tmp_path / "b")
    (item,) = a.ContributingEquipmentSequence
    assert item.ManufacturerModelName == "gyn"
    assert "0" * 64 in item.ContributionDescription
    assert item.DeviceUID != b.ContributingEquipmentSequence[0].DeviceUID
    for uid in (item.DeviceUID, a.SOPInstanceUID, a.SeriesInstanceUID):
        assert uid.startswith("1.2.3.4.")
        assert len(uid) <= 64
    assert a.SOPInstanceUID != b.SOPInstanceUID


def test_holes_are_keyholes_or_inner_contours_by_a_value(series: Series, tmp_path: Path) -> None:
    ring = np.zeros(series.volume.shape, bool)
    ring[2, 4:20, 5:25] = True
    ring[2, 8:12, 9:14] = ring[2, 12, 14] = ring[2, 15:17, 16:20] = False
    masks = MaskStack(ring[None], series.volume.affine, ("uterus",))
    keyholes = write_rtstruct(tmp_path / "k", masks, series)
    inner = write_rtstruct(tmp_path / "i", masks, series, holes="inner")
    assert [len(rtstruct.roi("uterus").contours) for rtstruct in (keyholes, inner)] == [
        1,
        3,
    ]  # two of the holes touch at a corner
    for rtstruct in (keyholes, inner):
        np.testing.assert_array_equal(roi_masks(rtstruct, series, {"uterus": "uterus"}).array[0], ring)


@pytest.mark.parametrize("name", ["Мочевой пузырь", "膀胱", "Vessie à droite"])
def test_names_in_any_script_come_back(series: Series, make_masks, tmp_path: Path, name: str) -> None:
    rtstruct = write_rtstruct(tmp_path / "rs", make_masks(series.volume.affine), series, roi_names={"bladder": name})
    assert rtstruct.names[1] == name


def test_a_name_of_two_hundred_characters_is_refused_and_says_so(series: Series, make_masks, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 to 64 characters"):
        write_rtstruct(
            tmp_path / "rs", make_masks(series.volume.affine), series, roi_names={"bladder": "Bladder " * 25 + "x"}
        )
    assert not (tmp_path / "rs").exists()


def test_a_series_without_a_frame_of_reference_gets_one_of_its_own(series: Series, make_masks, tmp_path: Path) -> None:
    notes: list[str] = []
    without = replace(series, frame_of_reference_uid="")
    found = [
        write_rtstruct(tmp_path / f"{seed}.dcm", make_masks(series.volume.affine, seed=seed), without, notes=notes)
        for seed in (1, 2)
    ]
    assert len(notes) == 2
    assert "names no frame of reference" in notes[0]
    assert found[0].frame_of_reference_uids == found[1].frame_of_reference_uids != ()


def test_what_could_not_be_imported_is_refused(series: Series, make_masks, tmp_path: Path) -> None:
    masks = make_masks(series.volume.affine)
    with pytest.raises(ValueError, match="ROI names"):
        write_rtstruct(tmp_path / "rs.dcm", masks, series, roi_names={"bladder": "uterus"})
    moved = series.volume.affine.copy()
    moved[0, 3] += 5
    with pytest.raises(
        ValueError, match=r"mask stack does not lie on the grid of the CT series: origin is off by 5\.00"
    ):
        write_rtstruct(tmp_path / "rs.dcm", make_masks(moved), series)


def test_real_tumours_go_to_a_new_structure_set_and_back(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "ct_sarcoma" / "dicom" / "STS_025"
    shutil.copytree(folder / "CT" / "image", tmp_path / "ct")
    series = read_series(tmp_path / "ct")
    masks = roi_masks(read_rtstruct(next(folder.rglob("RS.dcm"))), series, {"gtv_mass": "GTV_Mass_CT"})
    structure_set = write_rtstruct(tmp_path / "rs.dcm", masks, series)
    assert structure_set.roi("gtv_mass").interpreted_type == "GTV"
    assert structure_set.frame_of_reference_uids == (series.frame_of_reference_uid,)
