from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from medpipe.dicom.series import Series
from medpipe.dicom.write_series import write_series
from medpipe.geometry.volume import Affine, Volume

# Type 1 of the CT Image IOD (PS3.3 A.3 and C.8.2.1), with its patient, study, series, frame and image plane modules.
TYPE_1 = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality",
    "ImageType", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "SamplesPerPixel",
    "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "RescaleIntercept", "RescaleSlope", "PixelData",
)  # fmt: skip
TYPE_2 = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName",
    "StudyID", "AccessionNumber", "SeriesNumber", "Manufacturer", "PositionReferenceIndicator", "InstanceNumber",
    "SliceThickness", "KVP", "AcquisitionNumber", "PatientPosition",
)  # fmt: skip


def test_every_image_has_the_attributes_that_a_ct_must_have(series: Series) -> None:
    for path in series.folder.iterdir():
        image = dcmread(path)
        for keyword in TYPE_1:
            assert image[keyword].value not in (None, "", []), keyword
        assert [keyword for keyword in TYPE_2 if keyword not in image] == []
        assert image.file_meta.MediaStorageSOPInstanceUID == image.SOPInstanceUID
        assert "research use only" in image.SeriesDescription


def test_decimal_strings_have_sixteen_characters_at_most(affine: Affine, make_volume, tmp_path: Path) -> None:
    series = write_series(tmp_path / "ct", make_volume(affine), patient_id="p", uid_seed="s")
    for path in series.folder.iterdir():
        image = dcmread(path)
        for keyword in ("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient"):
            raw = image[keyword].value
            assert all(len(str(number)) <= 16 and "e" not in str(number) for number in raw)


def test_the_same_seed_gives_the_same_bytes_and_another_other_uids(axial: Affine, make_volume, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a", "b", "c")]
    uids = [
        write_series(folder, make_volume(axial), patient_id="p", uid_seed=seed).series_uid
        for folder, seed in zip(folders, ("one", "one", "two"), strict=True)
    ]
    assert uids[0] == uids[1] != uids[2]
    for first, second in zip(sorted(folders[0].iterdir()), sorted(folders[1].iterdir()), strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_the_patients_position_is_named_where_dicom_has_a_word_for_it(
    make_volume, axial: Affine, tmp_path: Path
) -> None:
    for signs, expected in (((1, 1), "HFS"), ((-1, -1), "HFP"), ((-1, 1), "FFS"), ((1, -1), "FFP")):
        affine = axial @ np.diag([signs[0] * signs[1], signs[1], signs[0], 1])
        series = write_series(tmp_path / expected, make_volume(affine), patient_id="p", uid_seed="s")
        assert dcmread(next(series.folder.iterdir())).PatientPosition == expected


def test_float_values_are_rounded_and_those_beyond_int16_refused(axial: Affine, make_volume, tmp_path: Path) -> None:
    volume = make_volume(axial)
    shifted = Volume((volume.array + np.float32(0.4)).astype(np.float32), axial)
    series = write_series(tmp_path / "ct", shifted, patient_id="p", uid_seed="s")
    np.testing.assert_array_equal(series.volume.array, volume.array)
    with pytest.raises(ValueError, match="do not fit"):
        write_series(tmp_path / "metal", Volume(shifted.array * 1000, axial), patient_id="p", uid_seed="s")
    assert not (tmp_path / "metal").exists()


def test_a_folder_with_files_is_refused_and_nothing_half_written_is_left(
    series: Series, axial: Affine, make_volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="new or empty folder"):
        write_series(series.folder, make_volume(axial), patient_id="p", uid_seed="s")

    def fails(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("medpipe.dicom.write_series.save", fails)
    with pytest.raises(OSError, match="disk full"):
        write_series(tmp_path / "new", make_volume(axial), patient_id="p", uid_seed="s")
    assert [path.name for path in tmp_path.iterdir()] == ["ct"]


def test_names_beyond_ascii_are_written(axial: Affine, make_volume, tmp_path: Path) -> None:
    series = write_series(
        tmp_path / "Größe Ø", make_volume(axial), patient_id="gyn_ä", patient_name="Müller^Åsa", uid_seed="ß"
    )
    assert (series.patient_id, series.study["PatientName"]) == ("gyn_ä", "Müller^Åsa")
