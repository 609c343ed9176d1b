"""What archives and planning systems really send: refused by name, or read and written right."""

import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import JPEGLosslessSV1, JPEGLSLossless, RLELossless

from medpipe.dicom.linking import roi_masks
from medpipe.dicom.planning_ct import find_planning_ct
from medpipe.dicom.rtstruct import read_rtstruct
from medpipe.dicom.series import Series, read_series
from medpipe.dicom.write_pdf import write_pdf
from medpipe.dicom.write_rtstruct import write_rtstruct
from medpipe.dicom.write_seg import write_seg
from medpipe.dicom.write_series import write_series
from medpipe.geometry.faults import DataFault
from medpipe.geometry.volume import Affine, MaskStack, Volume


@pytest.fixture
def patient(real_data: Path, tmp_path: Path) -> Path:
    """A copy of a real CT series, feet first, to spoil."""
    folder = tmp_path / "exam"
    shutil.copytree(real_data / "ct_sarcoma" / "dicom" / "STS_025" / "CT" / "image", folder / "ct")
    return folder


def second_series(folder: Path, name: str, **attributes: object) -> Path:
    """The same slices again, as a series of its own."""
    shutil.copytree(folder / "ct", folder / name)
    for path in sorted((folder / name).iterdir()):
        dataset = dcmread(path)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{dataset.SOPInstanceUID}.7"
        dataset.SeriesInstanceUID, dataset.SeriesDescription = "1.2.3.4", name
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path)
    return folder / name


def test_two_planning_cts_are_refused_until_one_is_named(patient: Path) -> None:
    second_series(patient, "again")
    with pytest.raises(DataFault, match=r"2 of 2 CT series could be the planning CT, name one by --series.*'again'"):
        find_planning_ct(patient)
    chosen = find_planning_ct(patient, series_uid="1.2.3.4")
    assert chosen.series.description == "again"
    with pytest.raises(DataFault, match=r"holds no CT series 9\.9; it holds"):
        find_planning_ct(patient, series_uid="9.9")


def test_a_structure_set_says_which_of_two_is_the_planning_ct(patient: Path, real_data: Path) -> None:
    second_series(patient, "again")
    shutil.copy(real_data / "ct_sarcoma" / "dicom" / "STS_025" / "CT" / "mask" / "RS.dcm", patient / "rs.dcm")
    chosen = find_planning_ct(patient)
    assert "structure set" in chosen.why
    assert chosen.series.series_uid in read_rtstruct(patient / "rs.dcm").series_uids
    assert any("'again'" in sentence for sentence in chosen.passed_over)


def test_a_series_that_is_no_even_stack_is_passed_over_with_its_reason(patient: Path) -> None:
    again = second_series(patient, "broken")
    sorted(again.iterdir())[10].unlink()
    chosen = find_planning_ct(patient)
    assert chosen.why == "the only CT series that is one even stack of slices"
    assert "1 missing in between" in chosen.passed_over[0]


def test_a_ct_in_pieces_is_refused(patient: Path) -> None:
    ordered = sorted((dcmread(path, stop_before_pixels=True).ImagePositionPatient[2], path) for path in
                     (patient / "ct").iterdir())  # fmt: skip
    for _, path in ordered[20:]:
        dataset = dcmread(path)
        dataset.SeriesInstanceUID = "1.2.3.4"
        dataset.save_as(path)
    with pytest.raises(DataFault, match="a CT in pieces"):
        find_planning_ct(patient)


def test_two_patients_are_refused(patient: Path) -> None:
    second_series(patient, "other", PatientID="another")
    with pytest.raises(DataFault, match="of 2 patients"):
        find_planning_ct(patient)


def test_mixed_orientation_duplicates_and_truncation_are_refused_by_file(patient: Path) -> None:
    path = patient / "ct" / "000004.dcm"
    sound = path.read_bytes()
    dataset = dcmread(path)
    dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    dataset.save_as(path)
    with pytest.raises(DataFault, match=r"oriented otherwise than"):
        read_series(patient / "ct")
    path.write_bytes(sound)
    shutil.copy(path, patient / "ct" / "copy.dcm")
    with pytest.raises(DataFault, match=r"lies at the same place as .*: a duplicate"):
        read_series(patient / "ct")
    (patient / "ct" / "copy.dcm").unlink()
    for length in (100, 1500, len(sound) - 5):
        path.write_bytes(sound[:length])
        with pytest.raises(DataFault, match=r"000004\.dcm"):
            read_series(patient / "ct")


def test_a_structure_set_of_absent_images_is_refused_or_placed_with_a_note(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "dicom_oblique" / "mock_data"
    found = find_planning_ct(folder)
    series = read_series(list(found.series.paths))
    for name in ("non_existent_reference_rt.dcm", "invalid_reference_rt.dcm"):
        rtstruct = read_rtstruct(folder / name)
        notes: list[str] = []
        for roi in rtstruct.rois:
            try:
                roi_masks(rtstruct, series, {roi.name: roi.name}, gaps="keep", notes=notes)
            except DataFault as fault:
                notes.append(str(fault))
        assert any("refer" in note or "frame of reference" in note or "linked" in note for note in notes), name


def test_unknown_in_date_fields_is_read_and_never_handed_on(patient: Path, tmp_path: Path) -> None:
    for path in (patient / "ct").iterdir():
        content = bytearray(path.read_bytes())
        for tag in (b"\x10\x00\x30\x00", b"\x08\x00\x20\x00"):  # PatientBirthDate, StudyDate, in place and 8 bytes long
            place = content.find(tag)
            if place > 0 and content[place + 4] == 8:
                content[place + 8 : place + 16] = b"UNKNOWN "
        path.write_bytes(content)
    series = read_series(patient / "ct")
    assert "UNKNOWN" in series.study["StudyDate"]
    masks = block(series)
    write_rtstruct(tmp_path / "rs.dcm", masks, series)
    write_seg(tmp_path / "seg.dcm", masks, series)
    write_pdf(tmp_path / "doc.dcm", b"%PDF-1.4 x", series)
    for name in ("rs", "seg", "doc"):
        assert b"UNKNOWN" not in (tmp_path / f"{name}.dcm").read_bytes()
        assert dcmread(tmp_path / f"{name}.dcm").StudyDate == ""


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEGLosslessSV1])
def test_compressed_series_hold_the_same_hounsfield_units(patient: Path, syntax: str) -> None:
    before = read_series(patient / "ct").volume.array
    for path in (patient / "ct").iterdir():
        compress(path, syntax)
        assert dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(read_series(patient / "ct").volume.array, before)


def compress(path: Path, syntax: str) -> None:
    if syntax != JPEGLosslessSV1:
        dataset = dcmread(path)
        dataset.compress(syntax, generate_instance_uid=False)
        dataset.save_as(path)
        return
    import gdcm  # pydicom writes no JPEG lossless, which most archives hold

    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


def test_names_of_two_hundred_characters_and_empty_regions_are_read(series: Series, tmp_path: Path) -> None:
    write_rtstruct(tmp_path / "rs.dcm", MaskStack(np.zeros((1, *series.volume.shape), bool), series.volume.affine,
                                                  ("uterus",)), series)  # fmt: skip
    dataset = dcmread(tmp_path / "rs.dcm")
    name = "Мочевой пузырь " * 13 + "конец"
    assert len(name) == 200
    from medpipe.dicom.reading import lenient

    with lenient():
        dataset.StructureSetROISequence[0].ROIName = name
        dataset.save_as(tmp_path / "rs.dcm")
    rtstruct = read_rtstruct(tmp_path / "rs.dcm")
    assert rtstruct.names == (name,)
    notes: list[str] = []
    assert not roi_masks(rtstruct, series, {"bladder": name}, notes=notes).array.any()
    assert any("empty" in note for note in notes)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from medpipe.dicom.series import read_series
from medpipe.dicom.write_rtstruct import write_rtstruct
from medpipe.dicom.write_seg import write_seg
from medpipe.geometry.volume import MaskStack
series = read_series(sys.argv[1])
mask = np.random.default_rng(0).random((1, *series.volume.shape)) < 0.5
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
write = {"rs": write_rtstruct, "seg": write_seg}[sys.argv[3]]
try:
    write(Path(sys.argv[2]), MaskStack(mask, series.volume.affine, ("bladder",)), series)
except OSError as error:
    print("OSError", error.errno)
"""


@pytest.mark.parametrize("kind", ["rs", "seg"])
def test_where_nothing_more_can_be_written_nothing_is_left(series: Series, tmp_path: Path, kind: str) -> None:
    assert hasattr(resource, "RLIMIT_FSIZE")
    assert hasattr(signal, "SIGXFSZ")
    (tmp_path / "out").mkdir()
    target = tmp_path / "out" / "object.dcm"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(series.folder), str(target), kind], capture_output=True, text=True
    )
    assert done.stdout.startswith("OSError"), done.stdout + done.stderr
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.long
def test_five_thousand_slices(tmp_path: Path, axial: Affine) -> None:
    shape = (5000, 16, 16)
    array = np.random.default_rng(0).normal(0, 40, shape).round().astype(np.int16)
    series = write_series(tmp_path / "ct", Volume(array, axial), patient_id="p", uid_seed="long")
    assert find_planning_ct(tmp_path / "ct").why == "the only CT series in the folder"
    masks = block(series)
    rtstruct = write_rtstruct(tmp_path / "rs.dcm", masks, series)
    write_seg(tmp_path / "seg.dcm", masks, series)
    assert len(rtstruct.roi("bladder").contours) == 5000
    assert dcmread(tmp_path / "seg.dcm", stop_before_pixels=True).NumberOfFrames == 5000


def block(series: Series) -> MaskStack:
    mask = np.zeros((1, *series.volume.shape), bool)
    mask[0, :, 3:9, 4:11] = True
    return MaskStack(mask, series.volume.affine, ("bladder",))
