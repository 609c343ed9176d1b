"""Figures of numbers: the scores of every patient, learning curves, mean Dice over the share of labelled cases."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medpipe.metrics.aggregation import mean_dice, per_patient
from medpipe.metrics.definitions import METRICS
from medpipe.reporting.colours import MODEL_COLOURS, MODEL_MARKERS, colour_of
from medpipe.reporting.formatting import in_words
from medpipe.reporting.pictures import Picture, drawing_style, picture
from medpipe.reporting.tables import summary_rows

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MOST_CURVE_POINTS = 300


def strip_plot(scores: "pd.DataFrame", *, metrics: Sequence[str] = ("dice", "hd95_mm")) -> Picture:
    """One dot a patient, box from first to third quartile, bar at the median; one row a structure and model.

    Infinite values (missed, false) stand in a band of their own at the edge. `scores`: one labelled share.
    """
    from matplotlib.figure import Figure

    patients, rows = per_patient(scores), summary_rows(scores)
    metrics = [metric for metric in metrics if metric in patients.columns]
    structures = list(dict.fromkeys(patients["structure"]))
    models = list(dict.fromkeys(patients["model"]))
    height = 0.9 + len(structures) * (0.16 + max(0.21 * len(models), 0.3))
    with drawing_style():
        figure = Figure(figsize=(11.0, height), layout="constrained")
        panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for panel, metric in zip(panels, metrics, strict=True):
            _set_up_strip(panel, patients[metric].to_numpy(dtype=float), metric, structures)
            for s, structure in enumerate(structures):
                for m, model in enumerate(models):
                    mine = patients.loc[(patients["structure"] == structure) & (patients["model"] == model)]
                    if len(mine) == 0:
                        continue
                    cell = next(cells[structure][metric] for arm, cells in rows.items() if arm[0] == model)
                    y = s + (m - (len(models) - 1) / 2) * 0.8 / len(models)
                    _strip(panel, mine, cell, metric, y, min(0.3, 0.3 / len(models)), m)
        _strip_legend(figure, models)
        names = ", ".join(METRICS[metric].title for metric in metrics)
        return picture(
            figure,
            f"Strip plot of {names} of every patient for {', '.join(structures)}; the values stand in the tables.",
        )


def _set_up_strip(panel: "Axes", values: np.ndarray, metric: str, structures: Sequence[str]) -> None:
    finite = values[np.isfinite(values)]
    panel.set_title(METRICS[metric].heading, loc="left")
    panel.set_ylim(len(structures) - 0.5, -0.5)
    panel.set_yticks(range(len(structures)), [in_words(name) for name in structures])
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="x")
    panel.set_axisbelow(True)
    for s in range(1, len(structures)):
        panel.axhline(s - 0.5, color="#c9ced3", linewidth=0.6)
    if not METRICS[metric].unit:
        panel.set_xlim(max(-0.03, math.floor(10 * (min(finite, default=0.0) - 0.03)) / 10), 1.01)
        return
    largest = max(2.0, float(max(finite, default=2.0)))
    panel.set_xscale("symlog", linthresh=5, linscale=1.2)
    ticks = [tick for tick in (0, 1, 2, 3, 4, 5, 10, 20, 50, 100, 200, 500) if tick <= largest]
    labels = [str(tick) for tick in ticks]
    if np.isinf(values).any():
        panel.axvspan(1.3 * largest, 2.0 * largest, color="#eceef0", zorder=0)
        ticks, labels = [*ticks, edge_of(largest)], [*labels, "∞"]
    panel.set_xticks(ticks, labels)
    panel.set_xticks([], minor=True)
    panel.set_xlim(-0.1, (2.0 if np.isinf(values).any() else 1.1) * largest)


def edge_of(largest_mm: float) -> float:
    """Where infinite distances are drawn: in the middle of their band, on the logarithmic axis."""
    return math.sqrt(1.3 * 2.0) * largest_mm


def _strip(
    panel: "Axes", mine: "pd.DataFrame", cell: Mapping[str, Any], metric: str, y: float, half: float, m: int
) -> None:
    colour, marker = colour_of(m, MODEL_COLOURS), MODEL_MARKERS[m % len(MODEL_MARKERS)]
    edge = edge_of_panel(panel)
    q1, median, q3 = (min(float(cell[name]), edge) for name in ("q1", "median", "q3"))
    if not math.isnan(median):
        panel.fill_betweenx([y - half, y + half], q1, q3, color=colour, alpha=0.20, linewidth=0)
        panel.plot([median, median], [y - half, y + half], color=colour, linewidth=2.2, solid_capstyle="butt")
    x = np.minimum(mine[metric].to_numpy(dtype=float), edge)
    # Spread over the row so that equal values stay apart; keyed by place, so that a report is drawn the same again.
    offsets = y + np.linspace(-0.75, 0.75, len(x))[np.random.default_rng([m, len(x)]).permutation(len(x))] * half
    missed, false = mine["missed"].to_numpy(dtype=bool), mine["false"].to_numpy(dtype=bool)
    plain = ~missed & ~false
    panel.scatter(x[plain], offsets[plain], s=11, marker=marker, color=colour, alpha=0.75, linewidths=0, zorder=3)
    panel.scatter(x[missed], offsets[missed], s=26, marker="x", color=colour, linewidths=1.5, zorder=4, clip_on=False)
    panel.scatter(
        x[false & ~missed],
        offsets[false & ~missed],
        s=24,
        marker="D",
        facecolors="white",
        edgecolors=colour,
        linewidths=1.3,
        zorder=4,
        clip_on=False,
    )


def edge_of_panel(panel: "Axes") -> float:
    """The largest x that is drawn: where infinite values go, or the end of a share's axis."""
    right = panel.get_xlim()[1]
    return edge_of(right / 2.0) if panel.get_xscale() == "symlog" else right


def _strip_legend(figure: Any, models: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    def handle(marker: str, colour: str, label: str, **more: Any) -> Any:
        return Line2D([], [], linestyle="none", marker=marker, color=colour, label=label, markersize=5, **more)

    handles = []
    if len(models) > 1:
        handles += [
            handle(MODEL_MARKERS[m % len(MODEL_MARKERS)], colour_of(m, MODEL_COLOURS), model)
            for m, model in enumerate(models)
        ]
    handles += [
        handle("x", "#333b43", "missed", markeredgewidth=1.5),
        handle("D", "#333b43", "false", markerfacecolor="white", markeredgewidth=1.3),
    ]
    figure.legend(
        handles=handles, loc="outside upper right", ncols=min(len(handles), 7), handletextpad=0.2, columnspacing=1.2
    )


def share_plot(scores: "pd.DataFrame") -> Picture:
    """Mean Dice of every model over the share of the labelled cases it was trained on."""
    from matplotlib.figure import Figure

    means = mean_dice(scores)
    shares = sorted(set(means["labelled_share"]))
    with drawing_style():
        figure = Figure(figsize=(7.4, 3.3), layout="constrained")
        panel = figure.subplots()
        for m, model in enumerate(dict.fromkeys(means["model"])):
            mine = means.loc[means["model"] == model].sort_values(by="labelled_share")
            panel.plot(
                mine["labelled_share"],
                mine["mean_dice"],
                color=colour_of(m, MODEL_COLOURS),
                marker=MODEL_MARKERS[m % len(MODEL_MARKERS)],
                markersize=5,
                linewidth=1.6,
                label=model,
            )
        panel.set_xscale("log")
        panel.set_xticks(shares, [f"{100 * share:g}" for share in shares])
        panel.set_xticks([], minor=True)
        panel.set_xlabel("share of the labelled cases (%)")
        panel.set_title("mean Dice over structures", loc="left")
        panel.grid(axis="y")
        figure.legend(loc="outside right center")
        return picture(
            figure, "Mean Dice of every model over the share of the labelled cases; the values stand in the table."
        )


def learning_curve(stage: str, curve: "pd.DataFrame") -> Picture | None:
    """Loss over steps and, below it where there is one, validation Dice; None where the table holds neither."""
    from matplotlib.figure import Figure

    losses = [name for name in ("loss", "validation_loss") if _has_values(curve, name)]
    dices = [
        str(name) for name in curve.columns if str(name).startswith("validation_dice") and _has_values(curve, str(name))
    ]
    if "step" not in curve.columns or not (losses or dices):
        return None
    groups = [group for group in (losses, dices) if group]
    with drawing_style():
        figure = Figure(figsize=(3.5, 0.6 + 1.35 * len(groups)), layout="constrained")
        panels = figure.subplots(len(groups), 1, sharex=True, squeeze=False)[:, 0]
        for panel, names in zip(panels, groups, strict=True):
            _draw_curves(panel, curve, names)
        panels[-1].set_xlabel("step")
        figure.suptitle(in_words(stage), x=0.02, ha="left", fontsize=9.5, fontweight="bold")
        return picture(figure, f"Learning curve of the stage {stage}: {', '.join([*losses, *dices])} over steps.")


def _has_values(curve: "pd.DataFrame", name: str) -> bool:
    return name in curve.columns and bool(np.isfinite(curve[name].to_numpy(dtype=float)).any())


def _draw_curves(panel: "Axes", curve: "pd.DataFrame", names: Sequence[str]) -> None:
    main = names[0]
    for name in reversed(names):
        steps, values = thinned(curve["step"].to_numpy(dtype=float), curve[name].to_numpy(dtype=float))
        colour = MODEL_COLOURS[0] if name in (main, "loss") else "#b4bbc2"
        style = {"marker": "o", "markersize": 3} if len(steps) < 40 else {}
        panel.plot(steps, values, color=colour, linewidth=1.5 if name == main else 0.9, **style)
    panel.set_ylabel("validation Dice" if main.startswith("validation_dice") else "loss")
    panel.grid(axis="y")
    if main.startswith("validation_dice"):
        panel.set_ylim(0, 1)


def thinned(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most MOST_CURVE_POINTS points: means over runs of steps; entries without a value are passed over."""
    known = np.isfinite(values)
    steps, values = steps[known], values[known]
    if len(steps) <= MOST_CURVE_POINTS:
        return steps, values
    runs = [np.array_split(array, MOST_CURVE_POINTS) for array in (steps, values)]
    return np.array([run.mean() for run in runs[0]]), np.array([run.mean() for run in runs[1]])
