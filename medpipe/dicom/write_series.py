"""A volume as a CT series: one file a slice, for phantoms and tests, with identifiers from a seed."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medpipe.dicom.series import Series, read_series
from medpipe.dicom.writing import RESEARCH_USE, add_maker, decimals, save, seeded_uid
from medpipe.geometry.volume import Volume
from medpipe.geometry.world import flip_points

if TYPE_CHECKING:
    from pydicom import Dataset

# How the patient lay, by the letters along which columns (w) and rows (h) grow. Others are left empty, as is allowed.
_PATIENT_POSITIONS = {("L", "P"): "HFS", ("R", "A"): "HFP", ("R", "P"): "FFS", ("L", "A"): "FFP"}


def write_series(
    folder: Path | str,
    volume: Volume,
    *,
    patient_id: str,
    uid_seed: str,
    patient_name: str = "",
    study_date: str = "",
    description: str = "generated CT",
) -> Series:
    """Write `volume` slice by slice (along d) into a new or empty folder, and read the series back.

    HU are rounded to integers and stored with slope 1 and intercept 0; beyond int16 they are refused. The same
    arguments give the same bytes: all UIDs derive from `uid_seed`. A series is read in the order of its normal, the
    cross product of the directions of w and h, so the slices of a grid in which d runs against it come back reversed.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: a series is written into a new or empty folder")
    stored = _stored_values(volume.array)
    common = _series_attributes(volume, uid_seed, description)
    common.update({"PatientID": patient_id, "PatientName": patient_name, "StudyDate": study_date})
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        for d in range(volume.shape[0]):
            save(_image(volume, stored[d], d, common, uid_seed), partial / f"{d:04d}.dcm")
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return read_series(folder)


def _stored_values(array: NDArray) -> NDArray[np.int16]:
    rounded = np.rint(array)
    limits = np.iinfo(np.int16)
    if not np.isfinite(rounded).all() or rounded.min() < limits.min or rounded.max() > limits.max:
        raise ValueError(
            f"HU from {array.min()} to {array.max()} do not fit into a CT image: {limits.min} to {limits.max}"
        )
    return rounded.astype("<i2")


def _series_attributes(volume: Volume, uid_seed: str, description: str) -> dict[str, object]:
    """Attributes that all slices share, by keyword."""
    directions = flip_points(volume.grid.direction.T)  # (3 axes d h w, 3 LPS)
    return {
        "SpecificCharacterSet": "ISO_IR 192",
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
        "ImageType": ["DERIVED", "SECONDARY", "AXIAL"],
        "Modality": "CT",
        "StudyTime": "",
        "AccessionNumber": "",
        "ReferringPhysicianName": "",
        "PatientBirthDate": "",
        "PatientSex": "",
        "StudyID": "1",
        "SeriesNumber": 1,
        "AcquisitionNumber": None,
        "KVP": None,
        "SeriesDescription": f"{description}, {RESEARCH_USE}"[:64],
        "PatientPosition": _PATIENT_POSITIONS.get((_letter(directions[2]), _letter(directions[1])), ""),
        "PositionReferenceIndicator": "",
        "StudyInstanceUID": seeded_uid(uid_seed, "study"),
        "SeriesInstanceUID": seeded_uid(uid_seed, "series"),
        "FrameOfReferenceUID": seeded_uid(uid_seed, "frame of reference"),
        "ImageOrientationPatient": decimals([*directions[2], *directions[1]]),
        "PixelSpacing": decimals([volume.spacing_mm[1], volume.spacing_mm[2]]),
        "SliceThickness": decimals([volume.spacing_mm[0]])[0],
        "Rows": volume.shape[1],
        "Columns": volume.shape[2],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 1,
        "RescaleSlope": "1",
        "RescaleIntercept": "0",
        "RescaleType": "HU",
    }


def _image(volume: Volume, pixels: NDArray[np.int16], d: int, common: dict[str, object], uid_seed: str) -> "Dataset":
    from pydicom import Dataset

    dataset = Dataset()
    for keyword, value in common.items():
        setattr(dataset, keyword, value)
    add_maker(dataset)
    dataset.SOPInstanceUID = seeded_uid(uid_seed, "image", str(d))
    dataset.InstanceNumber = d + 1
    position = volume.grid.index_to_world(np.array([[d, 0, 0]]))[0]
    dataset.ImagePositionPatient = decimals(flip_points(position))
    dataset.add_new(0x7FE00010, "OW", pixels.tobytes())
    return dataset


def _letter(direction_lps: NDArray[np.float64]) -> str:
    """The nearest of L R P A H F."""
    axis = int(np.argmax(np.abs(direction_lps)))
    return ("LR", "PA", "HF")[axis][int(direction_lps[axis] < 0)]
