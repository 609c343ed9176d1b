"""Every file of a data set read whole before anything is trained: one line a case, and all faults at once."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from medpipe.datasets.cases import Case
from medpipe.geometry.faults import DataFault, DataFaults
from medpipe.geometry.volume import MaskStack

# Under it HD95 is unstable and resampling may lose the structure.
FEW_VOXELS = 5


@dataclass(frozen=True)
class CaseLine:
    """What a case holds. structures: name -> (voxels, ml) of those annotated; image_hash: of the voxels in HU."""

    case_id: str
    patient_id: str
    shape: tuple[int, int, int] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    hu_range: tuple[float, float] | None = None
    structures: dict[str, tuple[int, float]] = field(default_factory=dict)
    not_annotated: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    faults: tuple[DataFault, ...] = ()
    image_hash: str = ""

    def text(self) -> str:
        """The case on one line: grid, spacing, HU range, structures, notes, faults."""
        parts = [self.case_id if self.patient_id == self.case_id else f"{self.case_id} (patient {self.patient_id})"]
        if self.shape is not None and self.spacing_mm is not None and self.hu_range is not None:
            parts.append(" x ".join(map(str, self.shape)))
            parts.append(" x ".join(f"{length:.4g}" for length in self.spacing_mm) + " mm")
            parts.append(f"{self.hu_range[0]:.0f} .. {self.hu_range[1]:.0f} HU")
            listed = [f"{name} {ml:.1f} ml" if count else f"{name} -" for name, (count, ml) in self.structures.items()]
            listed += [f"{name} not annotated" for name in self.not_annotated]
            parts.append(", ".join(listed) or "no labels")
        parts += [f"note: {note}" for note in self.notes]
        parts += [f"FAULT: {fault}" for fault in self.faults]
        return " | ".join(parts)


@dataclass(frozen=True)
class CheckReport:
    """One line a case in the order asked, and every fault: of single cases, then between cases."""

    lines: tuple[CaseLine, ...]
    faults: tuple[DataFault, ...]

    def raise_if_faulty(self) -> None:
        """Raise DataFaults with all of them."""
        if self.faults:
            raise DataFaults(self.faults)


def check_cases(
    cases: Sequence[Case],
    *,
    jobs: int = 1,
    on_line: Callable[[CaseLine], None] = lambda line: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> CheckReport:
    """Read every file of every case; nothing is raised for bad data, everything is reported.

    Between cases: the same image under two patients, and one DICOM PatientID under two patients, are faults, since
    either would leak from training to test.
    """
    from medpipe.datasets.estimates import estimated_bytes
    from medpipe.datasets.workers import work_through

    lines = work_through(
        check_case,
        list(cases),
        names=[case.case_id for case in cases],
        jobs=jobs,
        what="checking cases",
        bytes_per_item=[estimated_bytes(case) for case in cases],
        should_stop=should_stop,
        on_result=lambda index, line: on_line(line),
    )
    faults = [fault for line in lines for fault in line.faults]
    return CheckReport(tuple(lines), (*faults, *faults_between(cases, lines)))


def check_case(case: Case) -> CaseLine:
    """One case's line; its faults are in it."""
    from medpipe.datasets.reading import read_case

    notes: list[str] = []
    try:
        volume, labels, annotated = read_case(case, notes)
    except DataFault as fault:
        return CaseLine(case.case_id, case.patient_id, notes=tuple(notes), faults=(fault,))
    counts = [0] * len(case.structures)
    if isinstance(labels, MaskStack):
        counts = [int(np.count_nonzero(mask)) for mask in labels.array]
    elif labels is not None:
        found = np.bincount(labels.array[labels.array > 0], minlength=len(counts) + 1)
        counts = [int(count) for count in found[1:]]
    structures = {
        name: (count, count * volume.grid.voxel_ml)
        for name, count, known in zip(case.structures, counts, annotated, strict=True)
        if known
    }
    return CaseLine(
        case.case_id,
        case.patient_id,
        shape=volume.shape,
        spacing_mm=volume.spacing_mm,
        hu_range=(float(volume.array.min()), float(volume.array.max())),
        structures=structures,
        not_annotated=tuple(name for name in case.structures if name not in structures) if case.labels else (),
        notes=(*notes, *_label_notes(structures)),
        image_hash=_image_hash(volume.array),
    )


def _label_notes(structures: dict[str, tuple[int, float]]) -> list[str]:
    if structures and not any(count for count, _ in structures.values()):
        return ["the labels hold only background"]
    return [
        f"{name} has only {count} voxels: HD95 is unstable, and resampling may lose it"
        for name, (count, _) in structures.items()
        if 0 < count <= FEW_VOXELS
    ]


def _image_hash(array: np.ndarray) -> str:
    """Of voxels as whole HU, so that compression, data type and the file's name do not matter."""
    digest = hashlib.sha256(str(array.shape).encode())
    for slice_ in array:
        digest.update(np.rint(slice_).astype(np.int32).tobytes())
    return digest.hexdigest()


def faults_between(cases: Sequence[Case], lines: Sequence[CaseLine]) -> list[DataFault]:
    """Faults that show only when cases are compared: leaks between patients."""
    faults = []
    for key_of, what in (
        (lambda case, line: line.image_hash, "the same image as"),
        (lambda case, line: case.dicom_patient_id, "the same DICOM PatientID as"),
    ):
        groups: dict[str, list[Case]] = {}
        for case, line in zip(cases, lines, strict=True):
            if key := key_of(case, line):
                groups.setdefault(key, []).append(case)
        for group in groups.values():
            first = group[0]
            faults += [_leak(other, first, what) for other in group[1:] if other.patient_id != first.patient_id]
    return faults


def _leak(case: Case, other: Case, what: str) -> DataFault:
    return DataFault(
        case.image,
        f"case {case.case_id} of patient {case.patient_id} has {what} case {other.case_id} of patient "
        f"{other.patient_id} ({other.image}); give both one patient (`patients:` in the manifest) or remove one",
    )
