"""The report of a study of phases: one self-contained HTML file.

takes   an evaluation, the predictions and embeddings that it is of, the trainings whose curves are shown
leaves  report.html
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

from medpipe.config.base import StageRef
from medpipe.stages.report import REPORT_FILE, flat_record, name_of
from medpipe.stages.stage import Stage, StageRun

if TYPE_CHECKING:
    import pandas as pd

    from medpipe.metrics.phase_scores import VideoPhases
    from medpipe.reporting.phases import VideoView

COMPARED = ("macro_f1", "f1_at_25")


@final
class PhaseReportStage(Stage):
    """Networks side by side, time lines of the worst, median and best video, agreement of withdrawal times."""

    version: ClassVar[int] = 1
    takes: ClassVar[dict[str, tuple[str, ...]]] = {
        "evaluation": ("phase_evaluation",),
        "predictions": ("phase_prediction",),
        "embeddings": ("frame_embedding",),
        "trainings": ("phase_training",),
    }

    stage: Literal["phase_report"]
    evaluation: StageRef
    predictions: StageRef
    embeddings: StageRef
    trainings: tuple[StageRef, ...] = ()

    def run(self, run: StageRun) -> None:
        import json

        import pandas as pd

        from medpipe.reporting.phases import PhaseReport, write_phase_report
        from medpipe.stages.phase_evaluation import SCORES_FILE, SUMMARY_FILE, read_arm
        from medpipe.stages.phase_files import LABELS, read_arms

        evaluation = run.folder_of(self.evaluation)
        scores = pd.read_csv(evaluation / SCORES_FILE)
        summary = json.loads((evaluation / SUMMARY_FILE).read_text(encoding="utf-8"))
        arms = {arm.title: arm for arm in read_arms(run.folder_of(self.predictions))}
        shown = max(summary, key=lambda arm: summary[arm]["pooled"]["macro_f1"] or 0)
        labels = run.folder_of(self.embeddings) / LABELS
        videos = read_arm(run.folder_of(self.predictions), arms[shown], labels)
        of_shown = scores.loc[scores["model"] == shown].sort_values(by="accuracy", kind="stable")
        record = run.context["record"]
        report = PhaseReport(
            title=run.context["title"],
            run=run.context["directory"].name,
            date=record["sessions"][-1]["started"],
            notes=run.context["notes"],
            summary=summary,
            costs={title: vars(arm) for title, arm in arms.items()},
            shown=shown,
            videos=notable(videos, of_shown),
            comparison=comparison_rows(scores, shown, [arm for arm in summary if arm != shown]),
            rows=of_shown.to_dict("records"),
            record=flat_record(record, run.context["stages"]),
            workflow=run.context["workflow_text"],
            **figures(videos, of_shown, curves(run, self.trainings)),
        )
        write_phase_report(run.path(REPORT_FILE), report)


def curves(run: StageRun, trainings: Sequence[StageRef]) -> "list[tuple[str, pd.DataFrame]]":
    """The learning curves of every fold."""
    import pandas as pd

    found = []
    for reference in trainings:
        folder = run.folder_of(reference)
        paths = sorted(folder.rglob("metrics.csv"))
        found += [(name_of(reference.from_, folder, path), pd.read_csv(path)) for path in paths]
    return found


def figures(
    videos: "Sequence[VideoPhases]", rows: "pd.DataFrame", learned: "list[tuple[str, pd.DataFrame]]"
) -> dict[str, Any]:
    """Confusion, agreement, curves."""
    from medpipe.metrics.agreement import bland_altman
    from medpipe.metrics.phase_scores import total_confusion
    from medpipe.reporting.phase_figures import bland_altman_figure, confusion_figure, curves_figure

    ref, found = (rows[name].to_numpy(dtype=float) for name in ("withdrawal_s_ref", "withdrawal_s"))
    agreement = bland_altman(ref, found)
    return {
        "confusion": confusion_figure(total_confusion(videos)),
        "bland_altman": bland_altman_figure(ref, found, agreement) if agreement.n else None,
        "curves": curves_figure(learned),
    }


def notable(videos: "Sequence[VideoPhases]", rows: "pd.DataFrame") -> "list[VideoView]":
    """The three worst, the median and the best video by accuracy."""
    from medpipe.metrics.withdrawal import withdrawal
    from medpipe.reporting.phase_figures import TimeLine, time_line
    from medpipe.reporting.phases import VideoView, number

    known = rows[rows["accuracy"].notna()].reset_index(drop=True)
    if known.empty:
        return []
    roles = {len(known) - 1: "best", (len(known) - 1) // 2: "median", 2: "worst", 1: "worst", 0: "worst"}
    by_id = {video.video_id: video for video in videos}
    views = []
    for place in sorted(place for place in roles if place < len(known)):
        row, role = known.iloc[place], roles[place]
        video = by_id[str(row["video_id"])]
        of_ref, of_pred = withdrawal(video.ref, video.times_s), withdrawal(video.pred, video.times_s)
        line = time_line(TimeLine(video.times_s, video.ref, video.pred, video.confidence, of_ref, of_pred))
        facts = (
            f"accuracy {number(100 * float(row['accuracy']))} %, withdrawal {number(of_pred.gross_s / 60)} min "
            f"(reference {number(of_ref.gross_s / 60)})"
        )
        views.append(VideoView(video.video_id, role, facts, line))
    return views


def comparison_rows(scores: "pd.DataFrame", shown: str, others: Sequence[str]) -> list[list[str]]:
    """Every other arm against the one that is shown, on the videos that both have; Holm's correction over all rows."""
    from itertools import product

    import numpy as np

    from medpipe.metrics.rank_tests import paired_differences, rank_biserial, sign_flip_p, signed_ranks
    from medpipe.reporting.phases import number

    found = []
    for other, metric in product(others, COMPARED):
        pairs = scores.pivot(index="video_id", columns="model", values=metric)[[other, shown]].dropna()
        values = pairs.to_numpy(dtype=np.float64)
        differences = paired_differences(values[:, 0], values[:, 1])
        if len(differences) < 2:
            continue
        factor = 100 if metric == "macro_f1" else 1
        ranks = signed_ranks(differences)
        middle = factor * float(np.median(differences))
        found.append((other, metric, len(differences), middle, rank_biserial(ranks), sign_flip_p(ranks)))
    corrected = holm([row[-1] for row in found])
    return [
        [other, metric.replace("_", " "), str(n), number(middle), number(effect, 2), f"{p:.3g}", f"{q:.3g}"]
        for (other, metric, n, middle, effect, p), q in zip(found, corrected, strict=True)
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    corrected, highest = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected
