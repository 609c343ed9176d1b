"""Figures of answers: scores of every task with their intervals beside baselines; what perturbations change."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from medpipe.reporting.colours import MODEL_COLOURS, MODEL_MARKERS, colour_of
from medpipe.reporting.pictures import Picture, drawing_style, picture


def accuracy_figure(sets: Sequence[Mapping[str, Any]]) -> Picture:
    """One row a task and over all; a sign a model with its interval, strokes at the majority's and at chance's
    score."""
    from matplotlib.figure import Figure

    rows = [row for row in sets[0]["table"] if row["scope"] != "group"]
    titles = sets[0]["task_titles"]
    names = [titles.get(row["name"], f"all, {row['name']}") for row in rows]
    with drawing_style():
        figure = Figure(figsize=(9.6, 1.1 + len(rows) * (0.2 + 0.12 * len(sets))), layout="constrained")
        panel = figure.subplots()
        for m, found in enumerate(sets):
            for y, row in enumerate(rows):
                same = next((r for r in found["table"] if (r["scope"], r["name"]) == (row["scope"], row["name"])), None)
                if same is not None and same["score"] is not None:
                    _sign(panel, same, y + (m - (len(sets) - 1) / 2) * 0.7 / max(1, len(sets)), m)
        for y, row in enumerate(rows):
            for key, style in (("majority", "-"), ("chance", ":")):
                if row[key] is not None:
                    panel.plot(
                        [100 * row[key]] * 2, [y - 0.4, y + 0.4], color="#59636e", linewidth=1.3, linestyle=style
                    )
        panel.set_yticks(range(len(rows)), names)
        panel.set_ylim(len(rows) - 0.5, -0.5)
        panel.set_xlim(-1, 101)
        panel.set_xlabel("score (%)")
        panel.grid(axis="x")
        panel.set_axisbelow(True)
        _legend(figure, [found["model"] for found in sets])
        return picture(figure, "Score of every task and model with 95 % intervals; the values stand in the table.")


def _sign(panel: Any, row: Mapping[str, Any], y: float, m: int) -> None:
    low, high = row["bootstrap"] if row["bootstrap"][0] is not None else row["wilson"]
    colour = colour_of(m, MODEL_COLOURS)
    if low is not None and not math.isnan(low):
        panel.plot([100 * low, 100 * high], [y, y], color=colour, linewidth=1.5, solid_capstyle="butt")
    panel.plot(100 * row["score"], y, marker=MODEL_MARKERS[m % len(MODEL_MARKERS)], color=colour, markersize=5)


def _legend(figure: Any, models: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle="none", marker=MODEL_MARKERS[m % len(MODEL_MARKERS)], color=colour_of(m,
            MODEL_COLOURS),
               label=model, markersize=5)
        for m, model in enumerate(models)
    ]  # fmt: skip
    handles += [
        Line2D([], [], color="#59636e", linewidth=1.3, label="majority"),
        Line2D([], [], color="#59636e", linewidth=1.3, linestyle=":", label="chance"),
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=min(6, len(handles)), handletextpad=0.4)


def perturbation_figure(entries: Sequence[Mapping[str, Any]]) -> Picture:
    """Accuracy on the original and the perturbed questions, joined by a line; the interval is of the change."""
    from matplotlib.figure import Figure

    from medpipe.datasets.perturbations import PERTURBATIONS

    with drawing_style():
        figure = Figure(figsize=(8.4, 0.9 + 0.55 * len(entries)), layout="constrained")
        panel = figure.subplots()
        for y, entry in enumerate(entries):
            before, after = 100 * entry["before"], 100 * entry["after"]
            low, high = entry["interval"]
            if low is not None:
                panel.fill_betweenx(
                    [y - 0.13, y + 0.13], before + 100 * low, before + 100 * high, color="#D55E00", alpha=0.2
                )
            panel.plot([before, after], [y, y], color="#8a929a", linewidth=1.4, zorder=1)
            panel.plot(before, y, "o", color=MODEL_COLOURS[0], markersize=7, label="original" if y == 0 else None)
            panel.plot(after, y, "s", color=MODEL_COLOURS[1], markersize=6, label="perturbed" if y == 0 else None)
        labels = [f"{PERTURBATIONS.get(e['perturbation'], e['perturbation'])} (n = {e['n']})" for e in entries]
        panel.set_yticks(range(len(entries)), labels)
        panel.set_ylim(len(entries) - 0.5, -0.5)
        panel.set_xlim(-2, 102)
        panel.set_xlabel("score (%)")
        panel.grid(axis="x")
        figure.legend(loc="outside upper right", ncols=2)
        return picture(figure, "Score before and after each perturbation; the values stand in the table.")
