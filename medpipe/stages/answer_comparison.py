"""Compare models on the questions that they all were asked: exact McNemar and intervals over clusters.

takes   scored answers
leaves  comparison.csv, comparison.json
"""

from typing import Any, ClassVar, Literal, final

from pydantic import Field

from medpipe.config.base import StageRef
from medpipe.stages.stage import Stage, StageRun


@final
class AnswerComparisonStage(Stage):
    """Every pair of models on the same questions, corrected over all pairs and tasks."""

    version: ClassVar[int] = 1
    takes: ClassVar[dict[str, tuple[str, ...]]] = {"scores": ("answer_scoring",)}

    stage: Literal["answer_comparison"]
    scores: tuple[StageRef, ...] = Field(min_length=1)
    against: str | None = Field(None, description="compare every other model with this one only")
    correction: Literal["bh", "holm"] = "holm"
    alpha: float = Field(0.05, gt=0, lt=1)

    def run(self, run: StageRun) -> None:
        from medpipe.metrics.answer_comparison import compare_answers
        from medpipe.reporting.answer_tables import print_comparison, write_comparison
        from medpipe.stages.answer_scoring import SCORES_FILE
        from medpipe.stages.answer_tables import read_item_scores

        models: dict[str, Any] = {}
        for reference in self.scores:
            for (model, perturbation), items in read_item_scores(run.folder_of(reference) / SCORES_FILE).items():
                if not perturbation:
                    models[model if model not in models else f"{reference.from_}: {model}"] = items
        comparison = compare_answers(
            models, correction=self.correction, alpha=self.alpha, seed=run.seed, against=self.against
        )
        write_comparison(run.folder, comparison)
        print_comparison(comparison, run.output.console)
