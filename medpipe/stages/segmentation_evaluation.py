"""Score predictions against the reference structures, on the reference's grid.

takes   the predictions of a stage of kind segmentation_prediction
leaves  scores.csv (one row per model, case and structure), summary.json
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

from pydantic import Field, field_validator

from medpipe.config.base import StageRef, execution
from medpipe.datasets.cases import Case, CasesConfig
from medpipe.geometry.atomic import written_beside
from medpipe.stages.predictions import PredictedModel, predicted_structures, read_predictions, reference_structures
from medpipe.stages.stage import Stage, StageRun, cores

if TYPE_CHECKING:
    import pandas as pd

SCORES_FILE = "scores.csv"


@dataclass(frozen=True)
class CaseTask:
    """One case to score, for a worker: the predictions of every model on it."""

    case: Case
    models: tuple[PredictedModel, ...]
    folder: Path
    tolerances_mm: tuple[float, ...]


@final
class SegmentationEvaluation(Stage):
    """Overlap, volumes, HD95 in four forms, ASSD, ASD and NSD; missed and false structures are counted."""

    version: ClassVar[int] = 2
    takes: ClassVar[dict[str, tuple[str, ...]]] = {"predictions": ("segmentation_prediction",)}

    stage: Literal["segmentation_evaluation"]
    predictions: StageRef
    tolerances_mm: tuple[float, ...] = Field((2.0,), min_length=1, description="of the normalised surface Dice")
    jobs: int | None = execution(None, ge=1, description="worker processes; default: the cores, as far as memory lasts")

    @field_validator("tolerances_mm")
    @classmethod
    def _are_above_zero(cls, tolerances_mm: tuple[float, ...]) -> tuple[float, ...]:
        if min(tolerances_mm) <= 0 or len(set(tolerances_mm)) < len(tolerances_mm):
            raise ValueError(f"tolerances are different numbers above 0 mm, got {list(tolerances_mm)}")
        return tolerances_mm

    def run(self, run: StageRun) -> None:
        from medpipe.metrics.aggregation import summary
        from medpipe.reporting.tables import print_score_table

        scores, not_annotated = score_predictions(
            run, run.folder_of(self.predictions), tolerances_mm=self.tolerances_mm, jobs=self.jobs
        )
        with written_beside(run.path(SCORES_FILE)) as partial:
            scores.to_csv(partial, index=False)
        table = summary(scores)
        run.write_json("summary.json", {"scores": table.to_dict(orient="records"), "not_annotated": not_annotated})
        print_score_table(scores, run.output.console)
        if not_annotated:
            run.output.warn(
                f"{len(not_annotated)} structures are not annotated in their case and not scored: "
                f"{', '.join(not_annotated[:8])}"
            )


def score_predictions(
    run: StageRun, folder: Path, *, tolerances_mm: Sequence[float], jobs: int | None
) -> "tuple[pd.DataFrame, list[str]]":
    """The rows of every model, case and structure that a prediction left in `folder`; and what is not annotated.

    Raises ValueError where no case has an annotated structure.
    """
    import pandas as pd

    from medpipe.datasets.cases import list_cases
    from medpipe.datasets.estimates import estimated_bytes
    from medpipe.datasets.workers import work_through

    record = read_predictions(folder)
    cases = list_cases(CasesConfig.model_validate_json(record.cases_json), run.data, run.base)
    tasks = [CaseTask(case, record.models, folder, tuple(tolerances_mm)) for case in cases]
    with run.output.progress("scoring", len(tasks)) as progress:
        scored = work_through(
            score_case,
            tasks,
            names=[case.case_id for case in cases],
            jobs=cores(jobs),
            # The prediction stands beside what was read: masks at worst, as many as the reference has.
            bytes_per_item=[2 * estimated_bytes(case) for case in cases],
            should_stop=run.should_stop,
            on_result=lambda index, result: progress.advance(),
        )
    rows = [row for of_case in scored for row in of_case[0]]
    if not rows:
        raise ValueError(f"none of the {len(cases)} cases has an annotated structure to compare with")
    order = {(model.title, model.share): rank for rank, model in enumerate(record.models)}
    rows.sort(key=lambda row: order[row["model"], row["labelled_share"]])
    return pd.DataFrame(rows), [name for of_case in scored for name in of_case[1]]


def score_case(task: CaseTask) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of one case, and the structures of it that are not annotated and so not scored."""
    from medpipe.datasets.reading import read_case
    from medpipe.metrics.definitions import DEFINITION
    from medpipe.metrics.scoring import score_structures

    read = read_case(task.case)
    reference = reference_structures(read, task.case.structures)
    rows, left_out = [], []
    for model in task.models:
        known = [name for name in model.structures if reference is not None and reference.mask_is_known(name)]
        left_out += [f"{name} of {task.case.case_id}" for name in model.structures if name not in known]
        if reference is None or not known:
            continue
        scores = score_structures(
            reference,
            predicted_structures(task.folder, model, task.case.case_id),
            known,
            spacing_mm=read.volume.spacing_mm,
            tolerances_mm=task.tolerances_mm,
        )
        key = {"model": model.title, "labelled_share": model.share, "case_id": task.case.case_id}
        key["patient_id"] = task.case.patient_id
        rows += [{**key, "structure": name, **score.row(), "definition": DEFINITION} for name, score in scores.items()]
    return rows, list(dict.fromkeys(left_out))
