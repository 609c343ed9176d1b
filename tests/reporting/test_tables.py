"""The score table of a terminal and of a log."""

import io
import math

import pandas as pd
import pytest
from rich.console import Console

from medpipe.metrics.aggregation import mean_dice, summary
from medpipe.reporting.tables import best_arms, print_score_table, score_table, score_table_text


def line_of(text: str, structure: str) -> list[str]:
    return next(line for line in text.splitlines() if line.startswith(structure)).split()


def test_the_plain_table_holds_the_numbers_of_the_aggregation(example_scores: pd.DataFrame) -> None:
    one = example_scores[example_scores["model"] == "full"]
    text = score_table_text(one)
    rows = summary(one).set_index(["structure", "metric"])
    for structure in one["structure"].unique():
        dice, hd95 = rows.loc[(structure, "dice")], rows.loc[(structure, "hd95_mm")]
        counts = [str(dice[name]) for name in ("n", "missed", "false", "absent")]
        numbers = f"{dice['mean']:.3f} +- {dice['sd']:.3f} {dice['median']:.3f} [{dice['q1']:.3f}, {dice['q3']:.3f}]"
        distances = f"{hd95['median']:.2f} [{hd95['q1']:.2f}, {hd95['q3']:.2f}]"
        assert line_of(text, structure) == [structure, *counts, *numbers.split(), *distances.split()]
    assert line_of(text, "mean of structures")[-1] == f"{mean_dice(one)['mean_dice'].iloc[0]:.3f}"


def test_the_plain_table_is_ascii_and_aligned(example_scores: pd.DataFrame) -> None:
    text = score_table_text(example_scores)
    assert text.isascii()
    assert "inf]" in text  # the missed sigmoid colon of the model from scratch
    headings = [line for line in text.splitlines() if line.startswith("structure")]
    assert len(headings) == 2
    full_lines = [line for line in text.splitlines() if line.rstrip().endswith("]")]
    assert len({len(line) for line in full_lines}) == 1
    assert [line for line in text.splitlines() if line in ("full", "scratch")] == ["full", "scratch"]


def test_the_rich_table_holds_the_same_cells(example_scores: pd.DataFrame) -> None:
    console = Console(file=io.StringIO(), width=160)
    console.print(score_table(example_scores))
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    for row in summary(example_scores).query("metric == 'dice'").to_dict("records"):
        assert f"{row['mean']:.3f} ± {row['sd']:.3f}" in printed
        assert f"{row['median']:.3f} [{row['q1']:.3f}, {row['q3']:.3f}]" in printed


def test_without_a_terminal_plain_lines_are_printed(example_scores: pd.DataFrame) -> None:
    stream = io.StringIO()
    print_score_table(example_scores, Console(file=stream, width=40))
    assert stream.getvalue() == score_table_text(example_scores) + "\n"


def test_names_with_brackets_are_not_taken_for_markup(example_scores: pd.DataFrame) -> None:
    console = Console(file=io.StringIO(), width=160)
    console.print(score_table(example_scores.assign(structure="[red]organ[/red]" + example_scores["structure"])))
    assert "[red]organ[/red]bladder" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("metric", "cells", "best"),
    [
        ("dice", [(0.90, 0.5), (0.80, 0.9)], {0}),  # by the mean
        ("hd95_mm", [(2.0, math.inf), (9.0, 8.0)], {1}),  # by the median: missing half the cases is no merit
        ("dice", [(0.8001, 0.5), (0.8004, 0.5)], set()),  # equal as printed
        ("dice", [(math.nan, 0.5), (0.7, 0.5)], set()),  # nothing to compare with
        ("nsd_2mm", [(0.7, 0.5), (0.7, 0.5), (0.6, 0.9)], {0, 1}),
    ],
)
def test_the_best_of_a_row(metric: str, cells: list[tuple[float, float]], best: set[int]) -> None:
    arms = {(f"model {i}", 1.0): {"mean": mean, "median": median} for i, (mean, median) in enumerate(cells)}
    assert best_arms(arms, metric) == {(f"model {i}", 1.0) for i in best}
