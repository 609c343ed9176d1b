"""An RTSTRUCT's regions of interest, read as clinics export them: invalid dates, empty regions and all.

`planes.roi_mask` turns a region into a mask, `linking.check_linked` says whether it belongs to a CT series.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medpipe.dicom.reading import faults_by_name, read_dataset, text
from medpipe.geometry.faults import DataFault
from medpipe.geometry.world import flip_points

if TYPE_CHECKING:
    from pydicom import Dataset

CLOSED_TYPES = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


@dataclass(frozen=True, eq=False)
class Contour:
    """One closed polygon: `points_mm` (N, 3) RAS; `image_uid` of the slice it names, "" if it names none."""

    points_mm: NDArray[np.float64]
    image_uid: str = ""


@dataclass(frozen=True, eq=False)
class Roi:
    """A region of interest; `skipped` counts its contours that are not closed polygons, by kind."""

    path: Path
    number: int
    name: str
    contours: tuple[Contour, ...]
    skipped: dict[str, int]
    frame_of_reference_uid: str
    interpreted_type: str


@dataclass(frozen=True, eq=False)
class RtStruct:
    path: Path
    rois: tuple[Roi, ...]
    frame_of_reference_uids: tuple[str, ...]
    series_uids: tuple[str, ...]  # of the images it refers to
    study_uid: str
    sop_uid: str
    label: str
    patient_id: str
    approval_status: str

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(roi.name for roi in self.rois)

    def roi(self, name: str) -> Roi:
        """The region of that name; of several, the only one with contours. DataFault if none or more."""
        named = [roi for roi in self.rois if roi.name == name]
        if len(named) > 1:
            drawn = [roi for roi in named if roi.contours]
            if len(drawn) != 1:
                numbers = ", ".join(f"{roi.number} ({len(roi.contours)} contours)" for roi in named)
                raise DataFault(self.path, f"{len(named)} regions of interest are named {name!r}: numbers {numbers}")
            return drawn[0]
        if not named:
            raise DataFault(self.path, f"no region of interest {name!r}; there are {', '.join(self.names) or 'none'}")
        return named[0]


def is_rtstruct(path: Path) -> bool:
    """Whether a file is a structure set, by its header alone; False for anything unreadable."""
    try:
        return text(read_dataset(path, with_pixels=False, keywords=("Modality", *_IDENTITY)), "Modality") == "RTSTRUCT"
    except DataFault:
        return False


@faults_by_name
def read_rtstruct(path: Path | str, *, notes: list[str] | None = None) -> RtStruct:
    """All regions of interest of an RTSTRUCT.

    Points, open lines and polygons of fewer than three points are skipped, and a polygon that its region repeats on the
    same place is taken once (by the even-odd rule it would cancel itself): each with a note.
    """
    path = Path(path)
    dataset = read_dataset(path, with_pixels=False)
    if text(dataset, "Modality") != "RTSTRUCT":
        raise DataFault(path, f"holds {text(dataset, 'Modality') or 'no modality'}, an RTSTRUCT is expected")
    found: list[str] = []
    contours = _contour_items(dataset, path, found)
    types = {
        _number(item, "ReferencedROINumber", path): text(item, "RTROIInterpretedType")
        for item in _items(dataset, "RTROIObservationsSequence")
    }
    rois = []
    for item in _items(dataset, "StructureSetROISequence"):
        number = _number(item, "ROINumber", path)
        if any(roi.number == number for roi in rois):
            raise DataFault(path, f"two regions of interest have the number {number}")
        frame = text(item, "ReferencedFrameOfReferenceUID")
        name = text(item, "ROIName")
        rois.append(_roi(path, number, name, contours.pop(number, []), frame, types.get(number, ""), found))
    if contours:
        found.append(f"contours of the regions {sorted(contours)}, which have no name, passed over")
    if notes is not None:
        notes.extend(f"{path.name}: {sentence}" for sentence in found)
    frames, series = _references(dataset)
    return RtStruct(
        path=path,
        rois=tuple(rois),
        frame_of_reference_uids=frames,
        series_uids=series,
        study_uid=text(dataset, "StudyInstanceUID"),
        sop_uid=text(dataset, "SOPInstanceUID"),
        label=text(dataset, "StructureSetLabel"),
        patient_id=text(dataset, "PatientID"),
        approval_status=text(dataset, "ApprovalStatus"),
    )


_IDENTITY = ("SOPClassUID", "SOPInstanceUID")


def _contour_items(dataset: "Dataset", path: Path, notes: list[str]) -> dict[int, list["Dataset"]]:
    """Contour items by number of their region."""
    found: dict[int, list[Any]] = {}
    for item in _items(dataset, "ROIContourSequence"):
        found.setdefault(_number(item, "ReferencedROINumber", path), []).extend(_items(item, "ContourSequence"))
    return found


def _roi(
    path: Path, number: int, name: str, items: Sequence["Dataset"], frame: str, interpreted: str, notes: list[str]
) -> Roi:
    skipped: Counter[str] = Counter()
    contours: list[Contour] = []
    seen: set[bytes] = set()
    for item in items:
        kind = text(item, "ContourGeometricType").upper()
        if kind not in CLOSED_TYPES:
            skipped[kind or "without a type"] += 1
            continue
        points_mm = flip_points(_points(item, path, name))
        if len(points_mm) < 3:
            skipped["of fewer than three points"] += 1
        elif points_mm.tobytes() in seen:
            skipped["repeated"] += 1
        else:
            seen.add(points_mm.tobytes())
            images = _items(item, "ContourImageSequence")
            contours.append(Contour(points_mm, text(images[0], "ReferencedSOPInstanceUID") if images else ""))
    if skipped:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(skipped.items()))
        notes.append(f"region {name!r}: contours skipped: {counts}")
    return Roi(path, number, name, tuple(contours), dict(skipped), frame, interpreted)


def _points(item: "Dataset", path: Path, name: str) -> NDArray[np.float64]:
    """(N, 3) LPS. From the bytes of the file: as pydicom numbers, a bowel's contours would take seconds."""
    if "ContourData" not in item:
        raise DataFault(path, f"region {name!r} has a contour without ContourData")
    value: Any = item.get_item("ContourData").value
    try:
        if isinstance(value, bytes):
            parts = value.rstrip(b" \0").split(b"\\")
            values = np.array([float(part) for part in parts]) if parts != [b""] else np.zeros(0)
        else:
            values = np.atleast_1d(np.asarray(value if value is not None else [], dtype=np.float64))
    except (ValueError, TypeError) as error:
        raise DataFault(path, f"region {name!r}: a coordinate is not a number: {error}") from error
    if len(values) % 3 or not np.isfinite(values).all():
        raise DataFault(path, f"region {name!r} has a contour of {len(values)} numbers, finite triples are expected")
    return values.reshape(-1, 3)


def _references(dataset: "Dataset") -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Frames of reference and image series that the structure set names, each once."""
    frames = [text(dataset, "FrameOfReferenceUID")]
    series = []
    for frame in _items(dataset, "ReferencedFrameOfReferenceSequence"):
        frames.append(text(frame, "FrameOfReferenceUID"))
        for study in _items(frame, "RTReferencedStudySequence"):
            series += [text(one, "SeriesInstanceUID") for one in _items(study, "RTReferencedSeriesSequence")]
    frames += [text(item, "ReferencedFrameOfReferenceUID") for item in _items(dataset, "StructureSetROISequence")]
    return tuple(dict.fromkeys(uid for uid in frames if uid)), tuple(dict.fromkeys(uid for uid in series if uid))


def _items(dataset: "Dataset", keyword: str) -> list["Dataset"]:
    value = dataset.get(keyword)
    return [] if value in (None, "") else list(value)


def _number(item: "Dataset", keyword: str, path: Path) -> int:
    try:
        return int(text(item, keyword))
    except ValueError:
        raise DataFault(path, f"{keyword} is {text(item, keyword)!r}, a number is expected") from None
