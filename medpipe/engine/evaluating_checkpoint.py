"""`medpipe evaluate` of a checkpoint: predict the cases of a manifest, then score them as a folder is scored."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medpipe.config.base import StageRef
from medpipe.datasets.cases import CasesConfig, DataConfig, list_cases
from medpipe.engine.evaluation import EvaluateOptions, Evaluation, known_manifest, wrong
from medpipe.geometry.faults import DataFault, DataFaults
from medpipe.stages.predictions import MEMBERS_FILE
from medpipe.stages.stage import StageRun, write_json
from medpipe.tasks.model_record import RECORD_FILE, WEIGHTS_FILE, ModelRecord, read_record
from medpipe.tasks.options import PredictionConfig

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from medpipe.reporting.content import CaseView

REQUEST_FILE = "request.json"  # what the folder's predictions were made of
CHECKPOINT = StageRef.model_validate({"from": "checkpoint"})


@dataclass(frozen=True)
class Checkpoint:
    """Networks that medpipe trained: the folder of a stage, or of one network."""

    folder: Path
    networks: tuple[Path, ...]
    record: ModelRecord  # of the first
    run_folder: Path | None  # of the run that it lies in

    def patients_seen(self) -> set[str]:
        """The patients that any of the networks was trained on, as far as their records say."""
        records = [read_record(folder) for folder in self.networks]
        return {str(patient) for record in records for patient in record.training.get("patients", ())}

    def identity(self) -> list[str]:
        """The weights' checksums: what says that predictions are of these networks."""
        return [hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest() for folder in self.networks]


def find_checkpoint(path: Path) -> Checkpoint | None:
    """The checkpoint that `path` is; None where it is something else. ConfigError for a run of several."""
    if path.is_file() and path.name in (WEIGHTS_FILE, RECORD_FILE, MEMBERS_FILE):
        path = path.parent
    if (path / MEMBERS_FILE).is_file():
        kept = json.loads((path / MEMBERS_FILE).read_text(encoding="utf-8"))
        networks = tuple(path / member["folder"] for member in kept["members"])
    elif (path / RECORD_FILE).is_file():
        networks = (path,)
    else:
        stages = sorted({file.parent for name in (MEMBERS_FILE, RECORD_FILE) for file in path.glob(f"*/{name}")})
        if stages:
            listed = ", ".join(str(stage) for stage in stages)
            raise wrong(f"{path} is a run with several checkpoints; name one: {listed}")
        return None
    run = next((above for above in (path, *path.parents[:3]) if (above / "record.json").is_file()), None)
    return Checkpoint(path, networks, read_record(networks[0]), run)


def data_of(checkpoint: Checkpoint, root: Path | None) -> DataConfig:
    """Where the cases lie: below `root`, else where the checkpoint's own run found them."""
    from medpipe.config.reader import read_tree
    from medpipe.config.tree import node_at
    from medpipe.config.validation import validate

    if root is not None:
        return DataConfig(root=root)
    kept = checkpoint.run_folder / "workflow.yaml" if checkpoint.run_folder else None
    node = node_at(read_tree(kept), ("data",)) if kept is not None and kept.is_file() else None
    if node is None:
        raise wrong(f"{checkpoint.folder} does not lie in a run that says where data are; give --data-root")
    return validate(DataConfig, node)


def chosen_cases(manifest: str, part: str, data: DataConfig, checkpoint: Checkpoint, notes: list[str]) -> CasesConfig:
    """The chosen cases, every file of them read whole once; DataFaults with all faults.

    Patients that the networks were trained on are counted in the notes: their scores say little.
    """
    from rich.console import Console

    from medpipe.engine.checking import check_data_set

    known = known_manifest(manifest).structures
    shared = [name for name in checkpoint.record.structures if name in known]
    if checkpoint.record.structures and not shared:
        raise wrong(
            f"{checkpoint.folder} predicts {', '.join(checkpoint.record.structures)}; the manifest {manifest} names "
            "none of them"
        )
    chosen = CasesConfig(manifest=manifest, part=part)  # type: ignore[arg-type]  # the command line knows the three
    whole = CasesConfig(manifest=manifest)
    silent = Console(quiet=True)
    faults = check_data_set(whole, data, Path.cwd(), jobs=None, console=silent, show_cases=False)
    if faults:
        raise DataFaults(faults)
    cases = list_cases(chosen, data, Path.cwd())
    if checkpoint.record.structures and not any(case.labels for case in cases):
        raise DataFault(Path(manifest), f"none of its {len(cases)} cases has labels: there is nothing to score against")
    seen = checkpoint.patients_seen() & {case.patient_id for case in cases}
    if seen:
        notes.append(
            f"{len(seen)} of the {len({case.patient_id for case in cases})} patients were in the training of this "
            "checkpoint (by their names); their scores say little about others: --part test leaves them out where the "
            "manifest has a test part"
        )
    if data.source == "phantom":
        notes.append("The cases are generated phantoms: the scores say nothing about patients.")
    return chosen


def begin(output: Path, checkpoint: Checkpoint, chosen: CasesConfig, *, force: bool) -> None:
    """Claim the folder for this evaluation: what an earlier, stopped call predicted for the same is taken up."""
    import shutil

    request = {
        "checkpoint": str(checkpoint.folder),
        "weights": checkpoint.identity(),
        "cases": chosen.model_dump(mode="json"),
        "prediction": PredictionConfig().model_dump(mode="json"),
    }
    path = output / REQUEST_FILE
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    # A checkpoint that was moved is the same; what counts are its weights.
    if before is not None and {**before, "checkpoint": ""} != {**request, "checkpoint": ""}:
        if not force:
            raise wrong(f"{output} holds predictions of other weights or cases; give another --output, or --force")
        shutil.rmtree(output / "predictions", ignore_errors=True)
    output.mkdir(parents=True, exist_ok=True)
    write_json(path, request)


def evaluate_checkpoint(
    checkpoint: Checkpoint, options: EvaluateOptions, output: Path, console: "Console"
) -> Evaluation:
    """Predict every case of the manifest into `output`, then score. A stopped call goes on; StopRequested is raised.

    A masked pretraining predicts nothing but what was hidden: it is scored by its reconstructions.
    """
    from medpipe.engine.output import RunOutput
    from medpipe.engine.signals import StopFlag

    assert options.manifest is not None
    is_pretraining = checkpoint.record.kind == "masked_pretraining"
    if is_pretraining and (options.structures or options.tolerances_mm != (2.0,)):
        raise wrong(f"{checkpoint.folder} is a masked pretraining, which knows no structures: no --structures or NSD")
    notes: list[str] = []
    data = data_of(checkpoint, options.data_root)
    part = options.part or "all"
    chosen = chosen_cases(options.manifest, part, data, checkpoint, notes)
    begin(output, checkpoint, chosen, force=options.force)
    facts = {
        "checkpoint": str(checkpoint.folder),
        "networks": f"{len(checkpoint.networks)}",
        "cases": f"{options.manifest}, {part}",
        "prediction": f"overlap {PredictionConfig().overlap:g}, not mirrored",
        "data": "generated phantoms" if data.source == "phantom" else str(data.root),
    }
    with StopFlag() as stop:
        run = StageRun(
            name="evaluate",
            folder=output,
            seed=0,
            data=data,
            inputs={CHECKPOINT.from_: checkpoint.folder},
            output=RunOutput(console),
            should_stop=stop.is_set,
            base=Path.cwd(),
        )
        if is_pretraining:
            from medpipe.engine.evaluating_pretraining import score_reconstructions

            scores = score_reconstructions(checkpoint.folder, checkpoint.record, chosen, run, options.jobs)
            return Evaluation(scores, tuple(notes), facts, kind="reconstruction")
        scores, views = predict_and_score(run, chosen, options, notes)
    return Evaluation(scores, tuple(notes), facts, views)


def predict_and_score(
    run: StageRun, chosen: CasesConfig, options: EvaluateOptions, notes: list[str]
) -> "tuple[pd.DataFrame, list[tuple[str, CaseView]]]":
    """The stage of prediction and the scores of what it left; best, median and worst case."""
    from medpipe.stages.report import notable_views
    from medpipe.stages.segmentation_evaluation import score_predictions
    from medpipe.stages.segmentation_prediction import SegmentationPrediction

    stage = SegmentationPrediction(
        stage="segmentation_prediction", models=(CHECKPOINT,), cases=chosen, write_rtstruct=False
    )
    stage.run(run)
    scores, not_annotated = score_predictions(run, run.folder, tolerances_mm=options.tolerances_mm, jobs=options.jobs)
    if not_annotated:
        notes.append(
            f"{len(not_annotated)} structures are not annotated in their case and not scored: "
            f"{', '.join(not_annotated[:8])}" + (" ..." if len(not_annotated) > 8 else "")
        )
    known = list(dict.fromkeys(scores["structure"]))
    unknown = [name for name in options.structures if name not in known]
    if unknown:
        raise wrong(f"no structure {', '.join(unknown)} was scored; the checkpoint and the cases share {known}")
    if options.structures:
        scores = scores.loc[scores["structure"].isin(options.structures), :].reset_index(drop=True)
    return scores, notable_views(run, run.folder, scores) if bool(scores["dice"].notna().any()) else []
