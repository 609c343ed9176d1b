"""Which of the CT series in a folder is the planning CT, and why; what could be two is refused, never guessed."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from medpipe.dicom.reading import dicom_files, faults_by_name, read_dataset, text
from medpipe.dicom.rtstruct import is_rtstruct, read_rtstruct
from medpipe.dicom.series import SeriesFiles, find_series
from medpipe.dicom.slices import KEYWORDS, Slice, slice_of, stack
from medpipe.geometry.faults import DataFault

# A scout of a few slices or a contrast bolus at one place is no CT that anybody plans on.
_SHORT_MM = 30.0
_IDENTITY = (*KEYWORDS, "PatientID")


@dataclass(frozen=True)
class PlanningCt:
    """The chosen series, one sentence why, and a sentence for each series that was passed over."""

    series: SeriesFiles
    why: str
    passed_over: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Candidate:
    files: SeriesFiles
    patient_id: str
    frame_uid: str
    slices: tuple[Slice, ...]  # in order; () where they are no even stack
    fault: str  # why not

    @property
    def name(self) -> str:
        return f"{self.files.series_uid} ({len(self.files.paths)} slices, {self.files.description!r})"

    @property
    def extent_mm(self) -> float:
        return float(np.linalg.norm(self.slices[-1].position - self.slices[0].position)) if self.slices else 0.0


@faults_by_name
def find_planning_ct(folder: Path, *, series_uid: str | None = None, notes: list[str] | None = None) -> PlanningCt:
    """The planning CT below a folder.

    In this order: the series that was named; the only one; the only one that the folder's structure sets refer to; the
    only even stack of slices; the only one of them longer than 30 mm. DataFault where none or several are left, for two
    patients, and for a CT in pieces (one examination cut into several series).
    """
    found = find_series(folder, notes=notes)
    if not found:
        raise DataFault(folder, "holds no CT series")
    if series_uid is not None:
        named = [one for one in found if one.series_uid == series_uid]
        if not named:
            listed = "; ".join(f"{one.series_uid} ({len(one.paths)} slices, {one.description!r})" for one in found)
            raise DataFault(folder, f"holds no CT series {series_uid}; it holds {listed}")
        return PlanningCt(named[0], "named on the command line", ())
    if len(found) == 1:
        return PlanningCt(found[0], "the only CT series in the folder", ())
    candidates = [_candidate(one, folder) for one in found]
    _check_one_patient(candidates, folder)
    return _chosen(candidates, _referred(folder), folder)


def _chosen(candidates: Sequence[_Candidate], referred: set[str], folder: Path) -> PlanningCt:
    named = [one for one in candidates if one.files.series_uid in referred]
    if len(named) == 1:
        return _choice(named[0], candidates, "the only CT series that a structure set in the folder refers to")
    sound = [one for one in (named or candidates) if not one.fault]
    _check_whole(sound, folder)
    if len(sound) == 1:
        return _choice(sound[0], candidates, "the only CT series that is one even stack of slices")
    long = [one for one in sound if one.extent_mm >= _SHORT_MM]
    if len(long) == 1:
        return _choice(long[0], candidates, f"the only CT series longer than {_SHORT_MM:g} mm")
    listed = "; ".join(f"{one.name}{': ' + one.fault if one.fault else ''}" for one in candidates)
    count = len(long) or len(sound)
    raise DataFault(
        folder, f"{count or 'none'} of {len(candidates)} CT series could be the planning CT, name one by --series: "
        f"{listed}",
    )  # fmt: skip


def _choice(chosen: _Candidate, candidates: Sequence[_Candidate], why: str) -> PlanningCt:
    others = [one for one in candidates if one is not chosen]
    passed = tuple(
        f"passed over {one.name}{': ' + one.fault if one.fault else f': {one.extent_mm:.0f} mm long'}" for one in others
    )
    return PlanningCt(chosen.files, why, passed)


def _candidate(files: SeriesFiles, folder: Path) -> _Candidate:
    headers = {path: read_dataset(path, with_pixels=False, keywords=_IDENTITY) for path in files.paths}
    first = next(iter(headers.values()))
    slices: tuple[Slice, ...] = ()
    fault = ""
    try:
        ordered, _ = stack([slice_of(header, path) for path, header in headers.items()], folder, [])
        slices = tuple(ordered)
    except DataFault as error:
        fault = f"{error.path.name} {error.reason}"
    return _Candidate(files, text(first, "PatientID"), text(first, "FrameOfReferenceUID"), slices, fault)


def _check_one_patient(candidates: Sequence[_Candidate], folder: Path) -> None:
    if len({one.patient_id for one in candidates}) > 1:
        raise DataFault(
            folder, f"holds CT series of {len({one.patient_id for one in candidates})} patients: give one patient's "
            f"folder, or name the series by --series: {'; '.join(one.name for one in candidates)}",
        )  # fmt: skip


def _check_whole(candidates: Sequence[_Candidate], folder: Path) -> None:
    """Two series in one frame of reference of which the one goes on where the other ends are one CT in pieces."""
    for a, b in combinations(candidates, 2):
        if not a.frame_uid or a.frame_uid != b.frame_uid or len(a.slices) < 2 or len(b.slices) < 2:
            continue
        first, other = a.slices[0], b.slices[0]
        if not np.allclose(first.row_direction, other.row_direction, atol=1e-4) or first.shape != other.shape:
            continue
        normal = np.cross(first.row_direction, first.column_direction)
        ends = sorted((float(s[0].position @ normal), float(s[-1].position @ normal)) for s in (a.slices, b.slices))
        step = min(one.extent_mm / (len(one.slices) - 1) for one in (a, b))
        if abs(ends[1][0] - ends[0][1] - step) < 0.5 * step:
            raise DataFault(
                folder, f"a CT in pieces: {b.name} and {a.name} lie end to end in one frame of reference; export it as "
                "one series, or name the piece by --series",
            )  # fmt: skip


def _referred(folder: Path) -> set[str]:
    """Series that the folder's structure sets refer to; one that cannot be read refers to nothing."""
    found: set[str] = set()
    for path in dicom_files(folder):
        if is_rtstruct(path):
            found.update(read_rtstruct(path).series_uids)
    return found
