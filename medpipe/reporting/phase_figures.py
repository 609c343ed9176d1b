"""Figures of phases: time lines, confusion, agreement of the withdrawal times, errors of a network."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

from medpipe.metrics.agreement import BlandAltman
from medpipe.metrics.phases import IGNORED, PHASES
from medpipe.metrics.withdrawal import Withdrawal
from medpipe.reporting.phase_colours import IGNORED_COLOUR, PHASE_COLOURS
from medpipe.reporting.pictures import Picture, drawing_style, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_COLUMNS = 2400  # of a time line: more than a page has pixels


@final
@dataclass(frozen=True, eq=False)
class TimeLine:
    """One video to draw: reference, prediction, the predicted phase's probability (T,), the clinical times of both."""

    times_s: np.ndarray
    ref: np.ndarray
    pred: np.ndarray
    confidence: np.ndarray | None
    of_ref: Withdrawal
    of_pred: Withdrawal


def time_line(line: TimeLine) -> Picture:
    """Strips of reference and prediction over minutes, the confidence below, marks at the caecum and the end."""
    from matplotlib.figure import Figure

    minutes = line.times_s / 60
    end = float(minutes[-1]) if len(minutes) else 0.0
    with drawing_style():
        figure = Figure(figsize=(11.0, 1.75), layout="constrained")
        top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=(1, 1, 0.8))
        for panel, labels, times, name in (
            (top, line.ref, line.of_ref, "reference"),
            (middle, line.pred, line.of_pred, "predicted"),
        ):
            _strip(panel, labels, end)
            _marks(panel, times)
            panel.set_ylabel(name, rotation=0, ha="right", va="center")
        _confidence(bottom, minutes, line.confidence)
        bottom.set_xlabel("minutes")
        bottom.set_xlim(0, max(end, 1e-3))
        return picture(figure, "Time line of phases: reference, prediction and confidence over minutes.")


def _strip(panel: "Axes", labels: np.ndarray, end: float) -> None:
    """One image, not a line a frame."""
    from matplotlib.colors import to_rgb

    table = np.array([to_rgb(colour) for colour in (*PHASE_COLOURS, IGNORED_COLOUR)])
    step = max(1, math.ceil(len(labels) / MOST_COLUMNS))
    shown = np.where(labels[::step] == IGNORED, len(PHASE_COLOURS), labels[::step])
    panel.imshow(table[shown][None], aspect="auto", extent=(0, max(end, 1e-3), 0, 1), interpolation="nearest")
    panel.set_yticks([])
    panel.spines[:].set_visible(False)


def _marks(panel: "Axes", times: Withdrawal) -> None:
    """A line at the first sustained caecum and one at the end of the withdrawal."""
    if not times.caecum_reached:
        return
    for at_s in (times.caecum_at_s, times.caecum_at_s + times.gross_s):
        panel.axvline(at_s / 60, color="white", linewidth=2.4)
        panel.axvline(at_s / 60, color="black", linewidth=1.0)


def _confidence(panel: "Axes", minutes: np.ndarray, confidence: np.ndarray | None) -> None:
    panel.set_ylim(0, 1)
    panel.set_yticks([0, 1])
    panel.set_ylabel("confidence", rotation=0, ha="right", va="center")
    if confidence is not None:
        step = max(1, math.ceil(len(minutes) / MOST_COLUMNS))
        panel.fill_between(minutes[::step], confidence[::step], color="#9fb4c3", linewidth=0)


def confusion_figure(matrix: np.ndarray) -> Picture:
    """Shares of each reference phase (row) by predicted phase; a row that no video has is empty."""
    from matplotlib.figure import Figure

    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.full(matrix.shape, np.nan), where=totals > 0)
    with drawing_style():
        figure = Figure(figsize=(6.2, 4.6), layout="constrained")
        panel = figure.subplots()
        panel.imshow(np.nan_to_num(shares), cmap="Blues", vmin=0, vmax=1)
        panel.set_xticks(range(len(PHASES)), list(PHASES), rotation=40, ha="right")
        panel.set_yticks(range(len(PHASES)), [f"{name} ({n:,})" for name, n in zip(PHASES, totals[:, 0], strict=True)])
        panel.set_xlabel("predicted")
        panel.set_ylabel("reference (frames)")
        panel.spines[:].set_visible(False)
        for row, column in np.argwhere(shares >= 0.005):
            share = shares[row, column]
            colour = "white" if share > 0.55 else "#1f262d"
            panel.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=8, color=colour)
        return picture(figure, "Confusion matrix: percent of each reference phase by predicted phase.")


def bland_altman_figure(ref_s: np.ndarray, found_s: np.ndarray, agreement: BlandAltman) -> Picture:
    """Difference of the withdrawal times over their mean, in minutes, with bias and 95 % limits."""
    from matplotlib.figure import Figure

    ref, found = ref_s / 60, found_s / 60
    with drawing_style():
        figure = Figure(figsize=(5.6, 3.6), layout="constrained")
        panel = figure.subplots()
        panel.axhline(0, color="#c3c9ce", linewidth=0.8)
        panel.scatter((ref + found) / 2, found - ref, s=22, color="#0b5c8c", alpha=0.8, linewidths=0)
        lines = ((agreement.bias, "bias", "-"), (agreement.low, "-1.96 SD", "--"), (agreement.high, "+1.96 SD", "--"))
        for value, name, style in lines:
            if not math.isnan(value):
                panel.axhline(value / 60, color="#a63a00", linestyle=style, linewidth=1.2)
                text = f"{name} {value / 60:+.1f}"
                panel.annotate(text, (1.01, value / 60), xycoords=("axes fraction", "data"), fontsize=8, va="center")
        panel.set_xlabel("mean of reference and predicted withdrawal time, min")
        panel.set_ylabel("predicted - reference, min")
        return picture(figure, "Bland-Altman plot of the withdrawal time; the limits stand in the table.")


def legend() -> list[tuple[str, str]]:
    """(phase, colour), the ignored frames last."""
    return [*zip(PHASES, PHASE_COLOURS, strict=True), ("not named", IGNORED_COLOUR)]


def curves_figure(curves: Sequence[tuple[str, Any]]) -> Picture | None:
    """Training loss of each fold over steps, means of runs of steps where there are many."""
    from matplotlib.figure import Figure

    from medpipe.reporting.colours import MODEL_COLOURS, colour_of

    if not curves:
        return None
    with drawing_style():
        figure = Figure(figsize=(11.0, 2.6), layout="constrained")
        panel = figure.subplots()
        for number, (name, table) in enumerate(curves):
            width = max(1, len(table) // 60)
            loss = table["loss"].to_numpy(dtype=float)[: len(table) // width * width].reshape(-1, width).mean(axis=1)
            steps = table["step"].to_numpy(dtype=float)[: len(loss) * width : width]
            panel.plot(steps, loss, color=colour_of(number, MODEL_COLOURS), linewidth=1.2, label=name)
        panel.set_xlabel("step")
        panel.set_ylabel("loss")
        panel.set_yscale("log")
        panel.legend(fontsize=7.5, ncols=3)
        return picture(figure, "Training loss over steps.")
