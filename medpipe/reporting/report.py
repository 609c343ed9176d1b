"""The report: one self-contained HTML file, without scripts or images from elsewhere, readable without JavaScript."""

import os
from importlib.resources import files
from pathlib import Path
from typing import Any

from medpipe.metrics.definitions import definitions
from medpipe.reporting.comparison import comparison_section
from medpipe.reporting.content import ReportContent
from medpipe.reporting.formatting import in_words
from medpipe.reporting.sections import (
    case_rows,
    cases_section,
    curves_section,
    headline,
    record_rows,
    scores_section,
    transfer_rows,
)

RESEARCH_USE = "Research use only. Not for diagnosis, planning or treatment."


def write_report(path: Path | str, content: ReportContent) -> Path:
    """Write the report of a run to `path` (one file, nothing beside it) and return the path."""
    path = Path(path)
    html = render_report(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(html, encoding="utf-8")
    os.replace(unfinished, path)
    return path


def render_report(content: ReportContent) -> str:
    """The report as HTML text."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    package = files("medpipe.reporting")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["words"] = in_words
    template = environment.from_string(package.joinpath("report.html.j2").read_text(encoding="utf-8"))
    return template.render(
        # The only text that is not escaped: style and script, files of this package.
        css=Markup(package.joinpath("report.css").read_text(encoding="utf-8")),
        script=Markup(package.joinpath("report.js").read_text(encoding="utf-8")),
        research_use=RESEARCH_USE,
        content=content,
        **_parts(content),
    )


def _parts(content: ReportContent) -> dict[str, Any]:
    from medpipe.reporting.case_figures import reconstruction_figure

    has_scores = content.scores is not None and len(content.scores) > 0
    scores = content.scores if has_scores else None
    parts: dict[str, Any] = {
        "tiles": headline(scores) if scores is not None else [],
        "scores": scores_section(scores) if scores is not None else None,
        "comparisons": [comparison_section(title, comparison) for title, comparison in content.comparisons],
        "curves": curves_section(content.curves),
        "views": cases_section(content.cases),
        "reconstruction": reconstruction_figure(content.reconstruction) if content.reconstruction else None,
        "transfers": transfer_rows(content.transfers),
        "all_cases": case_rows(scores) if scores is not None else None,
        "sentences": definitions(_columns(content) if scores is None else scores.columns)
        if content.definitions is None
        else content.definitions,
        "record": record_rows(content.record),
    }
    return {**parts, "left_out": _left_out(parts, content)}


def _columns(content: ReportContent) -> list[str]:
    """The metrics of the comparisons, where there are no scores themselves."""
    tests = [test for _, comparison in content.comparisons for test in comparison.pairs]
    return list(dict.fromkeys(test.metric for test in tests))


def _left_out(parts: dict[str, Any], content: ReportContent) -> list[str]:
    reasons = {
        "scores": "scores and the table of cases (nothing was evaluated)",
        "comparisons": "a comparison of models (none was made)",
        "views": "cases with contours (no case was chosen)",
        "curves": "learning curves (no stage recorded any)",
        "reconstruction": "the reconstruction of a masked volume (no masked pretraining in this run)",
        "transfers": "weights handed from stage to stage (none were)",
        "record": "the record of the run (none was given)",
    }
    missing = [reason for name, reason in reasons.items() if not parts[name]]
    return missing if content.workflow else [*missing, "the resolved workflow (none was given)"]
