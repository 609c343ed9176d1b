"""Scores of answers and their comparison as tables for a terminal or a log, and as rows for CSV."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medpipe.metrics.answer_comparison import AnswerComparison, AnswerTest
from medpipe.metrics.answer_extraction import STATUSES
from medpipe.metrics.answer_tally import ScopeScores
from medpipe.metrics.intervals import Interval
from medpipe.reporting.comparison import CSV_FILE, JSON_FILE
from medpipe.reporting.tables import aligned

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

UNREAD = tuple(status for status in STATUSES if status != "answered")


def percent(value: float | None) -> str:
    """A share in per cent with one place."""
    return "-" if value is None or math.isnan(value) else f"{100 * value:.1f}"


def interval_text(interval: Interval | Sequence[float | None]) -> str:
    """Both ends in per cent, or nothing."""
    low, high = interval
    return "" if low is None or high is None or math.isnan(low) else f"[{percent(low)}, {percent(high)}]"


def score_text(row: ScopeScores) -> str:
    """The score with its interval over clusters, or Wilson's where there is none."""
    found = row.bootstrap if not math.isnan(row.bootstrap.low) else row.wilson
    return f"{percent(row.score)} {interval_text(found)}".strip()


def print_answer_table(tables: Mapping[str, Sequence[ScopeScores]], console: "Console") -> None:
    """One row a task, group and over all; a column a model; majority and chance beside them."""
    models = list(tables)
    first = tables[models[0]]
    header = ["%", "n", *models, "majority", "chance"]
    lines = []
    for row in first:
        same = [next((r for r in tables[m] if (r.scope, r.name) == (row.scope, row.name)), None) for m in models]
        name = {"group": f"group {row.name}", "overall": f"all, {row.name}"}.get(row.scope, row.name)
        cells = ["-" if found is None else score_text(found) for found in same]
        lines.append([name.replace("_", " "), str(row.n), *cells, percent(row.majority), percent(row.chance)])
    print_lines(header, lines, console)
    for model, rows in tables.items():
        micro = next((row for row in rows if row.name == "micro"), None)
        if micro is not None:
            unread = ", ".join(f"{micro.statuses[status]} {status}" for status in UNREAD)
            others = "".join(
                f"; by the rule {rule} {percent(value)}"
                for rule, value in micro.others.items()
                if not math.isnan(value)
            )
            console.print(f"{model}: {unread}{others}", highlight=False, markup=False, soft_wrap=True)


COMPARISON_HEADER = (
    "scope",
    "second - first",
    "n",
    "difference [95 % CI]",
    "only first",
    "only second",
    "p adjusted",
    "",
)


def print_comparison(comparison: AnswerComparison, console: "Console") -> None:
    """A line a test."""
    lines = [comparison_cells(test, comparison.alpha) for test in comparison.tests]
    print_lines(COMPARISON_HEADER, lines, console)
    for note in comparison.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)


def comparison_cells(test: AnswerTest, alpha: float) -> list[str]:
    """One test under COMPARISON_HEADER; differences in points of per cent."""
    p = test.p_adjusted
    return [
        test.scope.replace("_", " "),
        f"{test.second} - {test.first}",
        str(test.n),
        f"{100 * test.difference:+.1f} {interval_text(test.interval)}".strip(),
        str(test.only_first),
        str(test.only_second),
        "< 0.001" if p < 0.001 else f"{p:.3f}",
        "different" if p <= alpha else "no difference shown",
    ]


def comparison_rows(comparison: AnswerComparison) -> "pd.DataFrame":
    """One row a test, for CSV."""
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "scope": test.scope, "first": test.first, "second": test.second, "n": test.n, "clusters": test.clusters,
                "first_score": test.first_score, "second_score": test.second_score, "difference": test.difference,
                "ci_low": test.interval.low, "ci_high": test.interval.high, "only_first": test.only_first,
                "only_second": test.only_second, "p": test.p, "p_adjusted": test.p_adjusted,
                "correction": comparison.correction,
            }
            for test in comparison.tests
        ]
    )  # fmt: skip


def print_lines(header: Sequence[str], lines: Sequence[Sequence[str]], console: "Console") -> None:
    """Aligned columns, the first to the left."""
    widths = [max(len(line[index]) for line in (header, *lines)) for index in range(len(header))]
    for line in (header, *lines):
        console.print(aligned(line, widths), highlight=False, markup=False, soft_wrap=True)


def write_comparison(folder: Path, comparison: AnswerComparison) -> dict[str, Any]:
    """comparison.csv, one row a test, and comparison.json with methods and notes, which is returned."""
    import json

    from medpipe.geometry.atomic import written_beside
    from medpipe.reporting.comparison import portable

    with written_beside(folder / CSV_FILE) as partial:
        comparison_rows(comparison).to_csv(partial, index=False)
    document = portable({**asdict(comparison), "methods": comparison.methods()})
    with written_beside(folder / JSON_FILE) as partial:
        partial.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return document
