"""Gather scored answers, their comparison, examples and learning curves into one self-contained HTML file.

takes   a scoring, optionally a comparison and the trainings whose curves are shown
leaves  report.html
"""

import json
from typing import Any, ClassVar, Literal, final

from medpipe.config.base import StageRef
from medpipe.stages.stage import Stage, StageRun


@final
class AnswerReportStage(Stage):
    """Tables with intervals and baselines, what could be read, comparison, perturbations, confusion, examples,
    record."""

    version: ClassVar[int] = 1
    takes: ClassVar[dict[str, tuple[str, ...]]] = {
        "scores": ("answer_scoring",),
        "comparison": ("comparison",),
        "trainings": ("vqa_training",),
    }

    stage: Literal["answer_report"]
    scores: StageRef
    comparison: StageRef | None = None
    trainings: tuple[StageRef, ...] = ()

    def run(self, run: StageRun) -> None:
        import pandas as pd

        from medpipe.reporting.answer_report import AnswerReport, write_answer_report
        from medpipe.reporting.comparison import JSON_FILE
        from medpipe.reporting.figures import learning_curve
        from medpipe.stages.answer_scoring import DIFFERENCES_FILE, EXAMPLES_FILE, SUMMARY_FILE
        from medpipe.stages.report import REPORT_FILE, flat_record

        folder = run.folder_of(self.scores)
        summary = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
        compared = run.folder_if_named(self.comparison)
        record = run.context["record"]
        curves = [learning_curve(ref.from_, pd.read_csv(run.folder_of(ref) / "metrics.csv")) for ref in self.trainings]
        generated = ["The questions and pictures are generated: the scores say nothing about patients."]
        report = AnswerReport(
            title=run.context["title"],
            run=run.context["directory"].name,
            date=record["sessions"][-1]["started"],
            notes=[
                *(generated if run.data.source == "phantom" and run.context["notes"] else []),
                *(f"{name_of(found)}: {note}" for found in summary["sets"] for note in found["notes"]),
            ],
            summary=summary,
            examples=json.loads((folder / EXAMPLES_FILE).read_text(encoding="utf-8")),
            differences=json.loads((folder / DIFFERENCES_FILE).read_text(encoding="utf-8")),
            comparison=json.loads((compared / JSON_FILE).read_text(encoding="utf-8")) if compared else None,
            curves=[curve for curve in curves if curve is not None],
            record=flat_record(record, run.context["stages"]),
            workflow=run.context["workflow_text"],
        )
        write_answer_report(run.path(REPORT_FILE), report)


def name_of(found: dict[str, Any]) -> str:
    """A model, and what was done to its questions."""
    return f"{found['model']}, {found['perturbation'].replace('_', ' ')}" if found["perturbation"] else found["model"]
