"""Paired differences as a figure: every patient, the mean with its interval, which tests showed something."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medpipe.metrics.comparison import Comparison, PairedTest
from medpipe.metrics.definitions import METRICS
from medpipe.reporting.colours import MODEL_COLOURS, colour_of
from medpipe.reporting.formatting import in_words
from medpipe.reporting.pictures import Picture, drawing_style, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_PAIRS = 6  # drawn side by side in a row; with more, only those of one model
Pair = tuple[str, str]  # first, second


def drawn_pairs(comparison: Comparison) -> list[Pair]:
    """The pairs of models that the figure shows."""
    pairs = list(dict.fromkeys((test.first, test.second) for test in comparison.pairs))
    if len(pairs) <= MOST_PAIRS:
        return pairs
    return [pair for pair in pairs if drawn_arm(pairs) in pair][:MOST_PAIRS]


def drawn_arm(pairs: Sequence[Pair]) -> str:
    """The arm whose pairs are drawn where there are too many: that in most of them, of several the first."""
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    return max(names, key=lambda name: sum(name in pair for pair in pairs))


def differences_figure(comparison: Comparison) -> Picture:
    """A panel a metric, a row a structure: one dot a patient, the mean difference with its 95 % interval.

    A filled diamond is a difference that the test showed, a hollow one was not shown or not tested. Infinite
    differences (one model missed the structure) stand in a grey band at the edge.
    """
    from matplotlib.figure import Figure

    pairs = drawn_pairs(comparison)
    metrics = list(dict.fromkeys(test.metric for test in comparison.pairs))
    structures = list(dict.fromkeys(test.structure for test in comparison.pairs))
    tests = {(test.metric, test.structure, test.first, test.second): test for test in comparison.pairs}
    height = 1.1 + len(structures) * (0.16 + max(0.24 * len(pairs), 0.34))
    with drawing_style():
        figure = Figure(figsize=(11.0, height), layout="constrained")
        panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for panel, metric in zip(panels, metrics, strict=True):
            mine = [tests[metric, structure, *pair] for structure in structures for pair in pairs]
            edge = _set_up(panel, metric, structures, mine)
            for s, structure in enumerate(structures):
                for k, pair in enumerate(pairs):
                    y = s + (k - (len(pairs) - 1) / 2) * 0.8 / len(pairs)
                    _draw(panel, tests[metric, structure, *pair], y, 0.3 / len(pairs), k, edge, comparison.alpha)
        _legend(figure, pairs)
        return picture(
            figure,
            f"Paired differences of {', '.join(METRICS[metric].title for metric in metrics)} for "
            f"{', '.join(structures)}; the numbers stand in the table and in comparison.csv.",
        )


def _set_up(panel: "Axes", metric: str, structures: Sequence[str], tests: Sequence[PairedTest]) -> float:
    """Axes around what has to be seen; returns where infinite differences are drawn."""
    values = np.array([value for test in tests for value in (*test.differences, test.ci_low, test.ci_high)])
    finite = values[np.isfinite(values)]
    reach = max(float(np.abs(finite).max()) if finite.size else 0.0, 1.0 if METRICS[metric].unit else 0.02)
    better = METRICS[metric].higher_is_better
    side = "" if better is None else f"; the second model is better to the {'right' if better else 'left'}"
    panel.set_title(f"{METRICS[metric].heading}, difference", loc="left")
    panel.set_xlabel(f"second − first{side}")
    panel.set_ylim(len(structures) - 0.5, -0.5)
    panel.set_yticks(range(len(structures)), [in_words(name) for name in structures])
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="x")
    panel.set_axisbelow(True)
    panel.axvline(0, color="#59636e", linewidth=1.0)
    for s in range(1, len(structures)):
        panel.axhline(s - 0.5, color="#c9ced3", linewidth=0.6)
    inner, edge, outer = 1.08 * reach, 1.18 * reach, 1.28 * reach
    typical = float(np.quantile(np.abs(finite), 0.9)) if finite.size else reach
    if reach > 4 * typical > 0:  # one missed structure would press everything else to the middle
        _bend(panel, typical, reach)
        inner, edge, outer = 1.15 * reach, 1.4 * reach, 1.7 * reach
    if np.isinf(values).any():
        for sign in (-1, 1):
            panel.axvspan(sign * inner, sign * outer, color="#eceef0", zorder=0)
            panel.text(sign * edge, -0.42, "−∞" if sign < 0 else "∞", ha="center", va="top", color="#59636e")
    panel.set_xlim(-outer, outer)
    return edge


def _bend(panel: "Axes", typical: float, reach: float) -> None:
    """A scale that is linear among the nine tenths of small differences, logarithmic beyond."""
    panel.set_xscale("symlog", linthresh=typical, linscale=1.4)
    nice = [digit * 10.0**power for power in range(-3, 4) for digit in (1, 2, 5)]
    within = [tick for tick in nice if 0.4 * typical <= tick <= reach]
    ticks = within[:: max(1, math.ceil(len(within) / 3))]
    panel.set_xticks([*(-tick for tick in reversed(ticks)), 0, *ticks])
    panel.xaxis.set_major_formatter("{x:g}")
    panel.set_xticks([], minor=True)


def _draw(panel: "Axes", test: PairedTest, y: float, half: float, k: int, edge: float, alpha: float) -> None:
    colour = colour_of(k, MODEL_COLOURS)
    x = np.clip(np.array(test.differences), -edge, edge)
    # Spread over the row so that equal values stay apart; keyed by place, so that a report is drawn the same again.
    offsets = y + np.linspace(-1, 1, len(x))[np.random.default_rng([k, len(x)]).permutation(len(x))] * half
    panel.scatter(x, offsets, s=10, color=colour, alpha=0.45, linewidths=0, zorder=2, clip_on=False)
    if math.isnan(test.mean_difference):
        return
    if not math.isnan(test.ci_low):
        panel.plot([test.ci_low, test.ci_high], [y, y], color=colour, linewidth=2.0, zorder=3)
    shown = not test.refusal and test.p_adjusted <= alpha
    panel.scatter(
        [test.mean_difference], [y], s=42, marker="D", facecolors=colour if shown else "white", edgecolors=colour,
        linewidths=1.4, zorder=4,
    )  # fmt: skip


def _legend(figure: Any, pairs: Sequence[Pair]) -> None:
    from matplotlib.lines import Line2D

    def handle(label: str, **style: Any) -> Any:
        return Line2D([], [], linestyle="none", label=label, markersize=6, **style)

    handles = [
        handle(f"{second} − {first}", marker="o", color=colour_of(k, MODEL_COLOURS))
        for k, (first, second) in enumerate(pairs)
    ]
    dark = "#333b43"
    handles += [
        handle("difference shown", marker="D", color=dark),
        handle("not shown", marker="D", color=dark, markerfacecolor="white", markeredgewidth=1.4),
    ]
    widest_inches = 0.075 * max(len(handle.get_label()) for handle in handles) + 0.4  # at 9 points
    ncols = max(1, min(len(handles), int(figure.get_size_inches()[0] / widest_inches)))
    figure.legend(handles=handles, loc="outside upper right", ncols=ncols, handletextpad=0.2)
