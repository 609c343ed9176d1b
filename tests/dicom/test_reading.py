import warnings
from pathlib import Path

import pytest
from pydicom import Dataset

from medpipe.dicom.reading import dicom_files, is_meant_as_dicom, lenient, numbers, read_dataset, text
from medpipe.geometry.faults import DataFault


def test_numbers_of_the_wrong_count_or_kind_are_refused_by_attribute() -> None:
    dataset = Dataset()
    dataset.PixelSpacing = ["0.7", "1.1"]
    assert numbers(dataset, "PixelSpacing", 2, Path("a.dcm")).tolist() == [0.7, 1.1]
    with pytest.raises(DataFault, match=r"a\.dcm: PixelSpacing holds .* 3 finite numbers"):
        numbers(dataset, "PixelSpacing", 3, Path("a.dcm"))
    with pytest.raises(DataFault, match="lacks SliceThickness"):
        numbers(dataset, "SliceThickness", 1, Path("a.dcm"))


def test_text_of_a_missing_attribute_is_empty() -> None:
    assert text(Dataset(), "PatientID") == ""


def test_no_warning_is_raised_for_invalid_dates_and_others_are_as_before() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with lenient():
            dataset = Dataset()
            dataset.PatientBirthDate = "UNKNOWN"
    with pytest.warns(UserWarning, match="still heard"):
        warnings.warn("still heard", UserWarning, stacklevel=1)


def test_a_text_file_is_no_dicom_and_a_folder_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "readme"
    path.write_text("some text " * 50)
    assert not is_meant_as_dicom(path)
    with pytest.raises(DataFault, match="readme: not a whole DICOM file"):
        read_dataset(path, with_pixels=False)
    with pytest.raises(DataFault, match=r"gone\.dcm: cannot be read: No such file"):
        read_dataset(tmp_path / "gone.dcm", with_pixels=False)


def test_hidden_files_and_the_index_are_not_listed(tmp_path: Path) -> None:
    for name in (".DS_Store", "DICOMDIR", "b.dcm", "a"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in dicom_files(tmp_path)] == ["a", "b.dcm"]
