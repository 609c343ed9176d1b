"""`medpipe evaluate` of phases: a phase checkpoint, the folder of a stage phase_prediction, or folders of tables."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medpipe.datasets.phase_courses import course_tables, is_course
from medpipe.engine.evaluating_phase_checkpoint import PhaseCheckpoint, find_phase_checkpoint, predict_checkpoint
from medpipe.engine.evaluation import REPORT_FILE, SCORES_FILE, SUMMARY_FILE, EvaluateOptions, wrong
from medpipe.engine.phase_pairs import few, labels_folder, pair_tables
from medpipe.geometry.faults import DataFault, DataFaults
from medpipe.stages.phase_files import PREDICTIONS_FILE, PredictedArm, read_arms

if TYPE_CHECKING:
    from rich.console import Console

    from medpipe.metrics.phase_scores import VideoPhases

CONFUSION_FILE = "confusion.json"


@dataclass(frozen=True)
class PhaseSubject:
    """What is to be scored: exactly one of the three."""

    path: Path
    checkpoint: PhaseCheckpoint | None = None
    stage: bool = False
    tables: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)  # model -> video -> table


@dataclass
class Scored:
    """Model -> its videos beside their reference; what a report shows of them."""

    videos: "dict[str, list[VideoPhases]]" = field(default_factory=dict)
    fold_of: dict[str, Mapping[str, int]] = field(default_factory=dict)
    arms: list[PredictedArm] = field(default_factory=list)
    predictions: Path | None = None
    sources: Mapping[str, Any] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)


def find_phases(predictions: Path) -> PhaseSubject | None:
    """What `predictions` are, where they are phases; None where they are something else."""
    checkpoint = find_phase_checkpoint(predictions)
    if checkpoint is not None:
        return PhaseSubject(predictions, checkpoint=checkpoint)
    if predictions.is_file():
        tables = {predictions.stem: {predictions.stem: predictions}} if is_course(predictions) else {}
        return PhaseSubject(predictions, tables=tables) if tables else None
    if not predictions.is_dir():
        return None
    kept = predictions / PREDICTIONS_FILE
    if kept.is_file() and "arms" in json.loads(kept.read_text(encoding="utf-8")):
        return PhaseSubject(predictions, stage=True)
    name = predictions.resolve().name
    found = {name: course_tables(predictions)} if course_tables(predictions) else {}
    if not found:
        below = [path for path in sorted(predictions.iterdir()) if path.is_dir() and not path.name.startswith(".")]
        found = {path.name: tables for path in below if path.name != "labels" and (tables := course_tables(path))}
    return PhaseSubject(predictions, tables=found) if found else None


def evaluate_phases(
    subject: PhaseSubject,
    references: Path | None,
    options: EvaluateOptions,
    *,
    output: Path,
    as_json: bool,
    command: Sequence[str],
) -> int:
    """Score, write scores.csv, summary.json, confusion.json and report.html, print; the exit code."""
    from rich.console import Console

    from medpipe.stages.stage import StopRequested

    console = Console(stderr=as_json, soft_wrap=not sys.stdout.isatty())
    notes: list[str] = []
    try:
        scored = score(subject, references, options, output, console, notes)
    except StopRequested:
        print("stopped on request; the same command goes on from there", file=sys.stderr)
        return 75
    document = write_phases_evaluation(output, subject, scored, options, notes, command)
    if as_json:
        print(json.dumps(document, indent=2))
        return 0
    from medpipe.reporting.phases import print_phase_table

    print_phase_table(document["scores"], console)
    for note in notes:
        console.print(f"note: {note}", style="yellow", highlight=False, markup=False)
    print(f"written: {output / SCORES_FILE}, {output / SUMMARY_FILE}, {output / REPORT_FILE}")
    return 0


def score(
    subject: PhaseSubject,
    references: Path | None,
    options: EvaluateOptions,
    output: Path,
    console: "Console",
    notes: list[str],
) -> Scored:
    """Every model's videos joined with their labels. Faults of the data are raised together as DataFaults."""
    if subject.checkpoint is not None:
        made = predict_checkpoint(subject.checkpoint, references, options, output, console, notes)
        return of_arms(output, made.labels, notes, sources=made.sources, facts=made.facts)
    if subject.stage:
        return of_arms(subject.path, labels_folder(subject.path, references), notes, facts={})
    if references is None:
        raise wrong(f"{subject.path} holds predicted phases, so a folder of REFERENCES is needed")
    return of_tables(subject, references, options.fps, notes)


def of_arms(
    predictions: Path,
    labels: Path,
    notes: list[str],
    *,
    sources: Mapping[str, Any] | None = None,
    facts: Mapping[str, str],
) -> Scored:
    """What a stage phase_prediction left, beside the labels of a stage frame_embedding or a folder of tables."""
    arms = read_arms(predictions)
    scored = Scored(arms=arms, predictions=predictions, sources=sources or {})
    faults: list[DataFault] = []
    references = course_tables(labels) if labels.is_dir() else {}
    for arm in arms:
        tables = {video: predictions / arm.folder / f"{video}.csv" for video in arm.fold_of}
        known = {video: references[video] for video in tables if video in references}
        silent = sorted(set(tables) - set(known))
        if silent and arm is arms[0]:
            faults += [DataFault(labels, f"no labels of the video {video}, which is predicted") for video in silent]
        scored.videos[arm.title] = pair_tables(tables, known, None, faults)
        scored.fold_of[arm.title] = arm.fold_of
    if faults:
        raise DataFaults(faults)
    scored.facts = {"predictions": str(predictions), "references": str(labels), **facts}
    return scored


def of_tables(subject: PhaseSubject, references: Path, fps: float | None, notes: list[str]) -> Scored:
    """Folders of tables: every video on both sides, each fault with its file."""
    from medpipe.engine.phase_pairs import reference_tables, strangers

    scored = Scored(facts={"predictions": str(subject.path), "references": str(references)})
    found = reference_tables(references, single=subject.path.is_file(), tables=subject.tables)
    faults: list[DataFault] = []
    for model, tables in subject.tables.items():
        folder = next(iter(tables.values())).parent
        faults += [
            DataFault(folder / f"{video}.csv", f"no such file: the video {video} has labels, {found[video]}")
            for video in found
            if video not in tables
        ]
        faults += [
            DataFault(path, f"no labels of this video; {references} holds {few(list(found))}")
            for video, path in tables.items()
            if video not in found
        ]
        both = {video: path for video, path in tables.items() if video in found}
        scored.videos[model] = pair_tables(both, found, fps, faults)
        scored.fold_of[model] = {}
        if subject.path.is_dir() and (others := strangers(folder, tables)):
            notes.append(f"{folder}: {len(others)} files are no tables of phases and were passed over: {few(others)}")
    if faults:
        raise DataFaults(faults)
    return scored


def write_phases_evaluation(
    output: Path,
    subject: PhaseSubject,
    scored: Scored,
    options: EvaluateOptions,
    notes: list[str],
    command: Sequence[str],
) -> dict[str, Any]:
    """The four files, each whole or not at all; returns the summary."""
    from medpipe.engine.phase_pairs import patients_of_videos
    from medpipe.engine.record import host, now, versions
    from medpipe.geometry.atomic import written_beside
    from medpipe.metrics.phase_metrics import PHASE_DEFINITION
    from medpipe.reporting.phases import PhaseReport, write_phase_report
    from medpipe.stages.phase_evaluation import confusions, score_table, summary_of
    from medpipe.stages.phase_report import best_arm, figures, notable
    from medpipe.stages.phase_views import key_frames_of
    from medpipe.stages.stage import write_json

    videos = sorted({video.video_id for of_model in scored.videos.values() for video in of_model})
    patients = patients_of_videos(videos, options.patients, notes)
    scores = score_table({name: (scored.videos[name], scored.fold_of[name]) for name in scored.videos}, patients)
    silent = sorted(set(scores.loc[scores["frames"] == 0, "video_id"]))
    if len(silent) == len(videos):
        raise DataFault(scored.facts["references"], "no frame of any video is named: there is nothing to score against")
    if silent:
        notes.append(f"{len(silent)} videos have no named frame and are in no score: {few(silent)}")
    output.mkdir(parents=True, exist_ok=True)
    with written_beside(output / SCORES_FILE) as partial:
        scores.to_csv(partial, index=False)
    summary = {name: summary_of(of_model, scored.fold_of[name], seed=0) for name, of_model in scored.videos.items()}
    machine = host()
    record = {
        "command": "medpipe " + " ".join(command),
        **scored.facts,
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
        "host": f"{machine['system']}, {machine['cores']} cores, {machine['memory_gib']} GiB",
    }
    shown = best_arm(summary)
    of_shown = scores.loc[scores["model"] == shown].sort_values(by="accuracy", kind="stable")
    views = notable(scored.videos[shown], of_shown)
    if scored.sources and scored.predictions is not None:
        views = [
            key_frames_of(view, scored.sources.get(view.video_id), scored.predictions, scored.arms, notes)
            for view in views
        ]
    document = {
        "definition": PHASE_DEFINITION,
        "videos": len(videos),
        "scores": summary,
        "notes": notes,
        "record": record,
    }
    write_json(output / SUMMARY_FILE, document)
    write_json(output / CONFUSION_FILE, confusions(scored.videos))
    report = PhaseReport(
        title=f"Evaluation of {subject.path.resolve().name}", run="", date=now(), notes=notes, summary=summary,
        costs={arm.title: vars(arm) for arm in scored.arms}, shown=shown, videos=views,
        rows=of_shown.to_dict("records"), record=record, **figures(scored.videos[shown], of_shown, []),
    )  # fmt: skip
    write_phase_report(output / REPORT_FILE, report)
    return document
