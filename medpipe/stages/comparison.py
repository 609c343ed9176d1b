"""Compare the models of one or more evaluations on the same patients or questions, by the tests that fit the scores.

takes   the scores of stages of kind segmentation_evaluation, of kind phase_evaluation, or of kind answer_scoring
leaves  comparison.csv (one row a paired test), comparison.json (all of it, with the methods in words); with several
        shares of the labelled cases one pair of files a share, below share_<percent>/, each a family of its own
"""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, final

from pydantic import Field, field_validator

from medpipe.config.base import StageRef
from medpipe.geometry.faults import DataFault
from medpipe.metrics.definitions import METRICS
from medpipe.metrics.phase_metrics import PHASE_METRICS
from medpipe.stages.answer_comparison import compare_answers
from medpipe.stages.stage import Stage, StageRun

if TYPE_CHECKING:
    import pandas as pd


@final
class ComparisonStage(Stage):
    """Structures: Wilcoxon signed-rank (Pratt) for two models; Friedman and permutation on ranks for more; intervals,
    effects. Answers: exact McNemar, bootstrap over clusters of the difference."""

    version: ClassVar[int] = 1
    takes: ClassVar[dict[str, tuple[str, ...]]] = {
        "evaluations": ("segmentation_evaluation", "phase_evaluation", "answer_scoring")
    }

    stage: Literal["comparison"]
    evaluations: tuple[StageRef, ...] = Field(min_length=1)
    metrics: tuple[str, ...] = Field((), description="default: dice, hd95_mm; of phases macro_f1, f1_at_25")
    models: tuple[str, ...] = Field((), description="titles of those to compare; default: all")
    structures: tuple[str, ...] = Field((), description="only these; default: all that every model has")
    against: str | None = Field(None, description="title of the model that all are compared with; default: every pair")
    correction: Literal["bh", "holm"] = "bh"
    alpha: float = Field(0.05, gt=0, lt=1)
    num_bootstraps: int = Field(10_000, ge=0)
    allow_unpaired: bool = Field(False, description="leave out patients that some model lacks, counted; or refuse")

    @field_validator("metrics")
    @classmethod
    def _are_metrics(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in metrics if name not in METRICS and name not in PHASE_METRICS]
        if unknown or len(set(metrics)) < len(metrics):
            known = ", ".join([*METRICS, *PHASE_METRICS])
            raise ValueError(f"metrics are different names of {known}, got {list(metrics)}")
        return metrics

    def run(self, run: StageRun) -> None:
        kind = kind_of_scores(run, self.evaluations)
        if kind == "question_id":
            self._refuse_values_of_structures()
        KINDS[kind](self, run)

    def _refuse_values_of_structures(self) -> None:
        fields = ("metrics", "models", "structures", "num_bootstraps", "allow_unpaired")
        changed = [name for name in fields if getattr(self, name) != type(self).model_fields[name].default]
        if changed:
            raise ValueError(
                f"'{changed[0]}' is of scores of structures and phases alone; leave it out to compare answers"
            )

    def compare_cases(self, run: StageRun) -> None:
        """Structures of cases, or phases of videos; each labelled share a family of its own."""
        from medpipe.metrics.comparison import compare_scores
        from medpipe.metrics.score_kinds import kind_of
        from medpipe.reporting.comparison import print_comparison, write_comparison

        scores = self.scores(run)
        shares = list(self.arms_by_share(scores))
        for share, arms in shares:
            if len(arms) < 2 and len(shares) > 1:
                run.output.warn(f"at {100 * share:g} % of the labelled cases there is one model: nothing is compared")
                continue
            comparison = compare_scores(
                arms,
                kind=kind_of(scores.columns),
                metrics=self.metrics,
                structures=self.structures,
                against=self.against,
                correction=self.correction,
                alpha=self.alpha,
                num_bootstraps=self.num_bootstraps,
                seed=run.seed,
                allow_unpaired=self.allow_unpaired,
            )
            if len(shares) > 1:
                run.output.say(f"at {100 * share:g} % of the labelled cases")
            print_comparison(comparison, run.output.console)
            write_comparison(run.folder if len(shares) == 1 else run.folder / share_folder(share), comparison)

    def scores(self, run: StageRun) -> "pd.DataFrame":
        """The rows of all evaluations, of the models asked for. ValueError: no such model."""
        import pandas as pd

        from medpipe.stages.score_files import read_scores, scores_file

        tables = [read_scores(scores_file(run.folder_of(ref))) for ref in self.evaluations]
        scores = pd.concat(tables, ignore_index=True)
        unknown = [name for name in self.models if name not in set(scores["model"])]
        if unknown:
            there = ", ".join(dict.fromkeys(scores["model"]))
            raise ValueError(f"models: no model {unknown[0]!r} in the scores; they hold {there}")
        return scores.loc[scores["model"].isin(self.models)] if self.models else scores

    def arms_by_share(self, scores: "pd.DataFrame") -> "Iterator[tuple[float, dict[str, pd.DataFrame]]]":
        """Each labelled share, the largest first, with its models by title; scores of phases know none: one."""
        from medpipe.metrics.comparison import arms_of

        if "labelled_share" not in scores.columns:
            yield 1.0, arms_of(scores, str(scores["model"].iloc[0]))
            return
        for share in sorted(set(scores["labelled_share"]), reverse=True):
            rows = scores.loc[scores["labelled_share"] == share]
            only = str(rows["model"].iloc[0])
            yield float(share), arms_of(rows, only)


# A column that the scores of one kind alone have -> what compares such scores.
KINDS: dict[str, Callable[[ComparisonStage, StageRun], None]] = {
    "structure": ComparisonStage.compare_cases,
    "question_id": compare_answers,
    "video_id": ComparisonStage.compare_cases,
}


def kind_of_scores(run: StageRun, references: tuple[StageRef, ...]) -> str:
    """The kind of all the scores that the references name. Raises DataFault: unknown, or of several kinds."""
    from medpipe.stages.score_files import scores_file

    found: dict[Path, str] = {}
    for reference in references:
        path = scores_file(run.folder_of(reference))
        with path.open(encoding="utf-8", newline="") as file:
            columns = next(csv.reader(file), [])
        kind = next((kind for kind in KINDS if kind in columns), None)
        if kind is None:
            raise DataFault(path, f"not a file of scores that can be compared: no column {' or '.join(KINDS)}")
        found[path] = kind
    first, *others = found
    for path in others:
        if found[path] != found[first]:
            raise DataFault(path, f"holds scores of another kind than {first}: they are not compared with each other")
    return found[first]


def share_folder(share: float) -> str:
    """Where the comparison of models trained on that share of the labelled cases lies."""
    return f"share_{round(100 * share):03d}"


def comparison_files(folder: Path) -> list[tuple[str, Path]]:
    """What a stage of this kind left: a heading ("" where there is one only) and each comparison.json."""
    from medpipe.reporting.comparison import JSON_FILE

    if (folder / JSON_FILE).is_file():
        return [("", folder / JSON_FILE)]
    found = sorted(folder.glob(f"share_*/{JSON_FILE}"), reverse=True)
    return [(f"Trained on {int(path.parent.name[-3:])} % of the labelled cases", path) for path in found]
