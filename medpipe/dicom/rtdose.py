"""An RTDOSE as a dose grid in Gy, with what links it to a CT and a structure set."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medpipe.dicom.reading import faults_by_name, lenient, numbers, read_dataset, text
from medpipe.dicom.slices import UNEVEN
from medpipe.geometry.dose import Dose, checked_dose
from medpipe.geometry.faults import DataFault
from medpipe.geometry.rigid import rigid_affine
from medpipe.geometry.volume import Affine
from medpipe.geometry.world import affine_from_dicom

if TYPE_CHECKING:
    from pydicom import Dataset

_SAME_MM = 0.01  # positions are printed to a hundredth of a millimetre or better
_ALONG_Z = 1e-3  # of a direction cosine: absolute frame offsets exist for transverse grids alone


@dataclass(frozen=True, eq=False)
class RtDose:
    """A dose grid; d grows along the frames' normal. Identifiers are "" where the file names none."""

    dose: Dose
    path: Path
    frame_of_reference_uid: str
    sop_uid: str
    summation_type: str  # PLAN, FRACTION, BRACHY, ...
    dose_type: str
    patient_id: str


@faults_by_name
def read_rtdose(path: Path | str, *, notes: list[str] | None = None) -> RtDose:
    """The dose as float64 Gy: stored numbers times DoseGridScaling.

    Frames are placed by GridFrameOffsetVector, relative or absolute, rising or falling, along the normal of the grid
    (DICOM PS3.3 C.8.8.3). Refused with DataFault: another unit than GY, an effective (already weighted) dose, one
    frame, uneven frames, sheared axes, negative numbers.
    """
    path = Path(path)
    dataset = read_dataset(path, with_pixels=True)
    if text(dataset, "Modality") != "RTDOSE":
        raise DataFault(path, f"holds {text(dataset, 'Modality') or 'no modality'}, an RTDOSE is expected")
    found: list[str] = []
    _check_kind(dataset, path, found)
    scaling = float(numbers(dataset, "DoseGridScaling", 1, path)[0])
    if scaling <= 0:
        raise DataFault(path, f"DoseGridScaling is {scaling:g}, a number above 0 is expected")
    gy = _frames(dataset, path) * scaling
    order, affine = _place(dataset, path, len(gy), found)
    if notes is not None:
        notes.extend(f"{path.name}: {sentence}" for sentence in found)
    return RtDose(
        dose=checked_dose(path, np.ascontiguousarray(gy[order]), affine, notes),
        path=path,
        frame_of_reference_uid=text(dataset, "FrameOfReferenceUID"),
        sop_uid=text(dataset, "SOPInstanceUID"),
        summation_type=text(dataset, "DoseSummationType"),
        dose_type=text(dataset, "DoseType"),
        patient_id=text(dataset, "PatientID"),
    )


def _check_kind(dataset: "Dataset", path: Path, notes: list[str]) -> None:
    units = text(dataset, "DoseUnits").upper()
    if units != "GY":
        raise DataFault(
            path, f"DoseUnits is {units or 'missing'}, GY is expected: a relative dose says nothing without its "
            "reference; export the dose in Gy",
        )  # fmt: skip
    kind = text(dataset, "DoseType").upper()
    if kind not in ("PHYSICAL", ""):
        raise DataFault(path, f"DoseType is {kind}, PHYSICAL is expected: EQD2 is computed from the physical dose")
    if not kind:
        notes.append("no DoseType, taken as PHYSICAL")
    summation = text(dataset, "DoseSummationType").upper()
    if summation in ("PLAN", "MULTI_PLAN", "PLAN_OVERVIEW"):
        notes.append(
            f"DoseSummationType is {summation}: the grid holds the sum of all fractions of its plan; if those are "
            "several, say so (dose_of: all_fractions)"
        )
    elif summation:
        notes.append(f"DoseSummationType is {summation}")


def _frames(dataset: "Dataset", path: Path) -> NDArray[np.float64]:
    """Stored numbers (F, H, W)."""
    try:
        with lenient():
            pixels = dataset.pixel_array
    except (AttributeError, ValueError, RuntimeError, NotImplementedError, KeyError, OSError) as error:
        raise DataFault(path, f"its dose cannot be read (truncated, or compressed?): {error}") from error
    if pixels.ndim != 3 or len(pixels) < 2:
        raise DataFault(path, f"holds an array {pixels.shape}, two or more planes of dose are expected")
    return pixels.astype(np.float64)


def _place(dataset: "Dataset", path: Path, num_frames: int, notes: list[str]) -> tuple[slice, Affine]:
    """The order of frames along the normal, and the affine of that order."""
    orientation = numbers(dataset, "ImageOrientationPatient", 6, path)
    row, column = orientation[:3], orientation[3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if min(lengths) < 0.9 or max(lengths) > 1.1:
        raise DataFault(path, f"ImageOrientationPatient holds no unit vectors: {orientation.tolist()}")
    row, column = row / lengths[0], column / lengths[1]
    normal = np.cross(row, column)
    position = numbers(dataset, "ImagePositionPatient", 3, path)
    between_rows, between_columns = numbers(dataset, "PixelSpacing", 2, path)
    if min(between_rows, between_columns) <= 0:
        raise DataFault(path, f"PixelSpacing is {between_rows} x {between_columns} mm")
    offsets = _relative_offsets(dataset, path, num_frames, normal, position)
    step = (offsets[-1] - offsets[0]) / (num_frames - 1)
    if step == 0 or np.abs(np.diff(offsets) / step - 1).max() > UNEVEN:
        steps = np.diff(offsets)
        raise DataFault(
            path, f"GridFrameOffsetVector is uneven: steps from {steps.min():g} to {steps.max():g} mm; export the dose "
            "on an even grid",
        )  # fmt: skip
    is_falling = step < 0
    first = position + (offsets[-1] if is_falling else offsets[0]) * normal
    spacing = (float(abs(step)), float(between_rows), float(between_columns))
    try:
        affine = rigid_affine(affine_from_dicom(row, column, spacing, first), notes)
    except ValueError as error:
        raise DataFault(path, str(error)) from error
    return slice(None, None, -1 if is_falling else 1), affine


def _relative_offsets(
    dataset: "Dataset", path: Path, num_frames: int, normal: NDArray[np.float64], position: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Offsets of the frames along the normal, the first at ImagePositionPatient."""
    offsets = numbers(dataset, "GridFrameOffsetVector", num_frames, path)
    if abs(offsets[0]) <= _SAME_MM:
        return offsets
    # The other form gives each frame's z in the patient, and only a grid of transverse frames can have it.
    is_transverse = abs(abs(normal[2]) - 1) <= _ALONG_Z
    if not is_transverse or abs(offsets[0] - position[2]) > _SAME_MM:
        raise DataFault(
            path, f"GridFrameOffsetVector begins with {offsets[0]:g}, 0 (offsets along the normal) or the z of "
            f"ImagePositionPatient, {position[2]:g} (z of transverse frames), is expected",
        )  # fmt: skip
    return (offsets - offsets[0]) * np.sign(normal[2])
