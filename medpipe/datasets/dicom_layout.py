"""Examinations as clinics export them: CT series and structure sets anywhere below one folder a case."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medpipe.datasets.cases import Case
from medpipe.datasets.manifest import Manifest
from medpipe.datasets.structure_names import AmbiguousName, resolve_names
from medpipe.geometry.faults import DataFault
from medpipe.geometry.volume import Grid

IDENTITY = ("SOPClassUID", "SOPInstanceUID", "PatientID")

if TYPE_CHECKING:
    from medpipe.dicom.series import Series, SeriesFiles


def list_examinations(manifest: Manifest, folder: Path, faults: list[DataFault]) -> list[Case]:
    """One case for each folder that matches the manifest's `glob`."""
    cases = []
    for path in sorted(path for path in folder.glob(manifest.glob) if path.is_dir() and path.name[0] != "."):
        try:
            cases.append(_examination(manifest, path, "_".join(path.relative_to(folder).parts)))
        except DataFault as fault:
            faults.append(fault)
    return cases


def series_cases(manifest: Manifest, folder: Path, case_id: str, faults: list[DataFault]) -> list[Case]:
    """A case without labels for each CT series below a folder; several are told apart by a number."""
    from medpipe.dicom.series import find_series

    try:
        found = _matching_series(manifest, find_series(folder))
        if not found:
            raise DataFault(folder, "holds no CT series")
        ids = [case_id] if len(found) == 1 else [f"{case_id}_{number}" for number in range(1, len(found) + 1)]
        return [_case(manifest, one, folder, series, None) for one, series in zip(ids, found, strict=True)]
    except DataFault as fault:
        faults.append(fault)
        return []


def structure_masks(case: Case, grid: Grid, series: "Series | None", notes: list[str]) -> dict[str, NDArray[np.bool_]]:
    """Structure -> mask (D, H, W) of those that the case's RTSTRUCT holds; the resolved table goes to `notes`."""
    from medpipe.dicom.linking import check_linked, check_roi_linked
    from medpipe.dicom.planes import roi_mask
    from medpipe.dicom.rtstruct import read_rtstruct

    assert case.labels is not None
    structure_set = read_rtstruct(case.labels, notes=notes)
    if series is None:
        notes.append(f"{case.labels.name}: its CT is no DICOM series, so that the link between them is not checked")
    else:
        check_linked(structure_set, series, notes=notes)
    try:
        resolution = resolve_names(
            [roi.name for roi in structure_set.rois],
            case.manifest.aliases,
            usable=[bool(roi.contours) for roi in structure_set.rois],
            choose=case.manifest.choose.get(case.case_id),
        )
    except AmbiguousName as error:
        raise DataFault(case.labels, str(error)) from None
    notes.append("names: " + "; ".join(" ".join(row.split()) for row in resolution.table().splitlines()))
    masks = {}
    for name, index in resolution.chosen.items():
        roi = structure_set.rois[index]
        if series is not None:
            check_roi_linked(roi, series, notes=notes)
        masks[name] = roi_mask(
            roi, grid, outside=case.manifest.contours_outside, gaps=case.manifest.skipped_slices, notes=notes
        )
    return masks


def _examination(manifest: Manifest, folder: Path, case_id: str) -> Case:
    from medpipe.dicom.series import find_series

    structure_set = _structure_set(manifest, folder)
    found = _matching_series(manifest, find_series(folder))
    if structure_set is not None and len(found) > 1:
        from medpipe.dicom.rtstruct import read_rtstruct

        referenced = read_rtstruct(structure_set).series_uids
        found = [series for series in found if series.series_uid in referenced]
    if len(found) != 1:
        listed = "; ".join(f"{series.series_uid} {series.description!r}" for series in found)
        raise DataFault(
            folder,
            f"holds {len(found)} CT series that its structure set could mean{': ' + listed if listed else ''}; one is "
            "expected: choose by `series:` in the manifest",
        )
    return _case(manifest, case_id, folder, found[0], structure_set)


def _case(manifest: Manifest, case_id: str, folder: Path, series: "SeriesFiles", structure_set: Path | None) -> Case:
    from medpipe.dicom.reading import read_dataset, text

    in_header = text(read_dataset(series.paths[0], with_pixels=False, keywords=IDENTITY), "PatientID")
    by_header = manifest.patients.dicom == "patient_id" and in_header
    return Case(
        case_id,
        in_header if by_header else case_id,
        folder,
        structure_set,
        manifest,
        series_uid=series.series_uid,
        dicom_patient_id=in_header or None,
    )


def _matching_series(manifest: Manifest, found: "Sequence[SeriesFiles]") -> "list[SeriesFiles]":
    if manifest.series is None:
        return list(found)
    pattern = re.compile(manifest.series)
    return [one for one in found if pattern.search(one.description) or pattern.search(one.series_uid)]


def _structure_set(manifest: Manifest, folder: Path) -> Path | None:
    """The folder's RTSTRUCT; DataFault where there are several and the manifest does not choose."""
    from medpipe.dicom.reading import dicom_files
    from medpipe.dicom.rtstruct import is_rtstruct

    found = [path for path in dicom_files(folder) if is_rtstruct(path)]
    if manifest.structure_set is not None:
        pattern = re.compile(manifest.structure_set)
        found = [path for path in found if pattern.search(str(path.relative_to(folder)))]
    if len(found) > 1:
        listed = ", ".join(str(path.relative_to(folder)) for path in found)
        raise DataFault(
            folder, f"holds {len(found)} structure sets: {listed}; choose by `structure_set:` in the manifest"
        )
    return found[0] if found else None
