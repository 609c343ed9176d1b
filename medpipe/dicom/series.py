"""A CT series of a folder as one volume in HU, with the identifiers that link structure sets to it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medpipe.dicom.reading import dicom_files, faults_by_name, is_meant_as_dicom, numbers, read_dataset, text
from medpipe.dicom.slices import KEYWORDS, slice_of, stack
from medpipe.geometry.faults import DataFault
from medpipe.geometry.hounsfield import AIR_HU
from medpipe.geometry.volume import Volume

if TYPE_CHECKING:
    from pydicom import Dataset

# What a structure set repeats of the study it belongs to.
STUDY_KEYWORDS = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName", "StudyDescription",
)  # fmt: skip


@dataclass(frozen=True)
class SeriesFiles:
    """A CT series found in a folder."""

    series_uid: str
    description: str
    paths: tuple[Path, ...]


@dataclass(frozen=True, eq=False)
class Series:
    """A CT series. Slice d of `volume` is the image `sop_uids[d]`; d grows along the slices' normal."""

    volume: Volume
    sop_uids: tuple[str, ...]
    sop_class_uid: str
    series_uid: str
    study_uid: str
    frame_of_reference_uid: str  # "" where the images name none
    patient_id: str
    folder: Path
    study: dict[str, str] = field(default_factory=dict)  # STUDY_KEYWORDS as found
    paths: tuple[Path, ...] = ()  # of the slices, in their order


@faults_by_name
def find_series(folder: Path | str, *, notes: list[str] | None = None) -> list[SeriesFiles]:
    """All CT series under a folder, by UID; localizers, other modalities and other files are left out.

    A file that promises to be DICOM and cannot be read is a DataFault; any other is passed over, with a note.
    """
    return _group(dicom_files(Path(folder)), is_listed=False, notes=[] if notes is None else notes)


@faults_by_name
def read_series(
    source: Path | str | Sequence[Path], *, series_uid: str | None = None, notes: list[str] | None = None
) -> Series:
    """The CT series of a folder, or of a list of files, as float32 HU with each slice's own rescale applied once.

    With several series in the folder `series_uid` must say which. Pixels marked as padding become air (-1024 HU).
    All else that is not one even stack of slices is refused with DataFault (see `slices.stack`).
    """
    found: list[str] = []
    if isinstance(source, Path | str):
        folder = Path(source)
        groups = _group(dicom_files(folder), is_listed=False, notes=found)
    else:
        files = [Path(path) for path in source]
        folder = files[0].parent
        groups = _group(files, is_listed=True, notes=found)
    chosen = _choose(groups, series_uid, folder)
    headers = {path: read_dataset(path, with_pixels=False) for path in chosen.paths}
    _check_same_frame(headers, found)
    ordered, affine = stack([slice_of(header, path) for path, header in headers.items()], folder, found)
    hu = np.empty((len(ordered), *ordered[0].shape), dtype=np.float32)
    padded: list[int] = []
    for d, one in enumerate(ordered):
        hu[d] = _hounsfield(read_dataset(one.path, with_pixels=True), one.path, padded, found)
    if padded:
        found.append(f"{sum(padded)} padding pixels set to {AIR_HU:.0f} HU")
    first = headers[ordered[0].path]
    if notes is not None:
        notes.extend(found)
    return Series(
        volume=Volume(hu, affine),
        sop_uids=tuple(one.sop_uid for one in ordered),
        sop_class_uid=text(first, "SOPClassUID"),
        series_uid=chosen.series_uid,
        study_uid=text(first, "StudyInstanceUID"),
        frame_of_reference_uid=text(first, "FrameOfReferenceUID"),
        patient_id=text(first, "PatientID"),
        folder=folder,
        study={keyword: text(first, keyword) for keyword in STUDY_KEYWORDS},
        paths=tuple(one.path for one in ordered),
    )


def _group(files: Sequence[Path], *, is_listed: bool, notes: list[str]) -> list[SeriesFiles]:
    groups: dict[str, list[Path]] = {}
    descriptions: dict[str, str] = {}
    for path in files:
        try:
            header = read_dataset(path, with_pixels=False, keywords=KEYWORDS)
        except DataFault:
            if is_listed or is_meant_as_dicom(path):
                raise
            notes.append(f"{path.name}: not DICOM, passed over")
            continue
        modality = text(header, "Modality")
        if not modality:
            raise DataFault(path, "lacks Modality: truncated?")
        if modality != "CT":
            continue
        if "LOCALIZER" in text(header, "ImageType"):
            notes.append(f"{path.name}: a localizer, passed over")
            continue
        uid = text(header, "SeriesInstanceUID")
        if not uid:
            raise DataFault(path, "lacks SeriesInstanceUID")
        groups.setdefault(uid, []).append(path)
        descriptions.setdefault(uid, text(header, "SeriesDescription"))
    return [SeriesFiles(uid, descriptions[uid], tuple(paths)) for uid, paths in sorted(groups.items())]


def _choose(series: list[SeriesFiles], series_uid: str | None, folder: Path) -> SeriesFiles:
    if not series:
        raise DataFault(folder, "holds no CT series")
    listing = "; ".join(f"{one.series_uid} ({len(one.paths)} slices, {one.description!r})" for one in series)
    if series_uid is None:
        if len(series) > 1:
            raise DataFault(folder, f"holds {len(series)} CT series, say which by series_uid: {listing}")
        return series[0]
    for one in series:
        if one.series_uid == series_uid:
            return one
    raise DataFault(folder, f"holds no CT series {series_uid}; it holds {listing}")


def _hounsfield(dataset: "Dataset", path: Path, padded: list[int], notes: list[str]) -> NDArray[np.float32]:
    """(H, W) HU of one slice; `padded` collects how many padding pixels became air."""
    stored = _pixels(dataset, path)
    if "RescaleSlope" in dataset or "RescaleIntercept" in dataset:
        slope = float(numbers(dataset, "RescaleSlope", 1, path)[0])
        intercept = float(numbers(dataset, "RescaleIntercept", 1, path)[0])
    else:
        slope, intercept = 1.0, 0.0
        notes.append(f"{path.name}: no rescale slope and intercept, stored values taken as HU")
    if slope == 0:
        raise DataFault(path, "RescaleSlope is 0")
    hu = (stored * slope + intercept).astype(np.float32)
    is_padding = _is_padding(dataset, path, stored, slope, intercept, notes)
    if is_padding is not None and is_padding.any():
        padded.append(int(np.count_nonzero(is_padding)))
        hu[is_padding] = AIR_HU
    return hu


def _pixels(dataset: "Dataset", path: Path) -> NDArray[np.float64]:
    try:
        pixels = dataset.pixel_array
    except (AttributeError, ValueError, RuntimeError, NotImplementedError, KeyError, OSError) as error:
        raise DataFault(path, f"its pixels cannot be read (truncated, or compressed?): {error}") from error
    shape = (int(dataset.Rows), int(dataset.Columns))
    if pixels.shape != shape:
        raise DataFault(path, f"holds pixels {pixels.shape}, one grey value for each of {shape} is expected")
    return pixels.astype(np.float64)


def _is_padding(
    dataset: "Dataset", path: Path, stored: NDArray[np.float64], slope: float, intercept: float, notes: list[str]
) -> NDArray[np.bool_] | None:
    """Pixels in the padding range, or None without one.

    A padding value that stands for tissue (-900 to 3071 HU; seen as 0 in rewritten files) is not believed: it would
    punch holes of air into the patient.
    """
    if text(dataset, "PixelPaddingValue") == "":
        return None
    ends = [float(numbers(dataset, "PixelPaddingValue", 1, path)[0])]
    if text(dataset, "PixelPaddingRangeLimit") != "":
        ends.append(float(numbers(dataset, "PixelPaddingRangeLimit", 1, path)[0]))
    low, high = min(ends), max(ends)
    end_hu = (low * slope + intercept, high * slope + intercept)
    if any(-900 <= value <= 3071 for value in end_hu):
        notes.append(f"{path.name}: PixelPaddingValue stands for {end_hu[0]:.0f} HU, which is tissue: not used")
        return None
    return (stored >= low) & (stored <= high)


def _check_same_frame(headers: dict[Path, "Dataset"], notes: list[str]) -> None:
    """Slices of two frames of reference would be stacked as if they were one space.

    Slices of two studies are only noted: some de-identification gives each file a study of its own.
    """
    (first_path, first), *others = headers.items()
    for keyword in ("FrameOfReferenceUID", "StudyInstanceUID"):
        for path, other in others:
            if text(other, keyword) != text(first, keyword):
                reason = f"{keyword} is {text(other, keyword)}, in {first_path.name} {text(first, keyword)}"
                if keyword == "FrameOfReferenceUID":
                    raise DataFault(path, reason)
                notes.append(f"{path.name}: {reason}")
                break
