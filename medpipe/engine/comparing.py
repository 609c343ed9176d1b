"""`medpipe compare`: score files in; a table, comparison.csv, comparison.json and a page with the figure out."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from medpipe.engine.comparing_answers import are_answer_scores, compare_answer_files
from medpipe.stages.score_files import read_arms, scores_file

if TYPE_CHECKING:
    from medpipe.metrics.comparison import Comparison

REPORT_FILE = "report.html"
WRONG_DATA = 3


def compare_command(
    files: Sequence[Path],
    *,
    names: Sequence[str],
    metrics: Sequence[str],
    structures: Sequence[str],
    correction: Literal["bh", "holm"],
    against: str | None,
    output: Path,
    as_json: bool,
    seed: int,
    alpha: float,
    allow_unpaired: bool,
) -> int:
    """Compare score files; returns the exit code. Where no test is possible it says how many patients could."""
    from rich.console import Console

    from medpipe.metrics.comparison import compare_scores
    from medpipe.reporting.comparison import comparison_json, print_comparison, write_comparison

    paths = [scores_file(path) for path in files]
    try:
        if are_answer_scores(paths):
            if metrics or structures or allow_unpaired:
                raise ValueError("--metric, --structures and --allow-unpaired mean nothing for scores of answers")
            return compare_answer_files(
                paths, names, correction=correction, against=against, output=output, as_json=as_json, seed=seed,
                alpha=alpha,
            )  # fmt: skip
        kind, arms = read_arms(files, names)
        comparison = compare_scores(
            arms,
            kind=kind,
            metrics=metrics,
            structures=structures,
            against=against,
            correction=correction,
            alpha=alpha,
            seed=seed,
            allow_unpaired=allow_unpaired,
        )
    except ValueError as error:
        print(f"medpipe compare: {error}", file=sys.stderr)
        return WRONG_DATA
    write_comparison(output, comparison)
    write_page(output / REPORT_FILE, comparison, files)
    if as_json:
        print(json.dumps(comparison_json(comparison), indent=2))
    else:
        print_comparison(comparison, Console())
        print(f"written: {output / 'comparison.csv'}, {output / 'comparison.json'}, {output / REPORT_FILE}")
    if all(test.refusal for test in comparison.pairs):
        print(f"medpipe compare: nothing could be tested: {comparison.pairs[0].refusal}", file=sys.stderr)
        return WRONG_DATA
    return 0


def write_page(path: Path, comparison: "Comparison", files: Sequence[Path]) -> None:
    """The comparison as one HTML file."""
    from medpipe.engine.record import now, versions
    from medpipe.reporting.comparison import definitions_of
    from medpipe.reporting.content import ReportContent
    from medpipe.reporting.report import write_report

    record = {f"scores {number}": str(file) for number, file in enumerate(files, start=1)}
    record["versions"] = ", ".join(f"{name} {version}" for name, version in versions().items())
    title = f"Comparison of {', '.join(comparison.arms[:-1])} and {comparison.arms[-1]}"
    content = ReportContent(
        title=title, date=now(), comparisons=[("", comparison)], record=record, definitions=definitions_of(comparison)
    )
    write_report(path, content)
