"""One case, read whole: its CT and its labels on the CT's grid, each doubt refused with the file's name or noted."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medpipe.datasets.cases import Case
from medpipe.datasets.layouts import NIFTI_ENDINGS, nifti_named
from medpipe.geometry.faults import DataFault
from medpipe.geometry.hounsfield import check_hounsfield
from medpipe.geometry.volume import Grid, LabelMap, MaskStack, Volume, check_same_grid

if TYPE_CHECKING:
    from medpipe.dicom.series import Series

IGNORED = -1  # in a label map: voxels that the loss leaves out


class CaseContent(NamedTuple):
    """What `read_case` returns.

    volume      in HU
    labels      a label map (0 background, 1..S in the manifest's order, -1 ignored) or one mask a structure
    annotated   for each structure of the manifest
    """

    volume: Volume
    labels: LabelMap | MaskStack | None
    annotated: tuple[bool, ...]


def read_case(case: Case, notes: list[str] | None = None) -> CaseContent:
    """The case's CT and labels on their own grid, with every check of a hard input.

    notes   receives one sentence for each thing that was handled rather than refused

    Raises DataFault, which names the file, and the case in its reason.
    """
    notes = [] if notes is None else notes
    try:
        volume, series = _read_image(case, notes)
        if case.manifest.hounsfield:
            check_hounsfield(case.image, volume, notes)
        labels, annotated = _read_labels(case, volume.grid, series, notes)
    except DataFault as fault:
        raise DataFault(fault.path, f"case {case.case_id}: {fault.reason}") from fault
    return CaseContent(volume, labels, annotated)


def read_image(case: Case, notes: list[str] | None = None) -> Volume:
    """The case's CT in HU, from NIfTI or DICOM; without its labels, for prediction."""
    notes = [] if notes is None else notes
    try:
        volume, _ = _read_image(case, notes)
        if case.manifest.hounsfield:
            check_hounsfield(case.image, volume, notes)
    except DataFault as fault:
        raise DataFault(fault.path, f"case {case.case_id}: {fault.reason}") from fault
    return volume


def _read_image(case: Case, notes: list[str]) -> "tuple[Volume, Series | None]":
    """The case's CT in HU, and its DICOM series where it is one."""
    if case.image.is_dir():
        from medpipe.dicom.series import read_series

        series = read_series(case.image, series_uid=case.series_uid, notes=notes)
        return series.volume, series
    from medpipe.geometry.nifti import read_volume

    return read_volume(case.image, notes=notes), None


def _read_labels(
    case: Case, grid: Grid, series: "Series | None", notes: list[str]
) -> tuple[LabelMap | MaskStack | None, tuple[bool, ...]]:
    if case.labels is None or not case.structures:
        return None, tuple(False for _ in case.structures)
    if case.labels.is_dir():
        return _combine(case, grid, lambda name: _mask_of_files(case, case.labels, name, grid, notes), notes)
    if case.labels.name.endswith(NIFTI_ENDINGS):
        return _from_label_map(case, case.labels, grid, notes)
    from medpipe.datasets.dicom_layout import structure_masks

    masks = structure_masks(case, grid, series, notes)
    return _combine(case, grid, masks.get, notes)


def _from_label_map(
    case: Case, path: Path, grid: Grid, notes: list[str]
) -> tuple[LabelMap | MaskStack, tuple[bool, ...]]:
    from medpipe.geometry.nifti import read_label_map

    stored = _on_grid(case, path, read_label_map(path, notes=notes), grid, notes).array
    values = np.unique(stored)
    table = np.zeros(int(values[-1]) + 1, dtype=np.int16)
    for number, name in enumerate(case.structures, start=1):
        table[[value for value in case.label_values.get(name, ()) if value < len(table)]] = number
    known = {0, *(value for found in case.label_values.values() for value in found)}
    ignored = case.manifest.ignore_label
    if ignored is not None:
        known.add(ignored)
        if ignored < len(table):
            table[ignored] = IGNORED
    _check_known(case, path, stored, [int(value) for value in values if int(value) not in known])
    annotated = tuple(name in case.label_values for name in case.structures)
    labels = table[stored]
    if not case.manifest.overlapping:
        return LabelMap(labels, grid.affine), annotated
    stack = np.stack([labels == number for number in range(1, len(case.structures) + 1)])
    return MaskStack(stack, grid.affine, case.structures), annotated


def _check_known(case: Case, path: Path, stored: NDArray[np.integer], unknown: Sequence[int]) -> None:
    if not unknown or case.manifest.other_labels == "background":
        return
    listed = ", ".join(f"{value} ({int(np.count_nonzero(stored == value))} voxels)" for value in unknown[:8])
    raise DataFault(
        path,
        f"labels that manifest {case.manifest.manifest} does not name: {listed}; add them, "
        "or set other_labels: background to leave them out",
    )


def _mask_of_files(
    case: Case, folder: Path | None, name: str, grid: Grid, notes: list[str]
) -> NDArray[np.bool_] | None:
    """The union of the structure's files; None where none of them is there."""
    from medpipe.geometry.nifti import read_mask

    assert folder is not None
    paths = [nifti_named(folder, stem) for stem in case.manifest.structures[name].files(name)]
    found = [path for path in paths if path is not None]
    mask: NDArray[np.bool_] | None = None
    for path in found:
        part = _on_grid(case, path, read_mask(path, notes=notes), grid, notes).array > 0
        mask = part if mask is None else mask | part
    if found and len(found) < len(paths):
        notes.append(f"{name}: {len(paths) - len(found)} of its {len(paths)} files are missing")
    return mask


def _combine(
    case: Case, grid: Grid, mask_of: Callable[[str], NDArray[np.bool_] | None], notes: list[str]
) -> tuple[LabelMap | MaskStack, tuple[bool, ...]]:
    """Masks into a stack or, where structures exclude each other, into a label map in which the later one wins."""
    annotated = []
    overlapping = case.manifest.overlapping
    stack = np.zeros((len(case.structures), *grid.shape), dtype=bool) if overlapping else None
    labels = np.zeros(grid.shape, dtype=np.int16)
    for index, name in enumerate(case.structures):
        mask = mask_of(name)
        annotated.append(mask is not None or case.manifest.if_absent == "absent")
        if mask is None:
            missing = "absent" if annotated[-1] else "not annotated"
            notes.append(f"{name}: no file or region of interest, taken as {missing}")
            continue
        _note_overlaps(case, labels, mask, name, notes)
        labels[mask] = index + 1
        if stack is not None:
            stack[index] = mask
    if stack is not None:
        return MaskStack(stack, grid.affine, case.structures), tuple(annotated)
    return LabelMap(labels, grid.affine), tuple(annotated)


def _note_overlaps(case: Case, labels: NDArray[np.int16], mask: NDArray[np.bool_], name: str, notes: list[str]) -> None:
    counts = np.bincount(labels[mask], minlength=1)
    outcome = "both are kept" if case.manifest.overlapping else f"{name} wins"
    for number in np.flatnonzero(counts[1:]):
        other = case.structures[number]
        notes.append(f"{name} overlaps {other} in {counts[number + 1]} voxels; {outcome}")


def _on_grid(case: Case, path: Path, label_map: LabelMap, grid: Grid, notes: list[str]) -> LabelMap:
    """The labels on the image's grid: there already, refused, or resampled where the case allows it."""
    from medpipe.geometry.resampling import resample_like

    try:
        check_same_grid(grid, label_map.grid, path.name, "its CT")
    except ValueError as error:
        if not case.resample_labels:
            raise DataFault(path, f"{error}; or set resample_labels: true") from None
        notes.append(f"{path.name}: resampled to the grid of its CT ({error})")
        return resample_like(label_map, grid)
    return label_map
