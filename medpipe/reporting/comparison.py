"""A comparison of models as a table for the terminal or a log, as rows for CSV, and as JSON."""

import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medpipe.metrics.comparison import Comparison, OmnibusTest, PairedTest
from medpipe.metrics.definitions import METRICS
from medpipe.metrics.phase_metrics import PHASE_METRICS
from medpipe.reporting.formatting import PLAIN, PRINTED, NumberStyle
from medpipe.reporting.tables import aligned

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

CSV_FILE, JSON_FILE = "comparison.csv", "comparison.json"
PAIR_COLUMNS = ("structure", "metric", "second - first", "n", "mean difference [95 % CI]", "effect", "p adjusted", "")
OMNIBUS_COLUMNS = ("structure", "metric", "Friedman", "n", "statistic", "Kendall's W", "p adjusted", "")


def verdict(test: PairedTest | OmnibusTest, alpha: float) -> str:
    """What a test says, in words."""
    if test.refusal:
        return test.refusal
    return "different" if test.p_adjusted <= alpha else "no difference shown"


def p_text(p: float) -> str:
    """p with the places that carry meaning."""
    if math.isnan(p):
        return "-"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def pair_cells(test: PairedTest, alpha: float, style: NumberStyle) -> list[str]:
    """One line of the table under PAIR_COLUMNS."""
    mean, low, high = (style.number(x, test.metric) for x in (test.mean_difference, test.ci_low, test.ci_high))
    finite = "" if test.finite == test.n else f" over {test.finite}"
    models = f"{test.second} - {test.first}"
    # Too few patients to say anything: a refusal, and no number that could be taken for a finding.
    interval = "-" if test.refusal else f"{mean} [{low}, {high}]{finite}"
    effect = "-" if test.refusal else f"{test.effect:+.2f}"
    return [test.structure, test.metric, models, str(test.n), interval, effect, p_text(test.p_adjusted),
            verdict(test, alpha)]  # fmt: skip


def omnibus_cells(test: OmnibusTest, arms: Sequence[str], alpha: float) -> list[str]:
    """One line of the table under OMNIBUS_COLUMNS."""
    statistic, agreement = ("-" if math.isnan(x) else f"{x:.2f}" for x in (test.statistic, test.kendall_w))
    return [test.structure, test.metric, f"{len(arms)} models", str(test.n), statistic, agreement,
            p_text(test.p_adjusted), verdict(test, alpha)]  # fmt: skip


def print_comparison(comparison: Comparison, console: "Console") -> None:
    """Tables, methods and notes: rich on a terminal, plain lines elsewhere."""
    style = PRINTED if console.is_terminal else PLAIN
    if comparison.omnibus:
        lines = [omnibus_cells(test, comparison.arms, comparison.alpha) for test in comparison.omnibus]
        _print_table(OMNIBUS_COLUMNS, lines, console)
    _print_table(PAIR_COLUMNS, [pair_cells(test, comparison.alpha, style) for test in comparison.pairs], console)
    for sentence in (*comparison.methods(), *comparison.notes):
        console.print(sentence, markup=False, highlight=False, soft_wrap=not console.is_terminal)


def _print_table(columns: Sequence[str], lines: Sequence[Sequence[str]], console: "Console") -> None:
    if console.is_terminal:
        from rich.markup import escape
        from rich.table import Table

        table = Table(header_style="bold")
        for index, column in enumerate(columns):
            table.add_column(escape(column), justify="left" if index in (0, 1, 2, 7) else "right")
        for line in lines:
            table.add_row(*(escape(cell) for cell in line))
        console.print(table)
        return
    widths = [max(len(line[i]) for line in (columns, *lines)) for i in range(len(columns))]
    text = [aligned(line, widths) for line in (columns, *lines)]
    console.print("\n".join(text) + "\n", markup=False, highlight=False, soft_wrap=True)


def comparison_rows(comparison: Comparison) -> "pd.DataFrame":
    """One row a paired test, without the patients' own differences."""
    import pandas as pd

    rows = [asdict(test) for test in comparison.pairs]
    return pd.DataFrame(rows).drop(columns="differences")


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """Everything, fit for JSON: null where a number is undefined, "inf" or "-inf" where it is infinite."""
    return {**portable(asdict(comparison)), "methods": list(comparison.methods())}


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """comparison.csv (one row a paired test) and comparison.json (all, with methods), each whole or not at all."""
    import json

    from medpipe.geometry.atomic import written_beside

    folder.mkdir(parents=True, exist_ok=True)
    with written_beside(folder / CSV_FILE) as partial:
        comparison_rows(comparison).to_csv(partial, index=False)
    with written_beside(folder / JSON_FILE) as partial:
        partial.write_text(json.dumps(comparison_json(comparison), indent=2) + "\n", encoding="utf-8")


def read_comparison(path: Path) -> Comparison:
    """What `write_comparison` left in a comparison.json."""
    import json

    document = json.loads(path.read_text(encoding="utf-8"))
    parts = {
        name: tuple(_test_of(kind, test) for test in document[name])
        for name, kind in (("pairs", PairedTest), ("omnibus", OmnibusTest))
    }
    texts = {name: tuple(document[name]) for name in ("arms", "notes")}
    kept = {field.name: document[field.name] for field in fields(Comparison)}
    return Comparison(**{**kept, **parts, **texts})


def _test_of(kind: type, values: dict[str, Any]) -> Any:
    def number(value: Any) -> Any:
        return math.nan if value is None else float(value) if value in ("inf", "-inf") else value

    plain = {name: number(value) for name, value in values.items() if name != "differences"}
    if "differences" in values:
        plain["differences"] = tuple(number(value) for value in values["differences"])
    return kind(**plain)


def comparison_section(title: str, comparison: Comparison) -> dict[str, Any]:
    """What the report's template shows of a comparison."""
    from medpipe.reporting.comparison_figure import MOST_PAIRS, differences_figure, drawn_arm, drawn_pairs

    pairs = list(dict.fromkeys((test.first, test.second) for test in comparison.pairs))
    num_pairs = len(pairs)
    left_out = num_pairs - len(drawn_pairs(comparison))
    return {
        "title": title,
        "omnibus_columns": OMNIBUS_COLUMNS,
        "omnibus": [_titled(omnibus_cells(test, comparison.arms, comparison.alpha)) for test in comparison.omnibus],
        "pair_columns": PAIR_COLUMNS,
        "pairs": [_titled(pair_cells(test, comparison.alpha, PRINTED)) for test in comparison.pairs],
        "figure": differences_figure(comparison),
        "not_drawn": f"{left_out} further pairs stand in the table; drawn are {num_pairs - left_out} of at most "
        f"{MOST_PAIRS}, those with {drawn_arm(pairs)}." if left_out else "",
        "sentences": [*comparison.methods(), *comparison.notes],
    }  # fmt: skip


def definitions_of(comparison: Comparison) -> dict[str, str]:
    """The sentences that define what was compared."""
    from medpipe.metrics.definitions import definitions

    metrics = list(dict.fromkeys(test.metric for test in comparison.pairs))
    if any(metric in PHASE_METRICS for metric in metrics):
        return {METRICS[metric].title: METRICS[metric].definition for metric in metrics}
    return definitions(metrics)


def _titled(cells: list[str]) -> list[str]:
    """The metric by its heading, as everywhere in the report; on a terminal it is the name that options take."""
    return [cells[0], METRICS[cells[1]].heading, *cells[2:]]


def portable(value: Any) -> Any:
    """A value as JSON can hold it: undefined numbers null, infinite ones "inf" or "-inf"."""
    if isinstance(value, dict):
        return {name: portable(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [portable(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value
