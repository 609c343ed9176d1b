"""Compare the models of one or more evaluations on the same patients, with paired tests on ranks.

takes   the scores of stages of kind segmentation_evaluation, or of kind phase_evaluation
leaves  comparison.csv (one row a paired test), comparison.json (all of it, with the methods in words); with several
        shares of the labelled cases one pair of files a share, below share_<percent>/, each a family of its own
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, final

from pydantic import Field, field_validator

from medpipe.config.base import StageRef
from medpipe.metrics.definitions import METRICS
from medpipe.metrics.phase_metrics import PHASE_METRICS
from medpipe.stages.stage import Stage, StageRun

if TYPE_CHECKING:
    import pandas as pd


@final
class ComparisonStage(Stage):
    """Wilcoxon signed-rank (Pratt) for two models; Friedman and permutation on ranks for more; intervals, effects."""

    version: ClassVar[int] = 1
    takes: ClassVar[dict[str, tuple[str, ...]]] = {"evaluations": ("segmentation_evaluation", "phase_evaluation")}

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
        unknown = [name for name in metrics if name not in METRICS]
        if unknown or len(set(metrics)) < len(metrics):
            known = ", ".join([*METRICS, *PHASE_METRICS])
            raise ValueError(f"metrics are different names of {known}, got {list(metrics)}")
        return metrics

    def run(self, run: StageRun) -> None:
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
        """The rows of all evaluations, of the models asked for. ValueError: two kinds of scores, no such model."""
        import pandas as pd

        from medpipe.metrics.score_kinds import kind_of
        from medpipe.stages.score_files import read_scores, scores_file

        tables = {ref.from_: read_scores(scores_file(run.folder_of(ref))) for ref in self.evaluations}
        if len({kind_of(table.columns) for table in tables.values()}) > 1:
            raise ValueError(f"{', '.join(tables)} hold scores of structures and of phases, which are not compared")
        scores = pd.concat(list(tables.values()), ignore_index=True)
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
