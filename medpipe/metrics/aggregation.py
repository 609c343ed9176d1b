"""From one score a case and structure to numbers of a study: per patient first, nothing dropped in silence."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from medpipe.metrics.definitions import metrics_in

if TYPE_CHECKING:
    import pandas as pd

GROUP_COLUMNS = ("model", "labelled_share")
KEY_COLUMNS = ("model", "labelled_share", "member", "case_id", "structure")
DEFAULTS: dict[str, Any] = {"model": "model", "labelled_share": 1.0}
STATUSES = ("scored", "missed", "false", "absent")


def complete_scores(scores: "pd.DataFrame") -> "pd.DataFrame":
    """The rows of scores.csv with model and labelled share filled in where a single model has none; checked.

    Each row is one case and structure. Refused: missing columns, an unknown status, the same case scored twice.
    """
    missing = [name for name in ("case_id", "patient_id", "structure", "status", "dice") if name not in scores.columns]
    if missing:
        raise ValueError(f"the scores lack the columns {missing}; they have {list(scores.columns)}")
    for column in ("case_id", "patient_id", "structure"):
        nameless = int(np.count_nonzero(scores[column].isna()))
        if nameless:  # pandas would leave these rows out of every group, in silence
            raise ValueError(f"the scores hold {nameless} rows without a {column}")
    table = scores.copy()
    for column, default in DEFAULTS.items():
        table[column] = table[column].fillna(default) if column in table.columns else default
    unknown = sorted(set(table["status"]) - set(STATUSES))
    if unknown:
        raise ValueError(f"the scores hold the status {unknown[0]!r}, expected one of {', '.join(STATUSES)}")
    keys = [column for column in KEY_COLUMNS if column in table.columns]
    repeated = table[table.duplicated(keys)]
    if len(repeated):
        first = repeated.iloc[0]
        raise ValueError(
            f"{len(repeated)} rows of the scores come twice, first case {first['case_id']!r}, structure "
            f"{first['structure']!r} of {first['model']!r}; give different models different names"
        )
    return table


def per_patient(scores: "pd.DataFrame") -> "pd.DataFrame":
    """One row a model, labelled share, structure and patient: the mean over the patient's examinations.

    Absent ones (both masks empty) are left out of the mean; a patient with nothing else stays, with NaN. Columns:
    the metrics, and whether any examination was `missed`, `false`, or all of them `absent`.
    """
    table = complete_scores(scores)
    metrics = metric_columns(table)
    for status in ("missed", "false", "absent"):
        table[status] = table["status"] == status
    how = dict.fromkeys(metrics, "mean") | {"missed": "any", "false": "any", "absent": "all"}
    groups = table.groupby([*GROUP_COLUMNS, "structure", "patient_id"], sort=False)
    return groups.agg(how).reset_index()


def summary(scores: "pd.DataFrame") -> "pd.DataFrame":
    """One row a model, labelled share, structure and metric, in the order in which they first appear.

    Columns: n (patients with a defined score), missed, false, absent (patients), finite (of n), mean and sd over the
    finite values (sd with n - 1; NaN under two), median, q1, q3 over all n, infinite ones included.
    """
    import pandas as pd

    patients = per_patient(scores)
    rows = []
    for keys, group in patients.groupby([*GROUP_COLUMNS, "structure"], sort=False):
        assert isinstance(keys, tuple)
        counts = {status: int(np.count_nonzero(group[status])) for status in ("missed", "false", "absent")}
        for metric in metric_columns(patients):
            names = dict(zip((*GROUP_COLUMNS, "structure"), keys, strict=True))
            rows.append({**names, "metric": metric, **counts, **describe(group[metric].to_numpy(dtype=np.float64))})
    return pd.DataFrame(rows)


def describe(values: np.ndarray) -> dict[str, float]:
    """n, finite, mean, sd, median, q1, q3 of one score over patients; NaN (undefined) does not count, infinity does."""
    defined = values[~np.isnan(values)]
    finite = defined[np.isfinite(defined)]
    q1, median, q3 = (quantile(defined, share) for share in (0.25, 0.5, 0.75))
    return {
        "n": int(defined.size),
        "finite": int(finite.size),
        "mean": float(finite.mean()) if finite.size else math.nan,
        "sd": float(finite.std(ddof=1)) if finite.size > 1 else math.nan,
        "median": median,
        "q1": q1,
        "q3": q3,
    }


def quantile(values: np.ndarray, share: float) -> float:
    """Order statistic with linear interpolation that keeps infinite values in their place; NaN for no values.

    numpy's interpolation gives NaN between two infinite values (inf - inf); here it is infinite, and so is whatever
    lies between a finite and an infinite one.
    """
    if values.size == 0:
        return math.nan
    ordered = np.sort(values)
    position = share * (ordered.size - 1)
    low = math.floor(position)
    below, above = float(ordered[low]), float(ordered[min(low + 1, ordered.size - 1)])
    if position == low or below == above:
        return below
    return below + (position - low) * (above - below)


def mean_dice(scores: "pd.DataFrame") -> "pd.DataFrame":
    """One row a model and labelled share: mean_dice, the mean of its structures' means, and structures, patients.

    A structure that no patient has (all absent) has no mean and does not count; `structures` says how many did.
    """
    table = summary(scores)
    rows = table[table["metric"] == "dice"].groupby(list(GROUP_COLUMNS), sort=False)["mean"].agg(["mean", "count"])
    rows.columns = ["mean_dice", "structures"]
    rows["patients"] = per_patient(scores).groupby(list(GROUP_COLUMNS), sort=False)["patient_id"].nunique()
    return rows.reset_index()


def case_means(scores: "pd.DataFrame") -> "pd.DataFrame":
    """One row a model, labelled share and case: its mean Dice over the structures with a defined one; worst first.

    Cases without any defined Dice come last, with NaN. Ties keep the order of case_id.
    """
    table = complete_scores(scores)
    groups = table.groupby([*GROUP_COLUMNS, "case_id", "patient_id"], sort=True)
    rows = groups.agg(mean_dice=("dice", "mean")).reset_index()
    return rows.sort_values("mean_dice", kind="stable", na_position="last", ignore_index=True)


def notable_cases(scores: "pd.DataFrame", *, model: str | None = None) -> list[tuple[str, str]]:
    """("best", case_id), ("median", ...), ("worst", ...) by mean Dice, of one model; fewer where cases are fewer.

    Without `model`, of the first one; always at its largest labelled share.
    """
    table, means = complete_scores(scores), case_means(scores)
    model = str(table["model"].iloc[0]) if model is None else model
    means = means[(means["model"] == model) & means["mean_dice"].notna()]
    if means.empty:
        raise ValueError(f"no scored case of the model {model!r}; the scores hold {list(table['model'].unique())}")
    means = means[means["labelled_share"] == means["labelled_share"].max()]
    ordered = [str(case_id) for case_id in means["case_id"]]
    picks = {"best": ordered[-1], "worst": ordered[0], "median": ordered[(len(ordered) - 1) // 2]}
    named: dict[str, str] = {}
    for role, case_id in picks.items():
        if case_id not in named.values():
            named[role] = case_id
    return [(role, named[role]) for role in ("best", "median", "worst") if role in named]


def metric_columns(table: "pd.DataFrame") -> list[str]:
    """The metrics that a table of scores holds, in the order of the table of metrics."""
    return metrics_in(table.columns)
