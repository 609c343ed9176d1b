"""Score tables: the rows that the report and the terminal share, and their form for a terminal or a log."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medpipe.metrics.aggregation import mean_dice, summary
from medpipe.metrics.definitions import METRICS
from medpipe.reporting.formatting import PLAIN, PRINTED, NumberStyle, percent, places

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

Arm = tuple[str, float]  # model, labelled share
COUNTS = ("n", "missed", "false", "absent")
COLUMNS = ("structure", *COUNTS, "Dice mean {} SD", "Dice median [IQR]", "HD95 mm median [IQR]")


def arm_name(arm: Arm, *, with_share: bool) -> str:
    return f"{arm[0]}, {percent(arm[1])} of the labelled cases" if with_share else arm[0]


def summary_rows(scores: "pd.DataFrame") -> dict[Arm, dict[str, dict[str, dict[str, Any]]]]:
    """arm -> structure -> metric -> the row of `summary`."""
    rows: dict[Arm, dict[str, dict[str, dict[str, Any]]]] = {}
    for row in summary(scores).to_dict("records"):
        arm = (str(row["model"]), float(row["labelled_share"]))
        rows.setdefault(arm, {}).setdefault(str(row["structure"]), {})[str(row["metric"])] = {
            str(name): value for name, value in row.items()
        }
    return rows


def mean_dice_of(scores: "pd.DataFrame") -> dict[Arm, float]:
    """The mean Dice of each model and labelled share."""
    means = mean_dice(scores)
    columns = (means[name] for name in ("model", "labelled_share", "mean_dice"))
    return {(str(model), float(share)): float(value) for model, share, value in zip(*columns, strict=True)}


def judged_by(metric: str) -> str:
    """Which number of a score decides what is best."""
    return "mean" if METRICS[metric].higher_is_better else "median"


def best_arms(cells: Mapping[Arm, Mapping[str, Any]], metric: str) -> set[Arm]:
    """Which arms have the best value of a row; none where all are equal at printed precision.

    Shares are judged by the mean, in which missed structures count as 0; distances by the median over all, in which
    they are infinite: a mean over finite distances would reward missing the difficult ones.
    """
    higher = METRICS[metric].higher_is_better
    if higher is None:
        return set()
    printed = {arm: round(float(cell[judged_by(metric)]), places(metric)) for arm, cell in cells.items()}
    known = {arm: value for arm, value in printed.items() if not np.isnan(value)}
    if len(set(known.values())) < 2:
        return set()
    best = max(known.values()) if higher else min(known.values())
    return {arm for arm, value in known.items() if value == best}


def score_lines(scores: "pd.DataFrame", style: NumberStyle) -> list[tuple[Arm, list[list[str]]]]:
    """For each arm its lines of cells under COLUMNS, one a structure, and a last one with the mean Dice."""
    means = mean_dice_of(scores)
    blocks = []
    for arm, structures in summary_rows(scores).items():
        lines = [_line(structure, metrics, style) for structure, metrics in structures.items()]
        number = style.number(means[arm], "dice")
        lines.append(["mean of structures", *[""] * len(COUNTS), number, "", ""])
        blocks.append((arm, lines))
    return blocks


def _line(structure: str, metrics: Mapping[str, Mapping[str, Any]], style: NumberStyle) -> list[str]:
    dice, hd95 = metrics["dice"], metrics.get("hd95_mm")
    return [
        structure,
        *(str(dice[name]) for name in COUNTS),
        style.mean_sd(dice, "dice"),
        style.median_iqr(dice, "dice"),
        style.median_iqr(hd95, "hd95_mm") if hd95 is not None else style.unknown,
    ]


def score_table(scores: "pd.DataFrame") -> "Table":
    """The scores as a rich table: a section for each model and labelled share."""
    from rich.table import Table

    blocks = score_lines(scores, PRINTED)
    with_share = len({share for (_, share), _ in blocks}) > 1
    table = Table(title=None, header_style="bold")
    for index, column in enumerate(COLUMNS):
        table.add_column(column.format("±"), justify="left" if index == 0 else "right", no_wrap=True)
    for arm, lines in blocks:
        if len(blocks) > 1:
            table.add_row(f"[bold]{_escaped(arm_name(arm, with_share=with_share))}[/bold]")
        for line in lines:
            table.add_row(*(_escaped(cell) for cell in line))
        table.add_section()
    return table


def _escaped(text: str) -> str:
    from rich.markup import escape  # "[IQR]" and names with brackets are not markup

    return escape(text)


def score_table_text(scores: "pd.DataFrame") -> str:
    """The scores as plain lines without colours: a block for each model and labelled share."""
    blocks = score_lines(scores, PLAIN)
    with_share = len({share for (_, share), _ in blocks}) > 1
    heading = [column.format("+-") for column in COLUMNS]
    every_line = [heading, *(line for _, lines in blocks for line in lines)]
    widths = [max(len(line[column]) for line in every_line) for column in range(len(heading))]
    text: list[str] = []
    for arm, lines in blocks:
        if len(blocks) > 1:
            text += [arm_name(arm, with_share=with_share)]
        text += [aligned(line, widths) for line in (heading, *lines)] + [""]
    return "\n".join(text[:-1])


def aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    """One line of a plain table: the first cell to the left, the others to the right."""
    first, *others = (
        cell.ljust(width) if index == 0 else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join([first, *others]).rstrip()


def print_score_table(scores: "pd.DataFrame", console: "Console | None" = None) -> None:
    """Print the scores: a rich table on a terminal, plain lines everywhere else."""
    if console is None:
        from rich.console import Console

        console = Console()
    if console.is_terminal:
        console.print(score_table(scores))
    else:
        console.print(score_table_text(scores), markup=False, highlight=False, soft_wrap=True)
