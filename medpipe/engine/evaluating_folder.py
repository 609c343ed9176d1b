"""`medpipe evaluate` of a folder of predictions against a folder of references."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medpipe.datasets.label_folders import LabelSource, find_label_sources, label_names, mask_files
from medpipe.datasets.manifest import Manifest
from medpipe.engine.evaluation import EvaluateOptions, Evaluation, known_manifest
from medpipe.geometry.faults import DataFault, DataFaults
from medpipe.stages.folder_scoring import CaseScores, FolderCase, score_folder_case
from medpipe.stages.stage import cores

if TYPE_CHECKING:
    from rich.console import Console


def evaluate_folder(predictions: Path, references: Path, options: EvaluateOptions, console: "Console") -> Evaluation:
    """Every reference against its prediction. Faults of the data are raised together as DataFaults."""
    known = known_manifest(options.manifest) if options.manifest else None
    cases, notes = pair_cases(
        predictions,
        references,
        known,
        options.missing_cases,
        options.structures,
        options.tolerances_mm,
        resample=options.resample,
    )
    found = score_cases(cases, cores(options.jobs), console)
    return gather(found, cases, predictions, references, options.patients, notes)


def pair_cases(
    predictions: Path,
    references: Path,
    manifest: Manifest | None,
    missing_cases: str,
    structures: tuple[str, ...],
    tolerances_mm: tuple[float, ...],
    *,
    resample: bool,
) -> tuple[list[FolderCase], list[str]]:
    """Each reference with its prediction, and notes on the cases that stand on one side only."""
    found_ref, found_pred = find_label_sources(references), find_label_sources(predictions)
    if references.is_file() and predictions.is_file():  # two files are one case, whatever they are called
        found_pred = dict(zip(found_ref, found_pred.values(), strict=True))
    without = [case_id for case_id in found_ref if case_id not in found_pred]
    unasked = [case_id for case_id in found_pred if case_id not in found_ref]
    if len(without) == len(found_ref):
        raise DataFault(
            predictions, f"no case of the references: {_few(list(found_pred))} against {_few(list(found_ref))}"
        )
    notes = []
    if without and missing_cases == "refuse":
        raise DataFaults([DataFault(predictions, f"no prediction of case {case_id}") for case_id in without])
    if without:
        notes.append(f"{len(without)} cases have no prediction; all their structures count as missed: {_few(without)}")
    if unasked:
        notes.append(f"{len(unasked)} predictions have no reference and are not scored: {_few(unasked)}")
    names_ref, names_pred = label_names(references, manifest), label_names(predictions, manifest)
    if manifest is None and bool(names_ref) != bool(names_pred) and _has_label_maps(found_ref, found_pred):
        notes.append("only one side names its label values; its names were taken for both")
    names_ref, names_pred = names_ref or names_pred, names_pred or names_ref
    aliases = manifest.aliases if manifest else {}
    cases = [
        FolderCase(source, found_pred.get(case_id), names_ref, names_pred, aliases, structures, tolerances_mm, resample)
        for case_id, source in found_ref.items()
    ]
    return cases, notes


def _has_label_maps(*sides: dict[str, LabelSource]) -> bool:
    return all(any(source.form == "label_map" for source in side.values()) for side in sides)


def score_cases(cases: list[FolderCase], jobs: int, console: "Console") -> list[CaseScores]:
    """All cases in worker processes; what the report needs is imported meanwhile."""
    from dataclasses import replace

    from medpipe.datasets.workers import work_through
    from medpipe.engine.output import RunOutput

    if len(cases) < jobs:
        cases = [replace(case, num_threads=max(1, jobs // len(cases))) for case in cases]
    threading.Thread(target=_import_report, daemon=True).start()
    with RunOutput(console).progress("scoring", len(cases)) as progress:
        return work_through(
            score_folder_case,
            cases,
            names=[case.reference.case_id for case in cases],
            jobs=jobs,
            bytes_per_item=[memory_of(case) for case in cases],
            on_result=lambda index, result: progress.advance(),
        )


def _import_report() -> None:
    """pandas, matplotlib and jinja take two seconds to import: as long as a case takes to read."""
    import matplotlib.figure  # noqa: F401

    import medpipe.reporting.report  # noqa: F401


def memory_of(case: FolderCase) -> int:
    """Bytes that a case may take: both sides and what reading them takes (file, array, narrow copy).

    From the files' lengths, without a reader: importing one takes as long as a case, before any worker has begun.
    """
    total = 0
    for source in (case.reference, case.prediction):
        if source is None or source.form == "rtstruct":
            continue
        path = source.path if source.form == "label_map" else next(iter(mask_files(source.path).values()))
        try:
            total += 3 * unpacked_bytes(path)
        except OSError:  # whatever is wrong with the file, the worker that reads it says it by name
            continue
    return total


def unpacked_bytes(path: Path) -> int:
    """The length of a file, of a gzip file its content's (modulo 4 GiB, as its last four bytes tell)."""
    if path.suffix != ".gz":
        return path.stat().st_size
    with path.open("rb") as file:
        file.seek(-4, 2)
        return int.from_bytes(file.read(4), "little")


def gather(
    found: list[CaseScores],
    cases: list[FolderCase],
    predictions: Path,
    references: Path,
    patients: Path | None,
    notes: Sequence[str],
) -> Evaluation:
    """One table, with patients; all faults together; what was handled, as counted sentences."""
    import pandas as pd

    faults = [case.fault for case in found if case.fault is not None]
    if faults:
        raise DataFaults(faults)
    known = list(dict.fromkeys(name for case in found for name in case.known))
    asked = cases[0].structures
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise DataFault(references, f"no structure {', '.join(unknown)}; the references hold {', '.join(known)}")
    rows = [row for case in found for row in case.rows]
    if not rows:
        raise DataFault(references, "no structure to score in any case")
    said = list(notes)
    patient_of = patients_of(found, references, patients, said)
    scores = pd.DataFrame(rows)
    scores.insert(0, "model", (predictions if predictions.is_dir() else predictions.parent).resolve().name)
    scores.insert(1, "labelled_share", 1.0)
    scores.insert(3, "patient_id", [patient_of[case_id] for case_id in scores["case_id"]])
    resampled = list(dict.fromkeys(scores.loc[scores["resampled"], "case_id"]))
    if resampled:
        said.append(f"{len(resampled)} predictions were brought to their reference's grid (nearest): {_few(resampled)}")
    unannotated = [f"{name} of {case.case_id}" for case in found for name in case.not_annotated]
    if unannotated:
        said.append(
            f"{len(unannotated)} predicted structures are not in their reference, not scored: {_few(unannotated)}"
        )
    said += [f"{case.case_id}: {note}" for case in found for note in case.notes]
    facts = {"predictions": str(predictions), "references": str(references)}
    return Evaluation(scores, tuple(said), facts)


def patients_of(found: list[CaseScores], references: Path, patients: Path | None, notes: list[str]) -> dict[str, str]:
    """Case -> patient: from the table, else DICOM's PatientID, else each case its own patient."""
    from medpipe.datasets.tables import read_table

    table = patients or (references / "patients.csv" if references.is_dir() else None)
    if table is None or (patients is None and not table.is_file()):
        if not any(case.dicom_patient_id for case in found):
            notes.append("no table of patients: each case is taken as a patient of its own (--patients FILE)")
        return {case.case_id: case.dicom_patient_id or case.case_id for case in found}
    listed: dict[str, str] = {}
    for row in read_table(table, ("case_id", "patient_id")):
        if listed.setdefault(row["case_id"], row["patient_id"]) != row["patient_id"]:
            raise DataFault(
                table, f"case {row['case_id']} has two patients, {listed[row['case_id']]} and {row['patient_id']}"
            )
    missing = [case.case_id for case in found if case.case_id not in listed]
    if missing:
        raise DataFault(table, f"no patient of {len(missing)} cases: {_few(missing)}")
    return listed


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
