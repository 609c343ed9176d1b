"""The comparison of models on the questions that they all were asked: exact McNemar and intervals over clusters."""

from typing import TYPE_CHECKING, Any

from medpipe.stages.stage import StageRun

if TYPE_CHECKING:
    from medpipe.stages.comparison import ComparisonStage


def compare_answers(stage: "ComparisonStage", run: StageRun) -> None:
    """Every pair of models on the same questions, corrected over all pairs and tasks; leaves the two files."""
    from medpipe.metrics.answer_comparison import compare_answers as compare
    from medpipe.reporting.answer_tables import print_comparison, write_comparison
    from medpipe.stages.answer_scoring import SCORES_FILE
    from medpipe.stages.answer_tables import read_item_scores

    models: dict[str, Any] = {}
    for reference in stage.evaluations:
        for (model, perturbation), items in read_item_scores(run.folder_of(reference) / SCORES_FILE).items():
            if not perturbation:
                models[model if model not in models else f"{reference.from_}: {model}"] = items
    comparison = compare(models, correction=stage.correction, alpha=stage.alpha, seed=run.seed, against=stage.against)
    write_comparison(run.folder, comparison)
    print_comparison(comparison, run.output.console)
