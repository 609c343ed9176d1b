"""Phases of procedures as a console table and one self-contained HTML page."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from medpipe.metrics.phase_scores import PHASE_DEFINITIONS
from medpipe.metrics.phases import PHASES

if TYPE_CHECKING:
    from rich.console import Console

    from medpipe.metrics.comparison import Comparison
    from medpipe.metrics.phase_scores import VideoPhases
    from medpipe.reporting.pictures import Picture

# Heading -> the pooled number and its places.
COLUMNS: Mapping[str, tuple[str, int]] = {
    "accuracy": ("accuracy", 1),
    "macro F1": ("macro_f1", 1),
    "weighted F1": ("weighted_f1", 1),
    "weighted Jaccard": ("weighted_jaccard", 1),
    "edit": ("edit", 1),
    "F1@10": ("f1_at_10", 1),
    "F1@25": ("f1_at_25", 1),
    "F1@50": ("f1_at_50", 1),
    "segments": ("segments", 1),
    "boundary s": ("boundary_error_s", 1),
    "calibration": ("calibration_error", 3),
    "withdrawal s": ("withdrawal_mae_s", 0),
    "published MAPE": ("official_withdrawal_mape", 1),
}


@final
@dataclass(frozen=True, eq=False)
class KeyPicture:
    """The picture of one predicted segment; without one, `reason` says why."""

    phase: str
    colour: str
    span: str
    picture: "Picture | None"
    reason: str


@final
@dataclass(frozen=True, eq=False)
class VideoView:
    """One video to look at."""

    video_id: str
    role: str  # worst, median, best
    facts: str
    line: "Picture"
    phases: "VideoPhases"
    frames: Sequence[KeyPicture] = ()


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class PhaseReport:
    """Everything that the page shows."""

    title: str
    run: str
    date: str
    notes: Sequence[str]
    summary: Mapping[str, Mapping[str, Any]]  # arm -> pooled, folds, per_video, withdrawal
    costs: Mapping[str, Mapping[str, Any]]  # arm -> parameters, seconds, lag_s
    shown: str  # the arm whose videos, confusion and agreement are drawn
    videos: Sequence[VideoView]
    confusion: "Picture | None"
    bland_altman: "Picture | None"
    curves: "Picture | None"
    comparisons: Sequence[tuple[str, "Comparison"]] = ()
    rows: Sequence[Mapping[str, Any]] = ()  # of the shown arm, one a video, worst first
    record: Mapping[str, Any] = field(default_factory=dict)
    workflow: str = ""


def number(value: Any, places: int = 1) -> str:
    """As printed; a dash for what is undefined."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:.{places}f}"


def clock(seconds: float) -> str:
    """Minutes and seconds, as 12:34."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def phase_rows(summary: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """One row an arm: its pooled numbers under COLUMNS."""
    return [
        [arm, *(number(values["pooled"][name], places) for name, places in COLUMNS.values())]
        for arm, values in summary.items()
    ]


def print_phase_table(summary: Mapping[str, Mapping[str, Any]], console: "Console") -> None:
    """The pooled numbers, a row an arm."""
    from medpipe.reporting.tables import aligned

    lines = [["network", *COLUMNS], *phase_rows(summary)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        console.print(aligned(line, widths), markup=False, highlight=False, soft_wrap=True)


def write_phase_report(path: Path, report: PhaseReport) -> None:
    """Write the page, whole or not at all."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    from medpipe.geometry.atomic import written_beside
    from medpipe.reporting.comparison import comparison_section
    from medpipe.reporting.formatting import in_words
    from medpipe.reporting.phase_figures import legend
    from medpipe.reporting.report import RESEARCH_USE

    package = files("medpipe.reporting")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = number
    environment.filters["words"] = in_words
    template = environment.from_string(package.joinpath("phases.html.j2").read_text(encoding="utf-8"))
    html = template.render(
        css=Markup(package.joinpath("report.css").read_text(encoding="utf-8")),
        research_use=RESEARCH_USE,
        report=report,
        columns=list(COLUMNS),
        arms=phase_rows(report.summary),
        by_phase=by_phase_rows(report.summary),
        by_fold=by_fold_rows(report.summary),
        per_video=per_video_rows(report.summary),
        withdrawal=withdrawal_rows(report.summary),
        costs=cost_rows(report.costs),
        comparisons=[comparison_section(title, comparison) for title, comparison in report.comparisons],
        legend=legend(),
        phases=PHASES,
        definitions=PHASE_DEFINITIONS,
    )
    with written_beside(path) as partial:
        partial.write_text(html, encoding="utf-8")


def by_phase_rows(summary: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """F1 and Jaccard of every phase, nine columns whatever the videos hold."""
    return [
        [arm, *(f"{number(v['pooled'][f'f1_{p}'])} / {number(v['pooled'][f'jaccard_{p}'])}" for p in PHASES)]
        for arm, v in summary.items()
    ]


def by_fold_rows(summary: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Mean and sample deviation over the folds; empty where there is one fold."""
    rows = []
    for arm, values in summary.items():
        folds = values["folds"]
        if folds["accuracy"]["folds"] < 2:
            continue
        cells = [folds[name] for name, _ in COLUMNS.values()]
        places = [places for _, places in COLUMNS.values()]
        rows.append(
            [arm, *(f"{number(c['mean'], p)} ± {number(c['sd'], p)}" for c, p in zip(cells, places, strict=True))]
        )
    return rows


def per_video_rows(summary: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Median over the videos with its interval."""
    shares = ("accuracy", "macro_f1", "weighted_jaccard")
    rows = []
    for arm, values in summary.items():
        cells = []
        for name, cell in values["per_video"].items():
            factor = 100 if name in shares else 1
            low, median, high = (None if cell[k] is None else factor * cell[k] for k in ("low", "median", "high"))
            cells.append(f"{number(median)} [{number(low)}, {number(high)}]")
        rows.append([arm, *cells])
    return rows


def withdrawal_rows(summary: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Bland-Altman in seconds, agreement on the thresholds, caecum found, undefined ones counted."""
    rows = []
    for arm, values in summary.items():
        agreement = values["withdrawal"]
        limits, caecum = agreement["bland_altman_s"], agreement["caecum"]
        row = [arm, str(limits["n"]), str(limits["undefined"])]
        row += [number(limits["bias"]), f"{number(limits['low'])} to {number(limits['high'])}"]
        for at in agreement["thresholds"].values():
            right = at["both"] + at["neither"]
            total = right + at["only_measured"] + at["only_ref"]
            row.append(f"{right} of {total}")
        row.append(f"{caecum['found']} of {caecum['reached']}" + (f", {caecum['false']} false" * (caecum["false"] > 0)))
        rows.append(row)
    return rows


def cost_rows(costs: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Parameters, the time of training and prediction, memory, and when an answer comes."""
    rows = []
    for arm, cost in costs.items():
        when = "at the end of the video" if not cost["is_live"] else f"{cost['lag_s']:g} s after its frame"
        times = [number(cost.get("training_s"), 0), number(cost["seconds"], 2)]
        rows.append([arm, f"{cost['parameters']:,}", *times, number(cost.get("peak_memory_mib"), 0), when])
    return rows
