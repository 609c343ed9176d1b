"""One fraction of a dose plan, from its files to numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from medpipe.engine.dose_plan import DosePlan, FractionConfig
from medpipe.geometry.faults import DataFault

if TYPE_CHECKING:
    from medpipe.datasets.dose_structures import DoseStructures, PlacedMask
    from medpipe.datasets.manifest import Manifest
    from medpipe.geometry.dose import Dose
    from medpipe.metrics.dose_sampling import DoseField
    from medpipe.metrics.dose_totals import Contour, StructureDose

# Of a structure's volume. Less is a rounding of contours and of the grid's edge.
_OUTSIDE_SHARE = 1e-3


@final
@dataclass(frozen=True)
class DoseFile:
    """A dose with what links it to other files; identifiers are "" for a NIfTI."""

    dose: "Dose"
    path: Path
    frame_of_reference_uid: str = ""
    sop_uid: str = ""
    patient_id: str = ""


@final
@dataclass(frozen=True)
class FractionResult:
    doses: list["StructureDose"]
    surfaces: list[dict[str, Any]]  # one a structure: distances of predicted and reference near the target
    notes: list[str]
    dose_uid: str


def compute_fraction(number: int, fraction: FractionConfig, plan: DosePlan, manifest: "Manifest") -> FractionResult:
    """Read the files of fraction `number` (from 1) and compute everything in it. Raises DataFault."""
    from medpipe.datasets.dose_structures import read_structures
    from medpipe.metrics.dose_sampling import FLOOR_SHARE, DoseField

    notes: list[str] = []
    dose = read_dose(fraction.dose, notes)
    values = plan.label_values
    reference = read_structures(fraction.structures, manifest, ct=fraction.ct, label_values=values)
    check_linked_to_dose(dose, reference, notes)
    _check_drawn(reference, plan, notes)
    structures: list[tuple[Contour, DoseStructures]] = [("reference", reference)]
    if fraction.predicted is not None:
        predicted = read_structures(fraction.predicted, manifest, on=reference.grid, label_values=values)
        check_same_frames(reference, predicted)
        structures.append(("predicted", predicted))
    for _, found in structures:
        notes += found.notes
    field = DoseField(dose.dose)
    if field.low_share:
        notes.append(
            f"{dose.path.name}: {field.low_share:.1%} of its voxels lie below {field.floor_gy:.2g} Gy "
            f"({FLOOR_SHARE:g} of the largest dose), taken as that"
        )
    doses = [
        one
        for contour, found in structures
        for one in _structure_doses(number, fraction, plan, contour, found, field, notes)
    ]
    surfaces = _near_surfaces(number, structures[0][1], structures[1][1], plan, notes) if len(structures) > 1 else []
    return FractionResult(doses, surfaces, [f"fraction {number}: {note}" for note in notes], dose.sop_uid)


def read_dose(path: Path, notes: list[str]) -> DoseFile:
    """An RTDOSE, or a NIfTI of Gy, told by the file's name."""
    from medpipe.datasets.layouts import NIFTI_ENDINGS
    from medpipe.dicom.rtdose import read_rtdose
    from medpipe.geometry.dose import read_dose_nifti

    if path.name.lower().endswith(NIFTI_ENDINGS):
        notes.append(
            f"{path.name}: a NIfTI names no frame of reference; that it belongs to the structures is not checked"
        )
        return DoseFile(read_dose_nifti(path, notes=notes), path)
    found = read_rtdose(path, notes=notes)
    return DoseFile(found.dose, path, found.frame_of_reference_uid, found.sop_uid, found.patient_id)


def check_linked_to_dose(dose: DoseFile, structures: "DoseStructures", notes: list[str]) -> None:
    """DataFault where dose and structures name different frames of reference or patients."""
    if dose.frame_of_reference_uid and structures.frames:
        if dose.frame_of_reference_uid not in structures.frames:
            raise DataFault(
                dose.path, f"its frame of reference is {dose.frame_of_reference_uid}, that of {structures.path} is "
                f"{', '.join(structures.frames)}: they do not lie in one space",
            )  # fmt: skip
    elif dose.frame_of_reference_uid or structures.frames:
        notes.append("dose and structures cannot be linked by a frame of reference: one of them names none")
    if dose.patient_id and structures.patient_id and dose.patient_id != structures.patient_id:
        raise DataFault(dose.path, f"is of patient {dose.patient_id!r}, {structures.path} of {structures.patient_id!r}")


def check_same_frames(reference: "DoseStructures", predicted: "DoseStructures") -> None:
    if reference.frames and predicted.frames and not set(reference.frames) & set(predicted.frames):
        raise DataFault(
            predicted.path, f"its frame of reference is {', '.join(predicted.frames)}, that of {reference.path} is "
            f"{', '.join(reference.frames)}",
        )  # fmt: skip


def _check_drawn(structures: "DoseStructures", plan: DosePlan, notes: list[str]) -> None:
    target = plan.target
    if target is not None:
        if target not in structures.masks:
            raise DataFault(
                structures.path, f"the target {target} is not among its structures ({', '.join(structures.masks)}); "
                "name another by target, or none for organs alone",
            )  # fmt: skip
        if structures.masks[target].is_empty:
            raise DataFault(structures.path, f"the target {target} is empty")
    absent = [name for name in plan.structures if name not in structures.masks]
    notes += [f"{structures.path.name}: {name} was asked for and is not drawn" for name in absent]


def _structure_doses(
    number: int,
    fraction: FractionConfig,
    plan: DosePlan,
    contour: "Contour",
    structures: "DoseStructures",
    field: "DoseField",
    notes: list[str],
) -> list["StructureDose"]:
    from medpipe.metrics.dose_totals import StructureDose

    found = []
    for name, mask in structures.masks.items():
        histogram, step_mm = _histogram(field, mask, plan.step_mm)
        _check_inside(structures.path, name, histogram.outside_share, plan, notes)
        if mask.is_empty:
            notes.append(f"{structures.path.name}: {name} is empty: nothing is computed for it")
        elif histogram.total_ml < 2:
            notes.append(f"{structures.path.name}: {name} has {histogram.total_ml:.2f} cm3, under 2 cm3: no D2cc")
        if step_mm > plan.step_mm * 1.001:
            notes.append(f"{structures.path.name}: {name} is so large that it is sampled every {step_mm:.2g} mm")
        if fraction.dose_of == "all_fractions":
            histogram = _scaled(histogram, 1 / fraction.delivered)
        found.append(
            StructureDose.of(
                histogram,
                fraction=number,
                delivered=fraction.delivered,
                structure=name,
                contour=contour,
                alpha_beta_gy=plan.alpha_beta.of(name),
                prescription_gy=plan.prescription_gy,
            )
        )
    return found


def _histogram(field: "DoseField", mask: "PlacedMask", step_mm: float) -> Any:
    import numpy as np

    from medpipe.metrics.dose_sampling import sample_structure
    from medpipe.metrics.dosimetry import DoseVolume

    if mask.is_empty:
        return DoseVolume(np.zeros(0), mask.whole.voxel_ml), step_mm
    return sample_structure(field, mask.array, mask.grid, step_mm=step_mm)


def _scaled(histogram: Any, factor: float) -> Any:
    from dataclasses import replace

    return replace(histogram, dose_gy=histogram.dose_gy * factor)


def _check_inside(path: Path, name: str, outside_share: float, plan: DosePlan, notes: list[str]) -> None:
    if not outside_share > 0:
        return
    sentence = f"{name} lies beyond the dose grid with {outside_share:.1%} of its volume"
    if outside_share > 1 - _OUTSIDE_SHARE:
        raise DataFault(path, f"{name} lies wholly beyond the dose grid; do dose and structures belong together?")
    if outside_share > _OUTSIDE_SHARE and plan.outside == "refuse":
        raise DataFault(
            path, f"{sentence}; compute the dose on a larger grid, leave the structure out (structures), or count that "
            "part as 0 Gy (outside: count)",
        )  # fmt: skip
    notes.append(f"{path.name}: {sentence}, counted as 0 Gy")


def _near_surfaces(
    number: int, reference: "DoseStructures", predicted: "DoseStructures", plan: DosePlan, notes: list[str]
) -> list[dict[str, Any]]:
    """One row a structure that both hold; [] without a target."""
    from medpipe.datasets.dose_structures import in_joint_box
    from medpipe.metrics.near_target import distances_near
    from medpipe.metrics.overlap import dice

    absent = [name for name in reference.masks if name not in predicted.masks]
    notes += [f"{predicted.path.name}: {name} is not predicted" for name in absent]
    if plan.target is None:
        notes.append("no target: surface distances near it are left out")
        return []
    target = reference.masks[plan.target]
    rows = []
    for name in [name for name in reference.masks if name in predicted.masks]:
        pair: Sequence[PlacedMask] = (reference.masks[name], predicted.masks[name], target)
        ref, pred, near = in_joint_box(pair)
        found = distances_near(ref, pred, near, spacing_mm=reference.grid.spacing_mm)
        rows.append(
            {
                "fraction": number,
                "structure": name,
                "dice": dice(ref, pred),
                "near_hd95_mm": found.hd95_mm(),
                "near_assd_mm": found.assd_mm(),
                "near_asd_mm": found.asd_mm(),
                "near_ref_voxels": len(found.ref_to_pred_mm),
                "near_pred_voxels": len(found.pred_to_ref_mm),
            }
        )
    return rows
