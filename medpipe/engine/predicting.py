"""`medpipe predict`: a trained model on CTs that nobody has labelled, out as RTSTRUCT, SEG, NIfTI and a report."""

import hashlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medpipe.engine.evaluating_checkpoint import CHECKPOINT, Checkpoint, find_checkpoint
from medpipe.engine.peak_memory import PeakMemory
from medpipe.engine.prediction_inputs import PredictionInput, prediction_inputs, wrong
from medpipe.engine.prediction_outputs import OF_DICOM, OUTPUTS, OutputOptions, case_folder, write_outputs
from medpipe.geometry.faults import DataFault, DataFaults
from medpipe.stages.predictions import PredictedModel
from medpipe.stages.stage import StopRequested, write_json
from medpipe.tasks.options import PredictionConfig

if TYPE_CHECKING:
    from rich.console import Console

    from medpipe.dicom.maker import Model
    from medpipe.stages.segmentation_prediction import Ensemble

CASE_FILE, SUMMARY_FILE = "case.json", "summary.json"
ROI_TYPES = (
    "AVOIDANCE", "BRACHY_ACCESSORY", "BRACHY_CHANNEL", "CAVITY", "CONTROL", "CTV", "EXTERNAL", "GTV", "ORGAN", "PTV",
    "SUPPORT",
)  # fmt: skip


def predict_command(
    checkpoint: Path,
    source: str,
    options: OutputOptions,
    *,
    to: Path,
    series_uid: str | None,
    data_root: Path | None,
    part: str | None,
    force: bool,
    as_json: bool,
) -> int:
    """Predict each case, write what was asked for and tell; the exit code. Faults of inputs come before any work."""
    from rich.console import Console

    options = checked(options)
    found = find_checkpoint(checkpoint)
    if found is None or found.record.output is None:
        raise wrong(f"{checkpoint} is no segmentation model of medpipe (a folder with members.json or model.json)")
    _check_types(options, found)
    inputs = prediction_inputs(source, series_uid=series_uid, data_root=data_root, part=part)
    without = [one.case_id for one in inputs if not one.is_dicom]
    refused = [kind for kind in options.kinds if kind in OF_DICOM]
    if without and refused:
        raise wrong(
            f"{', '.join(refused)} refers to the images of a DICOM series; {', '.join(without[:5])} is none: "
            "use --output nifti"
        )
    console = Console(stderr=as_json, soft_wrap=not sys.stdout.isatty())
    console.print("for research use only, not a medical device", style="dim")
    try:
        cases, faults = predict_all(found, inputs, options, to, force=force, console=console)
    except StopRequested:
        print("stopped on request; the same command goes on from there", file=sys.stderr)
        return 75
    except OSError as error:  # a full disk, a folder that is not ours
        print(f"medpipe predict: {error.filename or to}: {error.strerror or error}", file=sys.stderr)
        return 1
    document = write_summary(to, found, cases, faults)
    if as_json:
        print(json.dumps(document, indent=2))
    if faults:
        raise DataFaults(faults)
    return 0


def checked(options: OutputOptions) -> OutputOptions:
    """The options, refused where they mean nothing; the UID root with its dot."""
    from dataclasses import replace

    from medpipe.dicom.writing import UID_ROOT, checked_root

    unknown = [kind for kind in options.kinds if kind not in OUTPUTS]
    if unknown or not options.kinds:
        raise wrong(f"--output: {', '.join(unknown) or 'nothing'} is none of {', '.join(OUTPUTS)}")
    try:
        return replace(options, uid_root=checked_root(options.uid_root or UID_ROOT))
    except ValueError as error:
        raise wrong(f"--uid-root: {error}") from None


def _check_types(options: OutputOptions, checkpoint: Checkpoint) -> None:
    for structure, kind in options.roi_types:
        if structure not in checkpoint.record.structures:
            raise wrong(f"--roi-type {structure}: the model finds {', '.join(checkpoint.record.structures)}")
        if kind not in ROI_TYPES:
            raise wrong(f"--roi-type {structure}={kind}: none of {', '.join(ROI_TYPES)}")


def predict_all(
    checkpoint: Checkpoint,
    inputs: Sequence[PredictionInput],
    options: OutputOptions,
    to: Path,
    *,
    force: bool,
    console: "Console",
) -> tuple[list[dict[str, Any]], list[DataFault]]:
    """Every case in turn. A faulty one is told and the others go on; one that is there for the same request is kept."""
    from medpipe.engine.signals import StopFlag
    from medpipe.stages.segmentation_prediction import models_of

    predicted, folders = models_of(CHECKPOINT, checkpoint.folder)[0]
    model = model_of(checkpoint, predicted)
    requests = {one.case_id: request_of(one, checkpoint, options) for one in inputs}
    finished = {one.case_id: _finished(to, one, requests[one.case_id], force=force) for one in inputs}
    ensemble = loaded(folders) if not all(finished.values()) else None
    cases: list[dict[str, Any]] = []
    faults: list[DataFault] = []
    with StopFlag() as stop:
        for one in inputs:
            kept = finished[one.case_id]
            if kept is None:
                assert ensemble is not None
                try:
                    kept = predict_one(one, ensemble, predicted, model, options, to, requests[one.case_id], stop.is_set)
                except DataFault as fault:
                    faults.append(fault)
                    console.print(f"{one.case_id}: refused: {fault.reason}", style="red", markup=False, highlight=False)
                    continue
            cases.append(kept)
            tell(kept, console)
    return cases, faults


def loaded(folders: list[Path]) -> "Ensemble":
    """The networks; DataFault for weights that are damaged or do not fit their record."""
    from medpipe.stages.segmentation_prediction import Ensemble

    try:
        return Ensemble.load(folders)
    except ValueError as error:
        raise DataFault(folders[0], str(error)) from error


def predict_one(
    one: PredictionInput,
    ensemble: "Ensemble",
    predicted: PredictedModel,
    model: "Model",
    options: OutputOptions,
    to: Path,
    request: str,
    should_stop: Any,
) -> dict[str, Any]:
    """Read, predict, write and check one case; what is kept of it in case.json."""
    from medpipe.reporting.case_pdf import found_structures
    from medpipe.tasks.prediction import predict_case
    from medpipe.tasks.sliding_window import PredictionStopped

    notes = list(one.notes)
    began, memory = time.monotonic(), PeakMemory()
    volume, series = one.read(notes)
    try:
        prediction = predict_case(
            ensemble.networks, volume, ensemble.preprocessing, patch_size=ensemble.patch_size, output=ensemble.output,
            structures=ensemble.structures, config=PredictionConfig(), device=ensemble.device, should_stop=should_stop,
        )  # fmt: skip
    except PredictionStopped as stopped:
        raise StopRequested(one.case_id) from stopped
    final = to / one.case_id
    with case_folder(final) as partial:
        outputs = write_outputs(partial, volume, prediction, series, predicted, model, options, notes)
        entry = {
            "case_id": one.case_id,
            "source": str(one.source),
            "series_uid": one.series_uid,
            "why": one.why,
            "slices": volume.shape[0],
            "outputs": outputs,
            "structures": {
                row.name: {"volume_ml": round(row.volume_ml, 3), "slices": row.num_slices}
                for row in found_structures(prediction, predicted.structures)
            },
            "seconds": round(time.monotonic() - began, 2),
            **memory.peak(),
            "notes": notes,
            "request": request,
        }
        write_json(partial / CASE_FILE, entry)
    return entry


def model_of(checkpoint: Checkpoint, predicted: PredictedModel) -> "Model":
    """Name and one checksum of all networks: of one, that of its weights file."""
    from medpipe.dicom.maker import Model

    sums = checkpoint.identity()
    joined = sums[0] if len(sums) == 1 else hashlib.sha256("\n".join(sums).encode()).hexdigest()
    title = predicted.title if predicted.title else checkpoint.folder.resolve().name
    return Model(title, joined, checkpoint.record.medpipe_version)


def request_of(one: PredictionInput, checkpoint: Checkpoint, options: OutputOptions) -> str:
    """What a finished case answers: weights, options and the CT's files by name, size and time."""
    files = one.files or (one.source,)
    stats = [(path.name, (stat := path.stat()).st_size, stat.st_mtime_ns) for path in files]
    content = repr((checkpoint.identity(), options, one.series_uid, stats, PredictionConfig().model_dump()))
    return hashlib.sha256(content.encode()).hexdigest()


def _finished(to: Path, one: PredictionInput, request: str, *, force: bool) -> dict[str, Any] | None:
    folder = to / one.case_id
    if force or not folder.exists():
        return None
    kept = json.loads((folder / CASE_FILE).read_text(encoding="utf-8")) if (folder / CASE_FILE).is_file() else {}
    if kept.get("request") != request:
        raise wrong(f"{folder} holds something else (other weights, input or options); give another --to, or --force")
    return kept


def write_summary(
    to: Path, checkpoint: Checkpoint, cases: Sequence[dict[str, Any]], faults: Sequence[DataFault]
) -> dict[str, Any]:
    """summary.json: model, cases, faults, versions."""
    from medpipe.engine.record import host, now, versions

    document = {
        "date": now(),
        "checkpoint": str(checkpoint.folder),
        "weights_sha256": checkpoint.identity(),
        "research_use_only": True,
        "cases": list(cases),
        "faults": [{"path": str(fault.path), "reason": fault.reason} for fault in faults],
        "versions": versions(),
        "host": host(),
    }
    write_json(to / SUMMARY_FILE, document)
    return document


def tell(case: dict[str, Any], console: "Console") -> None:
    """What a person wants to know of a case."""
    chosen = f"series {case['series_uid']} ({case['why']}), " if case["why"] else ""
    files = ", ".join(entry["file"] for entry in case["outputs"].values())
    peak = f"peak {case['peak_memory_mib']} MiB" + (" (whole process)" if case["peak_of"] == "process" else "")
    lines = [f"{case['case_id']}: {chosen}{case['slices']} slices, {case['seconds']:.1f} s, {peak}: {files}"]
    found = [f"{name} {row['volume_ml']:.1f} ml" for name, row in case["structures"].items() if row["slices"]]
    missing = [name for name, row in case["structures"].items() if not row["slices"]]
    lines.append("  found: " + (", ".join(found) or "nothing"))
    if missing:
        lines.append("  not found: " + ", ".join(missing))
    lines += [f"  note: {note}" for note in case["notes"]]
    for line in lines:
        console.print(line, highlight=False, markup=False)
