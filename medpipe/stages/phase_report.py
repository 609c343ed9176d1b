"""The report of a study of phases: one self-contained HTML file.

takes   an evaluation, its comparison, the predictions and embeddings that it is of, trainings whose curves are shown
leaves  report.html
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

from pydantic import Field

from medpipe.config.base import StageRef
from medpipe.stages.report import REPORT_FILE, flat_record, name_of
from medpipe.stages.stage import Stage, StageRun

if TYPE_CHECKING:
    import pandas as pd

    from medpipe.metrics.phase_scores import VideoPhases
    from medpipe.reporting.phases import VideoView
    from medpipe.stages.phase_files import PredictedArm


@final
class PhaseReportStage(Stage):
    """Networks side by side, time lines of the worst, median and best video, agreement of withdrawal times."""

    version: ClassVar[int] = 2
    takes: ClassVar[dict[str, tuple[str, ...]]] = {
        "evaluation": ("phase_evaluation",),
        "comparison": ("comparison",),
        "predictions": ("phase_prediction",),
        "embeddings": ("frame_embedding",),
        "trainings": ("phase_training",),
    }

    stage: Literal["phase_report"]
    evaluation: StageRef
    comparison: StageRef | None = None
    predictions: StageRef
    embeddings: StageRef
    trainings: tuple[StageRef, ...] = ()
    key_frames: bool = Field(True, description="a picture a segment, masked, never of frames outside the body")

    def run(self, run: StageRun) -> None:
        import json

        import pandas as pd

        from medpipe.reporting.phases import PhaseReport, write_phase_report
        from medpipe.stages.phase_evaluation import SCORES_FILE, SUMMARY_FILE, read_arm
        from medpipe.stages.phase_files import LABELS, read_arms
        from medpipe.stages.report import comparisons_of

        evaluation, predictions = run.folder_of(self.evaluation), run.folder_of(self.predictions)
        scores = pd.read_csv(evaluation / SCORES_FILE)
        summary = json.loads((evaluation / SUMMARY_FILE).read_text(encoding="utf-8"))
        arms = {arm.title: arm for arm in read_arms(predictions)}
        shown = best_arm(summary)
        labels = run.folder_of(self.embeddings) / LABELS
        videos = read_arm(predictions, arms[shown], labels)
        of_shown = scores.loc[scores["model"] == shown].sort_values(by="accuracy", kind="stable")
        record = run.context["record"]
        notes = [*run.context["notes"]]
        views = notable(videos, of_shown)
        if self.key_frames:
            views = with_key_frames(run, views, self.embeddings, predictions, list(arms.values()), notes)
        report = PhaseReport(
            title=run.context["title"],
            run=run.context["directory"].name,
            date=record["sessions"][-1]["started"],
            notes=notes,
            summary=summary,
            costs={title: vars(arm) | training_cost(arm, run.context["stages"]) for title, arm in arms.items()},
            shown=shown,
            videos=views,
            comparisons=comparisons_of(run.folder_if_named(self.comparison)),
            rows=of_shown.to_dict("records"),
            record=flat_record(record, run.context["stages"]),
            workflow=run.context["workflow_text"],
            **figures(videos, of_shown, curves(run, self.trainings)),
        )
        write_phase_report(run.path(REPORT_FILE), report)


def best_arm(summary: Mapping[str, Mapping[str, Any]]) -> str:
    """The arm with the highest macro F1 over the pooled frames: the one whose videos are drawn."""
    return max(summary, key=lambda arm: summary[arm]["pooled"]["macro_f1"] or 0)


def training_cost(arm: "PredictedArm", stages: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Seconds of the training stage behind an arm, and the run's peak memory until its end; nothing of other runs'."""
    facts = stages.get(Path(arm.folder).parent.name, {})
    return {"training_s": facts.get("seconds"), "peak_memory_mib": facts.get("peak_memory_mib")}


def with_key_frames(
    run: StageRun,
    views: "list[VideoView]",
    embeddings: StageRef,
    predictions: Path,
    arms: "Sequence[PredictedArm]",
    notes: list[str],
) -> "list[VideoView]":
    """The videos with a picture a segment, where there are frames to take them from; else a note says why not."""
    from medpipe.stages.phase_views import key_frames_of, sources_of

    if run.data.source == "phantom":
        notes.append("The procedures are made up as embeddings: there are no frames, so no key frames are shown.")
        return views
    sources = sources_of(run.context["directory"], embeddings.from_, run.data)
    if not sources:
        notes.append("No key frames: the videos are not where the embeddings were made from.")
        return views
    return [key_frames_of(view, sources.get(view.video_id), predictions, arms, notes) for view in views]


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
        views.append(VideoView(video.video_id, role, facts, line, video))
    return views
