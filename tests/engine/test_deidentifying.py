"""De-identification of real and generated objects: what must go is gone at every depth, links between them hold."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import JPEGBaseline8Bit

from medpipe.config.errors import ConfigError
from medpipe.dicom.deidentification.keyed import Keyed, shifted
from medpipe.dicom.deidentification.words import cleaned
from medpipe.dicom.linking import roi_masks
from medpipe.dicom.rtstruct import read_rtstruct
from medpipe.dicom.series import read_series
from medpipe.dicom.write_rtstruct import write_rtstruct
from medpipe.dicom.write_series import write_series
from medpipe.dicom.writing import save
from medpipe.engine.deidentifying import DeidentifyRequest, deidentify_command, known_words
from medpipe.geometry.faults import DataFaults
from medpipe.geometry.volume import MaskStack, Volume

ALL = {"retain_dates": True, "retain_characteristics": True, "clean_descriptors": True}


@pytest.fixture
def examination(tmp_path: Path) -> Path:
    """CT and RTSTRUCT of Ada Lovelace, with her name in places where nobody looks."""
    affine = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [2, 0, 0, 0], [0, 0, 0, 1.0]])
    shape = (3, 16, 16)
    volume = Volume(np.zeros(shape, np.int16), affine)
    folder = tmp_path / "LOVELACE_ADA"
    series = write_series(
        folder / "ct", volume, patient_id="4711-ADA", uid_seed="ada", patient_name="Lovelace^Ada", study_date="20200131"
    )
    mask = np.zeros((1, *shape), bool)
    mask[0, 1, 4:9, 3:8] = True
    write_rtstruct(folder / "rs.dcm", MaskStack(mask, affine, ("bladder",)), series, roi_names={"bladder": "Bladder"})
    for path in folder.rglob("*.dcm"):
        dataset = dcmread(path)
        dataset.PatientAge, dataset.PatientBirthDate, dataset.PatientSex = "093Y", "18151210", "F"
        dataset.InstitutionName, dataset.StationName = "St. Mary's", "CT-OF-MARY"
        dataset.SeriesDescription = "Pelvis LOVELACE brachy 5mm 4711"
        dataset.ReferringPhysicianName = "Babbage^Charles"
        dataset.AcquisitionDate = "20200131"
        item, inner = Dataset(), Dataset()
        item.ScheduledProcedureStepDescription = "pelvis of Ada"
        inner.PersonName, inner.PersonAddress = "Babbage^Charles", "Dorset Street"
        item.ReferencedSOPInstanceUID = "1.2.3.4.5"
        item.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        item.PersonIdentificationCodeSequence = [inner]
        dataset.ReferencedImageSequence = [item]
        block = dataset.private_block(0x0019, "ACME 1.0", create=True)
        block.add_new(0x01, "LO", "LOVELACE^ADA")
        block.add_new(0x02, "DS", "1.25")
        dataset.save_as(path)
    return folder


def run(source: Path, tmp_path: Path, **options: object) -> tuple[Path, dict, list[Dataset]]:
    to = tmp_path / f"out{len(list(tmp_path.glob('out*')))}"
    deidentify_command(source, to, DeidentifyRequest(tmp_path / "key", **options), as_json=True)  # type: ignore[arg-type]
    written = [dcmread(path) for path in sorted(to.rglob("*.dcm"))]
    return to, json.loads((to / "deidentification.json").read_text()), written


@pytest.mark.parametrize("options", [{}, ALL])
def test_no_trace_of_the_person_is_left_in_any_byte(examination: Path, tmp_path: Path, options: dict) -> None:
    to, _, written = run(examination, tmp_path, **options)
    assert len(written) == 4
    gone = [b"lovelace", b"ada", b"babbage", b"mary", b"dorset", b"4711", b"18151210", b"acme", b"093y"]
    for path in to.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        found = [word for word in gone if word in content.lower().replace(b"standard", b"").replace(b"canada", b"")]
        assert not found, path
        assert "ada" not in str(path.relative_to(to)).lower()


def test_uids_agree_across_the_set_and_links_hold(examination: Path, tmp_path: Path) -> None:
    to, _, written = run(examination, tmp_path, clean_descriptors=True)
    series = read_series(to)
    rtstruct = read_rtstruct(next(path for path in to.rglob("*.dcm") if dcmread(path).Modality == "RTSTRUCT"))
    before = roi_masks(read_rtstruct(examination / "rs.dcm"), read_series(examination / "ct"), {"b": "Bladder"})
    after = roi_masks(rtstruct, series, {"b": "Bladder"})
    np.testing.assert_array_equal(after.array, before.array)
    assert after.array.any()
    originals = {dcmread(path).SOPInstanceUID for path in examination.rglob("*.dcm")}
    assert not originals & {one.SOPInstanceUID for one in written}
    assert all(one.SOPClassUID.startswith("1.2.840.10008.") for one in written)
    assert all(one.file_meta.MediaStorageSOPInstanceUID == one.SOPInstanceUID for one in written)


def test_the_same_key_gives_the_same_set_and_another_key_another(examination: Path, tmp_path: Path) -> None:
    first, second = (run(examination, tmp_path)[0] for _ in range(2))
    names = [sorted(str(path.relative_to(to)) for path in to.rglob("*.dcm")) for to in (first, second)]
    assert names[0] == names[1]
    (tmp_path / "key").unlink()
    third = run(examination, tmp_path)[0]
    assert not set(names[0]) & {str(path.relative_to(third)) for path in third.rglob("*.dcm")}


def test_the_attributes_that_the_standard_wants_say_what_was_done(examination: Path, tmp_path: Path) -> None:
    _, report, (one, *_) = run(examination, tmp_path, **ALL)
    assert one.PatientIdentityRemoved == "YES"
    codes = [item.CodeValue for item in one.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113105", "113107", "113108"]
    assert one.LongitudinalTemporalInformationModified == "MODIFIED"
    changes = {(change["attribute"], change["what"]): change["files_or_items"] for change in report["changes"]}
    assert changes["InstitutionName", "replaced by a dummy"] == 4
    assert changes["SeriesDescription", "cleaned"] == 4
    _, _, (basic, *_) = run(examination, tmp_path)
    assert basic.LongitudinalTemporalInformationModified == "REMOVED"
    assert [item.CodeValue for item in basic.DeidentificationMethodCodeSequence] == ["113100"]
    assert "SeriesDescription" not in basic
    assert basic.StudyDate == ""
    assert basic.PatientSex == ""


def test_options_keep_what_they_say_and_no_more(examination: Path, tmp_path: Path) -> None:
    _, _, written = run(examination, tmp_path, **ALL, keep_private=("0019,ACME 1.0,02",))
    for one in written:
        assert one.PatientSex == "F"
        assert one.PatientAge == "090Y"
        assert one.SeriesDescription == "Pelvis brachy 5mm"
        assert one.StudyDate not in ("", "20200131")
        assert float(one[0x0019, 0x1002].value) == 1.25
        assert (0x0019, 0x1001) not in one
        assert one.PatientBirthDate == ""
    ct = next(one for one in written if one.Modality == "CT")
    assert ct.AcquisitionDate == ct.StudyDate  # moved alike


def test_intervals_stay_and_nonsense_is_no_date() -> None:
    keyed = Keyed(b"k" * 32)
    days = keyed.shift_days("4711")
    assert days < 0
    a, b = (shifted(value, "DA", days) for value in ("20200228", "20200301"))
    assert a is not None
    assert b is not None
    assert np.datetime64(f"{b[:4]}-{b[4:6]}-{b[6:]}") - np.datetime64(f"{a[:4]}-{a[4:6]}-{a[6:]}") == np.timedelta64(2)
    assert shifted("UNKNOWN", "DA", days) is None
    assert shifted("20200101120000.5+0100", "DT", 1) == "20200102120000.5+0100"


def test_uids_are_valid_whatever_the_root() -> None:
    for root in ("2.25.", "1.2.3.", "1.2.826.0.1.3680043.8.498.", "1.2.826.0.1.3680043.10.1234567.12345.1"):
        for number in range(50):
            uid = Keyed(b"k" * 32, root).uid(str(number))
            assert len(uid) <= 64
            assert all(part == str(int(part)) for part in uid.split("."))


def test_only_known_words_and_small_quantities_stay() -> None:
    words = known_words(None)
    assert cleaned("CT_Pelvis Herr Smith 3.0mm 20200131 Room 4", words) == "CT Pelvis 3.0mm 4"
    assert cleaned("HRCTV", words) == "HRCTV"
    assert cleaned("Smith 12", words) == ""


def ultrasound(path: Path, *, modality: str = "US", compressed: bool = False) -> Path:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.6.1", "1.2.3.9"
    dataset.Modality, dataset.PatientID, dataset.PatientName = modality, "4711", "Lovelace^Ada"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3.1", "1.2.3.2"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 40, 60, 3
    dataset.PhotometricInterpretation, dataset.PlanarConfiguration = "RGB", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    region = Dataset()
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 5, 10
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 50, 35
    dataset.SequenceOfUltrasoundRegions = [region]
    pixels = np.full((40, 60, 3), 200, np.uint8)
    if compressed:
        import io

        from PIL import Image
        from pydicom.encaps import encapsulate

        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
        dataset.add_new(0x7FE00010, "OB", encapsulate([buffer.getvalue()]))
        dataset.PhotometricInterpretation = "YBR_FULL_422"
        dataset["PixelData"].is_undefined_length = True
        save(dataset, path)
        dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        dataset.save_as(path, enforce_file_format=True, implicit_vr=False)
        return path
    dataset.add_new(0x7FE00010, "OW", pixels.tobytes())
    save(dataset, path)
    return path


@pytest.mark.parametrize("modality", ["US", "ES", "SC"])
def test_pictures_with_burned_in_text_are_refused_by_name(tmp_path: Path, modality: str) -> None:
    (tmp_path / "in").mkdir()
    ultrasound(tmp_path / "in" / "us.dcm", modality=modality)
    with pytest.raises(DataFaults, match=rf"us\.dcm: modality {modality} prints text"):
        deidentify_command(tmp_path / "in", tmp_path / "out", DeidentifyRequest(tmp_path / "key"), as_json=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("compressed", [False, True])
def test_pictures_are_masked_where_asked(tmp_path: Path, compressed: bool) -> None:
    (tmp_path / "in").mkdir()
    ultrasound(tmp_path / "in" / "us.dcm", compressed=compressed)
    _, report, (one,) = run(tmp_path / "in", tmp_path, masks=("US:0,0,12,60",), keep_regions=True)
    pixels = one.pixel_array
    assert not pixels[:12].any()  # the mask
    assert not pixels[36:].any()  # outside the region
    assert (pixels[12:36, 5:51] > 190).all()
    assert one.BurnedInAnnotation == "NO"
    assert "113101" in [item.CodeValue for item in one.DeidentificationMethodCodeSequence]
    assert report["files_masked"] == 1
    (tmp_path / "in" / "us.dcm").unlink()
    ultrasound(tmp_path / "in" / "us.dcm", compressed=compressed)
    with pytest.raises(DataFaults, match="leaves the picture"):
        deidentify_command(
            tmp_path / "in", tmp_path / "o", DeidentifyRequest(tmp_path / "key", masks=("US:0,0,99,60",)), as_json=True
        )


def test_reports_and_documents_are_refused(examination: Path, tmp_path: Path) -> None:
    from medpipe.dicom.write_pdf import write_pdf

    write_pdf(tmp_path / "in" / "doc.dcm", b"%PDF-1.4 Ada", read_series(examination / "ct"))
    with pytest.raises(DataFaults, match="is text, which cannot be cleaned"):
        deidentify_command(tmp_path / "in", tmp_path / "out", DeidentifyRequest(tmp_path / "key"), as_json=True)


def test_a_name_in_an_attribute_that_stays_is_found_and_refused(examination: Path, tmp_path: Path, edit_file) -> None:
    edit_file(examination / "rs.dcm", ManufacturerModelName="Lovelace's engine")
    with pytest.raises(DataFaults, match=r"rs\.dcm: ManufacturerModelName still holds a word"):
        deidentify_command(examination, tmp_path / "out", DeidentifyRequest(tmp_path / "key"), as_json=True)
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 3  # the sound ones are there


def test_the_key_and_the_mapping_never_lie_beside_the_result(examination: Path, tmp_path: Path) -> None:
    to = tmp_path / "out"
    with pytest.raises(ConfigError, match="undo them"):
        deidentify_command(examination, to, DeidentifyRequest(to / "key"), as_json=True)
    deidentify_command(
        examination, to, DeidentifyRequest(tmp_path / "key", mapping=tmp_path / "mapping.csv"), as_json=True
    )
    pseudonym = next(path.name for path in to.iterdir() if path.is_dir())
    assert (tmp_path / "mapping.csv").read_text().splitlines() == ["pseudonym,patient_id", f"{pseudonym},4711-ADA"]
    for secret in ("key", "mapping.csv"):
        assert (tmp_path / secret).stat().st_mode & 0o077 == 0


def test_real_exports_are_still_whole_afterwards(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "ct_sarcoma" / "dicom" / "STS_025"
    shutil.copytree(folder, tmp_path / "in")
    to, _, written = run(tmp_path / "in", tmp_path, clean_descriptors=True)
    rtstruct = read_rtstruct(next(path for path in to.rglob("*.dcm") if dcmread(path).Modality == "RTSTRUCT"))
    assert len(written) == len(list((tmp_path / "in").rglob("*.dcm")))
    (name,) = [roi.name for roi in rtstruct.rois]
    source = roi_masks(
        read_rtstruct(next(folder.rglob("RS.dcm"))), read_series(folder / "CT" / "image"), {"t": "GTV_Mass_CT"}
    )
    after = roi_masks(rtstruct, read_series(to), {"t": name})
    np.testing.assert_array_equal(after.array, source.array)


@pytest.fixture
def edit_file():
    def rewrite(path: Path, **attributes: object) -> None:
        dataset = dcmread(path)
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path)

    return rewrite
