"""What `medpipe evaluate` was asked, what it found, and the files that it leaves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from medpipe.config.errors import ConfigError, Problem
from medpipe.stages.stage import write_json

if TYPE_CHECKING:
    import pandas as pd

    from medpipe.datasets.manifest import Manifest
    from medpipe.reporting.content import CaseView

SCORES_FILE, SUMMARY_FILE, REPORT_FILE = "scores.csv", "summary.json", "report.html"


@dataclass(frozen=True)
class EvaluateOptions:
    """The options of the command; FOREIGN in evaluating.py says which of them a form does not have."""

    manifest: str | None = None
    structures: tuple[str, ...] = ()
    tolerances_mm: tuple[float, ...] = (2.0,)
    jobs: int | None = None
    force: bool = False
    data_root: Path | None = None
    part: str | None = None
    patients: Path | None = None
    resample: bool = True
    missing_cases: str = "count"
    rules: tuple[str, ...] = ()  # of answers to questions
    fps: float | None = None  # of phases: frames a second of tables and folders of frames
    encoder_weights: Path | None = None  # of a phase checkpoint that is given videos


@dataclass(frozen=True)
class Evaluation:
    """What was scored, and what a reader has to know of it."""

    scores: "pd.DataFrame"
    notes: tuple[str, ...]
    facts: Mapping[str, str]  # for the record: what was compared with what
    cases: "Sequence[tuple[str, CaseView]]" = field(default=())
    kind: Literal["segmentation", "reconstruction"] = "segmentation"


def known_manifest(ref: str) -> "Manifest":
    """The manifest of that name or path. Raises ConfigError."""
    from medpipe.datasets.manifest import load_manifest

    try:
        return load_manifest(ref)
    except ConfigError:
        raise
    except ValueError as error:
        raise wrong(str(error)) from None


def wrong(message: str) -> ConfigError:
    return ConfigError([Problem("medpipe evaluate", None, None, message)])


def write_evaluation(output: Path, evaluation: Evaluation, command: Sequence[str]) -> dict[str, Any]:
    """scores.csv, summary.json and report.html, each whole or not at all; returns the summary."""
    from medpipe.engine.record import host, now, versions
    from medpipe.geometry.atomic import written_beside
    from medpipe.metrics.aggregation import mean_dice, summary
    from medpipe.metrics.definitions import DEFINITION
    from medpipe.reporting.comparison import portable
    from medpipe.reporting.content import ReportContent
    from medpipe.reporting.report import write_report

    output.mkdir(parents=True, exist_ok=True)
    scores = evaluation.scores
    machine = host()
    record = {
        "command": "medpipe " + " ".join(command),
        **evaluation.facts,
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
        "host": f"{machine['system']}, {machine['cores']} cores, {machine['memory_gib']} GiB",
    }
    if evaluation.kind == "reconstruction":
        from medpipe.engine.evaluating_pretraining import write_reconstructions

        return write_reconstructions(output, scores, evaluation.notes, record)
    with written_beside(output / SCORES_FILE) as partial:
        scores.to_csv(partial, index=False)
    document = {
        "definition": DEFINITION,
        "cases": len(set(scores["case_id"])),
        "patients": len(set(scores["patient_id"])),
        "mean_dice": float(mean_dice(scores)["mean_dice"].iloc[0]),
        "scores": summary(scores).to_dict(orient="records"),
        "notes": list(evaluation.notes),
        "record": record,
    }
    document = portable(document)
    write_json(output / SUMMARY_FILE, document)
    title = f"Evaluation of {scores['model'].iloc[0]}"
    content = ReportContent(
        title=title, date=now(), notes=evaluation.notes, scores=scores, record=record, cases=evaluation.cases
    )
    write_report(output / REPORT_FILE, content)
    return document
