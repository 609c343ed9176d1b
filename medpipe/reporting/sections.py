"""What the template shows of each part of a report: strings and pictures, every number already formatted."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medpipe.metrics.aggregation import case_means, complete_scores, mean_dice, metric_columns, per_patient
from medpipe.metrics.definitions import METRICS
from medpipe.reporting.case_figures import contour_figure
from medpipe.reporting.colours import STRUCTURE_COLOURS, colour_of
from medpipe.reporting.content import CaseView
from medpipe.reporting.figures import learning_curve, share_plot, strip_plot
from medpipe.reporting.formatting import PRINTED, in_words, percent
from medpipe.reporting.pictures import Picture
from medpipe.reporting.tables import COUNTS, Arm, best_arms, judged_by, mean_dice_of, summary_rows

if TYPE_CHECKING:
    import pandas as pd

SHOWN_METRICS = ("dice", "hd95_mm", "assd_mm", "asd_mm")
Shown = dict[str, Any]  # what the template reads


def headline(scores: "pd.DataFrame") -> list[tuple[str, str]]:
    """(value, what it is) of the tiles on top: mean Dice of each model at its largest share, then the counts."""
    means = mean_dice(scores)
    largest = means[means["labelled_share"] == means["labelled_share"].max()]
    tiles = [
        (PRINTED.number(float(value), "dice"), "mean Dice" if len(largest) == 1 else f"mean Dice, {model}")
        for model, value in zip(largest["model"], largest["mean_dice"], strict=True)
    ]
    patients = per_patient(scores)
    tiles += [
        (str(complete_scores(scores)["case_id"].nunique()), "cases"),
        (str(patients["patient_id"].nunique()), "patients"),
        (str(patients["structure"].nunique()), "structures"),
    ]
    if len(means) == 1:
        tiles += [(str(np.count_nonzero(patients[status])), f"structures {status}") for status in ("missed", "false")]
    return tiles


def shown_metrics(scores: "pd.DataFrame") -> list[str]:
    """The metrics of the main tables; the further forms stand in scores.csv and in a table of their own."""
    return [name for name in metric_columns(scores) if name in SHOWN_METRICS or (name.startswith("nsd_")
            and not name.startswith("nsd_area_"))]  # fmt: skip


def further_metrics(scores: "pd.DataFrame") -> list[str]:
    """What `shown_metrics` leaves out."""
    shown = shown_metrics(scores)
    return [name for name in metric_columns(scores) if name not in shown]


def scores_section(scores: "pd.DataFrame") -> Shown:
    """Tables at the largest labelled share, the same for the smaller ones apart, and the figures."""
    table = complete_scores(scores)
    shares = sorted(set(table["labelled_share"]), reverse=True)
    at_largest = table.loc[table["labelled_share"] == shares[0]]
    return {
        "share": percent(float(shares[0])) if len(shares) > 1 else "",
        "tables": score_tables(at_largest, shown_metrics(table)),
        "further": score_tables(at_largest, further_metrics(table)),
        "strips": strip_plot(at_largest),
        "by_share": share_table(table) if len(shares) > 1 else None,
        "share_figure": share_plot(table) if len(shares) > 1 else None,
        "smaller_shares": [
            (percent(float(share)), score_tables(table.loc[table["labelled_share"] == share], shown_metrics(table)))
            for share in shares[1:]
        ],
    }


def score_tables(scores: "pd.DataFrame", metrics: Sequence[str]) -> list[Shown]:
    """One table of the metrics for a single model; for several, one a metric with the models side by side."""
    rows = summary_rows(scores)
    if not metrics:
        return []
    headings = {metric: METRICS[metric].heading for metric in metrics}
    means = mean_dice_of(scores)
    if len(rows) == 1:
        ((arm, structures),) = rows.items()
        return [_one_model_table(structures, metrics, means[arm]) | {"headings": list(headings.values())}]
    return [_many_models_table(rows, metric, means) | {"heading": headings[metric]} for metric in metrics]


def _one_model_table(structures: Mapping[str, Any], metrics: Sequence[str], mean: float) -> Shown:
    lines = []
    for structure, cells in structures.items():
        counts = [str(cells["dice"][name]) for name in COUNTS]
        lines.append((structure, counts, [_cell(cells[metric], metric) for metric in metrics]))
    return {"kind": "one", "lines": lines, "mean": PRINTED.number(mean, "dice") if "dice" in metrics else ""}


def _many_models_table(rows: Mapping[Arm, Any], metric: str, means: Mapping[Arm, float]) -> Shown:
    structures = list(dict.fromkeys(structure for cells in rows.values() for structure in cells))
    lines = []
    for structure in structures:
        cells = {arm: rows[arm][structure][metric] for arm in rows if structure in rows[arm]}
        best = best_arms(cells, metric)
        shown = [_cell(cells[arm], metric) | {"best": arm in best} if arm in cells else None for arm in rows]
        lines.append((structure, shown))
    mean_line = None
    if metric == "dice":
        best = best_arms({arm: {"mean": means[arm]} for arm in rows}, metric)
        mean_line = [(PRINTED.number(means[arm], "dice"), arm in best) for arm in rows]
    models = [arm[0] for arm in rows]
    return {"kind": "many", "models": models, "lines": lines, "means": mean_line, "judged_by": judged_by(metric)}


def _cell(row: Mapping[str, Any], metric: str) -> Shown:
    return {
        "mean_sd": PRINTED.mean_sd(row, metric),
        "median_iqr": PRINTED.median_iqr(row, metric),
        "counts": f"n {row['n']}, {row['missed']} missed, {row['false']} false"
        + (f", {row['absent']} absent" if row["absent"] else ""),
        "best": False,
    }


def share_table(scores: "pd.DataFrame") -> Shown:
    """Mean Dice, models down, labelled shares across; the best model of each share is marked."""
    means = mean_dice_of(scores)
    models = list(dict.fromkeys(model for model, _ in means))
    shares = sorted({share for _, share in means})
    best = {
        share: best_arms({arm: {"mean": value} for arm, value in means.items() if arm[1] == share}, "dice")
        for share in shares
    }
    lines = [
        (
            model,
            [
                (PRINTED.number(means.get((model, share), math.nan), "dice"), (model, share) in best[share])
                for share in shares
            ],
        )
        for model in models
    ]
    return {"shares": [percent(share) for share in shares], "lines": lines}


def curves_section(curves: Mapping[str, "pd.DataFrame"]) -> list[Picture]:
    pictures = (learning_curve(stage, curve) for stage, curve in curves.items())
    return [shown for shown in pictures if shown is not None]


def cases_section(cases: Sequence[tuple[str, CaseView]]) -> list[Shown]:
    """Role, picture and legend of each case that is shown."""
    return [
        {
            "role": role,
            "case_id": view.case_id,
            "model": view.model,
            "picture": contour_figure(view),
            "mean_dice": PRINTED.number(_mean(view.dice.values()), "dice"),
            "legend": [
                (in_words(name), colour_of(s, STRUCTURE_COLOURS), _dice_or_status(view, name))
                for s, name in enumerate(view.structures)
            ],
        }
        for role, view in cases
    ]


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _dice_or_status(view: CaseView, structure: str) -> str:
    has = [structure in masks and bool(masks[structure].any()) for masks in (view.reference, view.prediction)]
    if all(has):
        return PRINTED.number(float(view.dice.get(structure, math.nan)), "dice")
    return {(True, False): "missed", (False, True): "false", (False, False): "absent"}[has[0], has[1]]


def transfer_rows(transfers: Mapping[str, Mapping[str, Any]]) -> list[Shown]:
    """Stage, source, and counts of loaded, not loaded and fresh tensors, with the names where they are given."""
    rows = []
    for stage, report in transfers.items():
        lists = {name: report.get(name) for name in ("loaded", "not_loaded", "fresh")}
        counts = {name: "–" if tensors is None else str(_count(tensors)) for name, tensors in lists.items()}
        names = {
            name: list(lists[name] or []) for name in ("not_loaded", "fresh") if isinstance(lists[name], list | tuple)
        }
        rows.append({"stage": stage, "source": str(report.get("source", "")), **counts, "names": names})
    return rows


def _count(tensors: Any) -> int:
    return tensors if isinstance(tensors, int) else len(tensors)


def case_rows(scores: "pd.DataFrame") -> Shown:
    """Every case of every model, worst first: mean Dice, then Dice and HD95 of each structure."""
    table = complete_scores(scores)
    structures = list(dict.fromkeys(table["structure"]))
    keys = ["model", "labelled_share", "case_id"]
    cells: dict[tuple[Any, ...], dict[str, list[Shown]]] = {}
    for row in table.to_dict("records"):
        key = tuple(row[name] for name in keys)
        cells.setdefault(key, {}).setdefault(row["structure"], []).append(_case_cell(row))
    lines = []
    for mean in case_means(table).to_dict("records"):
        key = tuple(mean[name] for name in keys)
        lines.append(
            {
                "case_id": str(mean["case_id"]),
                "patient_id": str(mean["patient_id"]),
                "model": str(mean["model"]),
                "share": percent(float(mean["labelled_share"])),
                "share_value": float(mean["labelled_share"]),
                "mean_dice": PRINTED.number(float(mean["mean_dice"]), "dice"),
                "cells": [cells[key].get(structure, []) for structure in structures],
            }
        )
    several = {name: table[name].nunique() > 1 for name in ("model", "labelled_share")}
    return {"structures": structures, "lines": lines, "several": several}


def _case_cell(row: Mapping[Any, Any]) -> Shown:
    if row["status"] != "scored":
        return {"dice": row["status"], "hd95": "", "status": row["status"]}
    hd95 = PRINTED.number(float(row["hd95_mm"]), "hd95_mm") if "hd95_mm" in row else ""
    return {"dice": PRINTED.number(float(row["dice"]), "dice"), "hd95": hd95, "status": "scored"}


def record_rows(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and value of everything that the run recorded; nested values one line each, `versions.torch`."""
    rows: list[tuple[str, str]] = []
    for name, value in record.items():
        if isinstance(value, Mapping):
            rows += [(f"{name}.{inner}", text) for inner, text in record_rows(value)]
        else:
            rows.append(
                (str(name), value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False))
            )
    return rows
