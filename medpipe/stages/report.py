"""Gather scores, curves, cases and the record of the run into one self-contained HTML file.

takes   the evaluation, the comparison, the predictions whose best and worst are drawn, the trainings whose curves are
        shown
leaves  report.html
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

from pydantic import Field, model_validator

from medpipe.config.base import StageRef
from medpipe.datasets.cases import CasesConfig
from medpipe.stages.predictions import PredictedModel, prediction_of, read_predictions, reference_masks
from medpipe.stages.segmentation_evaluation import SCORES_FILE
from medpipe.stages.stage import Stage, StageRun

if TYPE_CHECKING:
    import pandas as pd

    from medpipe.metrics.comparison import Comparison
    from medpipe.reporting.content import CaseView, Reconstruction

REPORT_FILE = "report.html"


@final
class ReportStage(Stage):
    """Scores, learning curves, best, median and worst case, reconstruction, transfers, definitions, record."""

    version: ClassVar[int] = 1
    takes: ClassVar[dict[str, tuple[str, ...]]] = {
        "evaluation": ("segmentation_evaluation",),
        "comparison": ("comparison",),
        "predictions": ("segmentation_prediction",),
        "trainings": ("masked_pretraining", "segmentation_training"),
    }

    stage: Literal["report"]
    evaluation: StageRef | None = None
    comparison: StageRef | None = None
    predictions: StageRef | None = Field(None, description="what was evaluated: without it no case is shown")
    trainings: tuple[StageRef, ...] = ()
    summary: str = Field("", description="a paragraph to stand above the numbers")

    @model_validator(mode="after")
    def something_to_report(self) -> "ReportStage":
        if self.evaluation is None and not self.trainings:
            raise ValueError("a report needs 'evaluation' or 'trainings'")
        return self

    def run(self, run: StageRun) -> None:
        import pandas as pd

        from medpipe.reporting.content import ReportContent
        from medpipe.reporting.report import write_report

        record = run.context["record"]
        evaluation = run.folder_of(self.evaluation) if self.evaluation else None
        scores = pd.read_csv(evaluation / SCORES_FILE) if evaluation else None
        folders = {ref.from_: run.folder_of(ref) for ref in self.trainings}
        content = ReportContent(
            title=run.context["title"],
            run=run.context["directory"].name,
            date=record["sessions"][-1]["started"],
            summary=self.summary,
            notes=run.context["notes"],
            scores=scores,
            comparisons=comparisons_of(run.folder_if_named(self.comparison)),
            curves={name: curve for stage, folder in folders.items() for name, curve in curves_of(stage, folder)},
            cases=notable_views(run, run.folder_of(self.predictions), scores)
            if self.predictions is not None and scores is not None
            else (),
            reconstruction=next(filter(None, (reconstruction_of(folder) for folder in folders.values())), None),
            transfers={name: entry for stage, folder in folders.items() for name, entry in transfers_of(stage, folder)},
            record=flat_record(record, run.context["stages"]),
            workflow=run.context["workflow_text"],
        )
        write_report(run.path(REPORT_FILE), content)


def comparisons_of(folder: Path | None) -> "list[tuple[str, Comparison]]":
    """The comparisons that a stage left."""
    from medpipe.reporting.comparison import read_comparison
    from medpipe.stages.comparison import comparison_files

    return [] if folder is None else [(title, read_comparison(path)) for title, path in comparison_files(folder)]


def curves_of(stage: str, folder: Path) -> "list[tuple[str, pd.DataFrame]]":
    """The learning curves of a training stage: one, or one a member."""
    import pandas as pd

    return [(name_of(stage, folder, path), pd.read_csv(path)) for path in sorted(folder.rglob("metrics.csv"))]


def transfers_of(stage: str, folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """What each training loaded from an earlier one."""
    found = sorted(folder.rglob("transfer.json"))
    return [(name_of(stage, folder, path), json.loads(path.read_text(encoding="utf-8"))) for path in found]


def name_of(stage: str, folder: Path, path: Path) -> str:
    """The stage's name, with the member where it trained several networks."""
    member = path.parent.relative_to(folder)
    return stage if member == Path() else f"{stage} ({member.as_posix().replace('_', ' ').replace('/', ', ')})"


def reconstruction_of(folder: Path) -> "Reconstruction | None":
    """The sample that a masked pretraining left, if this stage is one."""
    import numpy as np

    from medpipe.reporting.content import Reconstruction
    from medpipe.tasks.model_record import read_record

    path = folder / "reconstruction.npz"
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as kept:
        return Reconstruction(
            case_id=str(kept["case_id"]),
            original=kept["original"],
            masked=kept["masked"],
            reconstructed=kept["reconstructed"],
            spacing_mm=read_record(folder).preprocessing["spacing_mm"],
        )


def notable_views(run: StageRun, folder: Path, scores: "pd.DataFrame") -> "list[tuple[str, CaseView]]":
    """The best, median and worst case of the first model, with their contours; `folder` holds the predictions."""
    from medpipe.datasets.cases import list_cases
    from medpipe.metrics.aggregation import notable_cases

    predictions = read_predictions(folder)
    model = predictions.models[0]
    selection = CasesConfig.model_validate_json(predictions.cases_json)
    cases = {case.case_id: case for case in list_cases(selection, run.data, run.base)}
    of_model = scores.loc[(scores["model"] == model.title) & (scores["labelled_share"] == model.share), :]
    return [
        (role, view_of(cases[case_id], folder, model, of_model))
        for role, case_id in notable_cases(of_model, model=model.title)
    ]


def view_of(case: Any, folder: Path, model: PredictedModel, scores: "pd.DataFrame") -> "CaseView":
    """A case with reference and prediction in canonical orientation."""
    import numpy as np

    from medpipe.datasets.reading import read_case
    from medpipe.geometry.orientation import to_canonical
    from medpipe.geometry.volume import MaskStack
    from medpipe.reporting.content import CaseView

    content = read_case(case)
    reference = reference_masks(content, case.structures)
    prediction = prediction_of(folder, model, case.case_id).masks
    volume = to_canonical(content.volume)

    def canonical(masks: dict[str, Any]) -> dict[str, Any]:
        stack = MaskStack(np.stack(list(masks.values())), content.volume.affine, tuple(masks))
        return dict(zip(masks, to_canonical(stack).array, strict=True))

    of_case = scores[scores["case_id"] == case.case_id]
    return CaseView(
        case_id=case.case_id,
        volume=volume.array,
        spacing_mm=volume.spacing_mm,
        reference=canonical({name: mask for name, mask in reference.items() if name in model.structures}),
        prediction=canonical(prediction),
        dice=dict(zip(of_case["structure"], of_case["dice"], strict=True)),
        model=model.title,
    )


def flat_record(record: dict[str, Any], stages: dict[str, Any]) -> dict[str, Any]:
    """The record as a reader wants it: the last session's machine and versions, the time of every stage."""
    last = record["sessions"][-1]
    host = last["host"]
    return {
        "seed": record["seed"],
        "command": "medpipe " + " ".join(last["command"]),
        "revision": last["revision"] or "installed package",
        "versions": ", ".join(f"{name} {version}" for name, version in last["versions"].items()),
        "host": f"{host['name']}: {host['system']}, {host['cores']} cores, {host['memory_gib']} GiB",
        "starts of this run": len(record["sessions"]),
        **{f"stage {name}": sentence_of(facts) for name, facts in stages.items()},
    }


def sentence_of(facts: dict[str, Any]) -> str:
    """What a finished stage took."""
    times = "" if facts["starts"] == 1 else f", started {facts['starts']} times"
    return f"{facts['seconds']:.0f} s{times}, peak memory {facts['peak_memory_mib']} MiB, finished {facts['finished']}"
