import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import dcmread

from medpipe.dicom.series import Series, find_series, read_series
from medpipe.dicom.write_series import write_series
from medpipe.geometry.faults import DataFault
from medpipe.geometry.hounsfield import hu_fault
from medpipe.geometry.orientation import to_canonical
from medpipe.geometry.volume import Affine, Volume

Edit = Callable[..., None]


def files(series: Series) -> list[Path]:
    return sorted(series.folder.iterdir())


def shift(path: Path, edit: Edit, offset_mm: tuple[float, float, float]) -> None:
    position = np.asarray(dcmread(path).ImagePositionPatient, float) + offset_mm
    edit(path, ImagePositionPatient=[f"{value:.6f}" for value in position])


def set_padding(path: Path, value: int) -> None:
    dataset = dcmread(path)
    dataset.add_new("PixelPaddingValue", "SS", value)
    dataset.save_as(path)


def test_files_in_any_order_and_numbering_are_sorted_by_place(series: Series, edit: Edit, tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(7)
    (tmp_path / "shuffled").mkdir()
    for new, old in enumerate(order):
        path = tmp_path / "shuffled" / f"{new}.dcm"
        shutil.copy(files(series)[old], path)
        edit(path, InstanceNumber=int(new))
    again = read_series(tmp_path / "shuffled")
    np.testing.assert_array_equal(again.volume.array, series.volume.array)
    np.testing.assert_array_equal(again.volume.affine, series.volume.affine)
    assert again.sop_uids == series.sop_uids


def test_values_and_places_survive_on_every_kind_of_grid(affine: Affine, make_volume, tmp_path: Path) -> None:
    volume = make_volume(affine)
    series = write_series(tmp_path / "ct", volume, patient_id="p", uid_seed="s")
    np.testing.assert_array_equal(series.volume.array, volume.array)
    np.testing.assert_allclose(series.volume.affine, affine, atol=1e-8)  # ten decimals are written


def test_a_grid_whose_slices_run_against_the_normal_comes_back_reversed_in_the_same_place(
    axial: Affine, make_volume, tmp_path: Path
) -> None:
    against = axial.copy()
    against[:, 0] *= -1
    volume = make_volume(against)
    read = write_series(tmp_path / "ct", volume, patient_id="p", uid_seed="s").volume
    np.testing.assert_array_equal(read.array, volume.array[::-1])
    np.testing.assert_array_equal(to_canonical(read).array, to_canonical(volume).array)
    np.testing.assert_allclose(to_canonical(read).affine, to_canonical(volume).affine, atol=1e-8)


def test_slices_run_along_the_normal_so_up_the_body_head_first_and_down_it_feet_first(
    axial: Affine, make_volume, tmp_path: Path
) -> None:
    for name, row, expected in (("head", 1, 1), ("feet", -1, -1)):
        affine = axial.copy()
        affine[:3, 2] *= row
        affine[:3, 0] *= row  # rows to the right and columns to the back: the normal points to the feet
        volume = write_series(tmp_path / name, make_volume(affine), patient_id="p", uid_seed=name).volume
        assert volume.grid.direction[2, 0] == expected


def test_the_oblique_series_is_read_whole(real_data: Path) -> None:
    notes: list[str] = []
    series = read_series(real_data / "dicom_oblique" / "oriented_data", notes=notes)
    assert series.volume.shape == (3, 50, 100)
    # Rows 3.5 mm apart, columns 2.5 mm; 4.5 mm is the length of the step between the files' positions.
    np.testing.assert_allclose(series.volume.spacing_mm, (4.5, 3.5, 2.5), atol=1e-6)
    assert any("StudyInstanceUID" in note for note in notes)  # each file has a study of its own


def test_rescale_is_applied_once_and_slice_by_slice(series: Series, edit: Edit) -> None:
    for number, path in enumerate(files(series)):
        stored = dcmread(path).pixel_array
        edit(path, RescaleSlope=str(1 + number), RescaleIntercept="-1024",
             PixelData=((stored + 1000) // (1 + number)).astype("<i2").tobytes())  # fmt: skip
    again = read_series(series.folder).volume.array
    for number, hu in enumerate(again):
        expected = (series.volume.array[number].astype(int) + 1000) // (1 + number) * (1 + number) - 1024
        np.testing.assert_array_equal(hu, expected)


@pytest.mark.parametrize("bits_stored", [12, 16])
def test_unsigned_and_signed_twelve_bit_pixels_are_read_with_their_sign(
    series: Series, edit: Edit, bits_stored: int
) -> None:
    path = files(series)[0]
    stored = np.clip(dcmread(path).pixel_array, -2048, 2047)
    # Sign bits above the stored ones are not set, as the standard allows.
    signed = (stored.astype(np.int64) & (2**bits_stored - 1)).astype("<u2")
    edit(path, BitsStored=bits_stored, HighBit=bits_stored - 1, PixelData=signed.tobytes())
    np.testing.assert_array_equal(read_series(series.folder).volume.array[0], stored)
    edit(path, BitsStored=16, HighBit=15, PixelRepresentation=0, RescaleIntercept="-3000",
         PixelData=(stored + 3000).astype("<u2").tobytes())  # fmt: skip
    np.testing.assert_array_equal(read_series(series.folder).volume.array[0], stored)


def test_padding_becomes_air_and_a_padding_value_that_means_tissue_is_not_believed(series: Series, edit: Edit) -> None:
    path = files(series)[2]
    stored = dcmread(path).pixel_array.copy()
    stored[5:8, 5:8], stored[10, 10] = -2000, 0
    edit(path, PixelData=stored.astype("<i2").tobytes())
    set_padding(path, -2000)
    notes: list[str] = []
    hu = read_series(series.folder, notes=notes).volume.array[2]
    assert (hu[5:8, 5:8] == -1024).all()
    assert any("9 padding pixels" in note for note in notes)
    set_padding(path, 0)
    notes.clear()
    hu = read_series(series.folder, notes=notes).volume.array[2]
    assert hu[10, 10] == 0
    assert any("which is tissue" in note for note in notes)


def test_a_missing_slice_is_refused_with_the_gap(series: Series) -> None:
    files(series)[3].unlink()
    with pytest.raises(DataFault, match=r"0004\.dcm: lies 6\.000 mm after 0002\.dcm.*3\.000 mm.*1 missing"):
        read_series(series.folder)


def test_a_duplicate_slice_is_refused_by_both_names(series: Series) -> None:
    shutil.copy(files(series)[3], series.folder / "copy.dcm")
    with pytest.raises(DataFault, match=r"copy\.dcm: lies at the same place as 0003\.dcm"):
        read_series(series.folder)


@pytest.mark.parametrize(("offset_mm", "is_refused"), [(0.02, False), (0.04, True)])
def test_spacing_may_be_uneven_by_one_percent(series: Series, edit: Edit, offset_mm: float, is_refused: bool) -> None:
    shift(files(series)[-1], edit, (0, 0, offset_mm))  # 0.7 % and 1.3 % of 3 mm
    if is_refused:
        with pytest.raises(DataFault, match="1 % is allowed"):
            read_series(series.folder)
    else:
        read_series(series.folder)


def test_a_tilted_gantry_is_refused_in_degrees(series: Series, edit: Edit) -> None:
    for number, path in enumerate(files(series)):
        shift(path, edit, (0, number * 3.0 * np.tan(np.radians(10)), 0))
    with pytest.raises(DataFault, match=r"10\.0 degrees.*gantry"):
        read_series(series.folder)


def test_mixed_orientation_size_and_spacing_are_refused_by_name(series: Series, edit: Edit) -> None:
    path = files(series)[4]
    original = path.read_bytes()
    edit(path, ImageOrientationPatient=["0.999", "0.0447", "0", "-0.0447", "0.999", "0"])
    with pytest.raises(DataFault, match=r"0004\.dcm: is oriented otherwise than 0000\.dcm"):
        read_series(series.folder)
    path.write_bytes(original)
    edit(path, PixelSpacing=["0.8", "1.1"])
    with pytest.raises(DataFault, match=r"0004\.dcm: has pixel spacing"):
        read_series(series.folder)
    path.write_bytes(original)
    stored = dcmread(path).pixel_array[:, :-1]
    edit(path, Columns=30, PixelData=stored.astype("<i2").tobytes())
    with pytest.raises(DataFault, match=r"0004\.dcm: has \(24, 30\) rows and columns"):
        read_series(series.folder)


def test_slices_of_two_frames_of_reference_are_refused(series: Series, edit: Edit) -> None:
    edit(files(series)[4], FrameOfReferenceUID="1.2.3")
    with pytest.raises(DataFault, match=r"0004\.dcm: FrameOfReferenceUID is 1\.2\.3"):
        read_series(series.folder)


def test_sheared_direction_cosines_are_refused(series: Series, edit: Edit) -> None:
    for path in files(series):
        edit(path, ImageOrientationPatient=["1", "0", "0", "0.01", "0.99995", "0"])
    with pytest.raises(DataFault, match="sheared"):
        read_series(series.folder)


def test_several_series_need_a_choice_and_are_listed(
    series: Series, axial: Affine, make_volume, tmp_path: Path
) -> None:
    other = write_series(tmp_path / "other", make_volume(axial, seed=5), patient_id="p", uid_seed="other")
    shutil.copytree(other.folder, series.folder / "second series")
    with pytest.raises(DataFault, match=rf"2 CT series.*{series.series_uid} \(7 slices"):
        read_series(series.folder)
    assert {one.series_uid for one in find_series(series.folder)} == {series.series_uid, other.series_uid}
    chosen = read_series(series.folder, series_uid=other.series_uid)
    np.testing.assert_array_equal(chosen.volume.array, other.volume.array)
    with pytest.raises(DataFault, match=r"no CT series 1\.2\.3; it holds"):
        read_series(series.folder, series_uid="1.2.3")


def test_localizers_other_modalities_and_other_files_are_passed_over(series: Series, edit: Edit) -> None:
    for name, attributes in {
        "scout.dcm": {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
        "pet": {"Modality": "PT"},
    }.items():
        shutil.copy(files(series)[0], series.folder / name)
        edit(series.folder / name, **attributes)
    (series.folder / "notes.txt").write_text("a note that lies beside the slices, longer than a header" * 5)
    notes: list[str] = []
    assert read_series(series.folder, notes=notes).volume.shape == series.volume.shape
    assert any("scout.dcm: a localizer" in note for note in notes)
    assert any("notes.txt: not DICOM" in note for note in notes)


def test_bare_datasets_without_the_header_of_a_file_are_read(series: Series) -> None:
    for path in files(series):
        content = path.read_bytes()
        assert content[128:132] == b"DICM"
        # Preamble, prefix and group 0002, whose first element states the length of what follows it.
        path.write_bytes(content[144 + int.from_bytes(content[140:144], "little") :])
        path.rename(path.with_suffix(""))
    np.testing.assert_array_equal(read_series(series.folder).volume.array, series.volume.array)


@pytest.mark.parametrize("kept", [0, 60, 200, 500, 900, -300, -1])
def test_a_truncated_slice_is_refused_by_name_wherever_it_was_cut(series: Series, kept: int) -> None:
    path = files(series)[-1]
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataFault, match=r"0006\.dcm: "):
        read_series(series.folder)


def test_one_slice_is_accepted_with_its_thickness_and_refused_without(
    real_data: Path, series: Series, edit: Edit
) -> None:
    notes: list[str] = []
    single = read_series([files(series)[0]], notes=notes)
    assert single.volume.shape == (1, 24, 31)
    assert single.volume.spacing_mm[0] == pytest.approx(3.0)
    assert any("series of one slice" in note for note in notes)
    with pytest.raises(DataFault, match="without SliceThickness"):
        read_series(real_data / "dicom_oblique" / "one_slice_data")


@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows"])
def test_a_slice_without_a_place_is_refused_by_the_missing_attribute(series: Series, edit: Edit, keyword: str) -> None:
    edit(files(series)[1], **{keyword: None})
    with pytest.raises(DataFault, match=rf"0001\.dcm: lacks {keyword}"):
        read_series(series.folder)


def test_words_where_numbers_belong_are_refused_and_in_dates_survived(series: Series) -> None:
    for path in files(series):
        content = path.read_bytes()
        # A DA element holding seven letters, as some anonymisers leave it (implicit little endian, group 0010,0030).
        tag = b"\x10\x00\x30\x00"
        assert tag + b"\x00\x00\x00\x00" in content
        path.write_bytes(content.replace(tag + b"\x00\x00\x00\x00", tag + b"\x08\x00\x00\x00UNKNOWN "))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_series(series.folder).study["PatientBirthDate"] == "UNKNOWN"
    path = files(series)[0]
    content = path.read_bytes()
    at = content.index(b"\x28\x00\x53\x10")  # RescaleSlope "1 "
    assert content[at + 8 : at + 10] == b"1 "
    path.write_bytes(content[: at + 8] + b"UN" + content[at + 10 :])
    with pytest.raises(DataFault, match=r"0000\.dcm: RescaleSlope is not a number"):
        read_series(series.folder)


def test_reading_leaves_pydicoms_settings_as_they_were(series: Series) -> None:
    before = (pydicom.config.settings.reading_validation_mode, pydicom.config.settings.writing_validation_mode)
    read_series(series.folder)
    after = (pydicom.config.settings.reading_validation_mode, pydicom.config.settings.writing_validation_mode)
    assert after == before


def test_a_folder_without_ct_and_no_folder_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataFault, match="no CT series"):
        read_series(tmp_path)
    with pytest.raises(DataFault, match="no such folder"):
        read_series(tmp_path / "nowhere")


def test_names_with_blanks_and_umlauts_and_a_read_only_folder_are_read(series: Series, tmp_path: Path) -> None:
    folder = tmp_path / "Größe und Ø" / "série 1"
    shutil.copytree(series.folder, folder)
    folder.chmod(0o555)
    try:
        np.testing.assert_array_equal(read_series(folder).volume.array, series.volume.array)
        assert len(list(folder.iterdir())) == 7
    finally:
        folder.chmod(0o755)


def test_a_real_series_whose_rescale_is_forgotten_or_applied_twice_is_found_out(real_data: Path) -> None:
    for patient in ("STS_002", "STS_003", "STS_008", "STS_025"):
        volume = read_series(real_data / "ct_sarcoma" / "dicom" / patient).volume
        assert hu_fault(volume) is None
        assert "never applied" in str(hu_fault(Volume(volume.array + 1024, volume.affine)))
        assert "twice" in str(hu_fault(Volume(volume.array - 1024, volume.affine)))
