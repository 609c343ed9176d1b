"""Slices of a CT series in the order of their place, and the affine they share; anything but one even stack is refused.

Order is by position projected on the slices' normal, never by instance number or by z. All vectors here are LPS.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medpipe.dicom.reading import numbers, text
from medpipe.geometry.faults import DataFault
from medpipe.geometry.rigid import rigid_affine
from medpipe.geometry.volume import Affine
from medpipe.geometry.world import affine_from_dicom

if TYPE_CHECKING:
    from pydicom import Dataset

UNEVEN = 0.01  # share by which a step between slices may differ from the median step
_SAME_COSINE = 1e-4  # of a direction cosine, between slices of one series
_DRIFT = 0.1  # pixels that slices may be shifted against each other in their plane

KEYWORDS = (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "Modality",
    "ImageType", "SeriesDescription", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows",
    "Columns", "SliceThickness", "NumberOfFrames",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Slice:
    """Where one image lies: LPS mm, spacing (between rows, between columns)."""

    path: Path
    sop_uid: str
    position: NDArray[np.float64]
    row_direction: NDArray[np.float64]
    column_direction: NDArray[np.float64]
    spacing_mm: tuple[float, float]
    shape: tuple[int, int]
    thickness_mm: float | None


def slice_of(dataset: "Dataset", path: Path) -> Slice:
    if text(dataset, "NumberOfFrames") not in ("", "1"):
        raise DataFault(path, "a multi-frame (enhanced) CT; export it as one file a slice")
    orientation = numbers(dataset, "ImageOrientationPatient", 6, path)
    row, column = orientation[:3], orientation[3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if min(lengths) < 0.9 or max(lengths) > 1.1:
        raise DataFault(path, f"ImageOrientationPatient holds no unit vectors: {orientation.tolist()}")
    between_rows, between_columns = numbers(dataset, "PixelSpacing", 2, path)
    if min(between_rows, between_columns) <= 0:
        raise DataFault(path, f"PixelSpacing is {between_rows} x {between_columns} mm")
    thickness = float(numbers(dataset, "SliceThickness", 1, path)[0]) if text(dataset, "SliceThickness") else None
    return Slice(
        path=path,
        sop_uid=text(dataset, "SOPInstanceUID"),
        position=numbers(dataset, "ImagePositionPatient", 3, path),
        row_direction=row / lengths[0],
        column_direction=column / lengths[1],
        spacing_mm=(float(between_rows), float(between_columns)),
        shape=(int(numbers(dataset, "Rows", 1, path)[0]), int(numbers(dataset, "Columns", 1, path)[0])),
        thickness_mm=thickness,
    )


def stack(slices: list[Slice], folder: Path, notes: list[str]) -> tuple[list[Slice], Affine]:
    """Slices sorted along their normal (the cross product of row and column direction), and their affine in RAS.

    Refused: other size, spacing or orientation than the first, a gantry tilt, two slices at one place, steps more than
    1 % off the median. One slice alone is accepted where it states its thickness, which then stands for the spacing.
    """
    _check_alike(slices)
    first = slices[0]
    normal = np.cross(first.row_direction, first.column_direction)
    normal /= np.linalg.norm(normal)
    ordered = sorted(slices, key=lambda s: (float(s.position @ normal), s.path))
    places = np.asarray([s.position @ normal for s in ordered])
    step = _single_step(ordered[0], notes) if len(ordered) == 1 else _even_step(ordered, places)
    _check_no_tilt(ordered, places, normal, folder)
    affine = affine_from_dicom(
        first.row_direction, first.column_direction, (step, *first.spacing_mm), ordered[0].position
    )
    try:
        return ordered, rigid_affine(affine, notes)
    except ValueError as error:
        raise DataFault(folder, str(error)) from error


def _check_alike(slices: list[Slice]) -> None:
    first = slices[0]
    for other in slices[1:]:
        if other.shape != first.shape:
            raise DataFault(other.path, f"has {other.shape} rows and columns, {first.path.name} has {first.shape}")
        if not np.allclose(other.spacing_mm, first.spacing_mm, rtol=1e-4, atol=0):
            raise DataFault(
                other.path, f"has pixel spacing {other.spacing_mm} mm, {first.path.name} has {first.spacing_mm} mm"
            )
        turned = np.abs(
            [other.row_direction - first.row_direction, other.column_direction - first.column_direction]
        ).max()
        if turned > _SAME_COSINE:
            raise DataFault(
                other.path, f"is oriented otherwise than {first.path.name} (cosines differ by {turned:.2g}); "
                "one series holds one orientation, is a localizer among it?",
            )  # fmt: skip


def _single_step(only: Slice, notes: list[str]) -> float:
    if only.thickness_mm is None or only.thickness_mm <= 0:
        raise DataFault(only.path, "the only slice of its series, and without SliceThickness: its depth is unknown")
    notes.append(f"{only.path.name}: a series of one slice, its thickness {only.thickness_mm:g} mm taken as spacing")
    return only.thickness_mm


def _even_step(ordered: list[Slice], places: NDArray[np.float64]) -> float:
    steps = np.diff(places)
    median = float(np.median(steps))
    # Places are printed to a hundredth of a millimetre or better, so less than that is one and the same place.
    for index in np.flatnonzero(steps < max(UNEVEN * median, 0.005)):
        a, b = ordered[index].path, ordered[index + 1].path
        raise DataFault(b, f"lies at the same place as {a.name}: a duplicate, or two acquisitions in one series")
    uneven = np.flatnonzero(np.abs(steps / median - 1) > UNEVEN)
    if len(uneven):
        index = int(uneven[np.argmax(steps[uneven])])
        a, b = ordered[index].path, ordered[index + 1].path
        missing = round(steps[index] / median) - 1
        guess = f"; {missing} missing in between?" if missing else ""
        raise DataFault(
            b, f"lies {steps[index]:.3f} mm after {a.name}, the median step is {median:.3f} mm (1 % is allowed){guess}"
        )
    return float((places[-1] - places[0]) / (len(places) - 1))


def _check_no_tilt(
    ordered: list[Slice], places: NDArray[np.float64], normal: NDArray[np.float64], folder: Path
) -> None:
    """A tilted gantry shifts each slice within its own plane: the stack is sheared and no grid of ours fits it."""
    offsets = np.asarray([s.position - ordered[0].position for s in ordered])
    drift = np.linalg.norm(offsets - np.outer(places - places[0], normal), axis=1)
    worst = int(np.argmax(drift))
    if drift[worst] > _DRIFT * min(ordered[0].spacing_mm):
        degrees = np.degrees(np.arctan2(drift[worst], abs(places[worst] - places[0])))
        raise DataFault(
            folder, f"{ordered[worst].path.name} is shifted by {drift[worst]:.2f} mm within its plane against the "
            f"first slice ({degrees:.1f} degrees): a tilted gantry; resample the series to perpendicular slices first",
        )  # fmt: skip
