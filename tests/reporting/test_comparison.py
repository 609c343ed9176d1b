"""A comparison on its way to a reader: kept and read back, drawn, and shown in the page."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medpipe.metrics.comparison import Comparison, arms_of, compare_scores
from medpipe.metrics.definitions import DEFINITION
from medpipe.reporting.comparison import comparison_section, read_comparison, write_comparison
from medpipe.reporting.comparison_figure import MOST_PAIRS, differences_figure, drawn_pairs
from medpipe.reporting.content import ReportContent
from medpipe.reporting.report import render_report


def arm(shift: float, *, missed: int = -1, num_patients: int = 8) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = []
    for structure in ("bladder", "rectum"):
        for patient in range(num_patients):
            is_missed = patient == missed
            rows.append(
                {"model": "m", "case_id": f"c{patient}", "patient_id": f"p{patient}", "structure": structure,
                 "status": "missed" if is_missed else "scored", "definition": DEFINITION,
                 "dice": 0.0 if is_missed else 0.7 + 0.1 * rng.random() + shift,
                 "hd95_mm": math.inf if is_missed else 5 + rng.random() - 20 * shift}
            )  # fmt: skip
    return arms_of(pd.DataFrame(rows), "m")["m"]


def comparison_of(num_arms: int) -> Comparison:
    arms = {f"model {k}": arm(0.02 * k, missed=k) for k in range(num_arms)}
    return compare_scores(arms, num_bootstraps=50)


@pytest.mark.parametrize("num_arms", [2, 3])
def test_what_is_kept_is_read_back_whole(tmp_path: Path, num_arms: int) -> None:
    comparison = comparison_of(num_arms)
    write_comparison(tmp_path, comparison)
    found = read_comparison(tmp_path / "comparison.json")
    assert found == comparison or repr(found) == repr(comparison)  # NaN is unequal to itself
    assert found.methods() == comparison.methods()
    json.loads((tmp_path / "comparison.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert len(pd.read_csv(tmp_path / "comparison.csv")) == len(comparison.pairs)


def test_the_figure_says_what_it_shows_and_is_drawn_the_same_again() -> None:
    comparison = comparison_of(2)
    picture = differences_figure(comparison)
    assert "Dice, HD95" in picture.alt
    assert "bladder, rectum" in picture.alt
    assert differences_figure(comparison).uri == picture.uri


def test_many_pairs_are_drawn_with_the_first_model_and_the_rest_is_counted() -> None:
    comparison = comparison_of(5)  # ten pairs
    pairs = drawn_pairs(comparison)
    assert len(pairs) == 4 <= MOST_PAIRS
    assert all("model 0" in pair for pair in pairs)
    assert comparison_section("", comparison)["not_drawn"].startswith("6 further pairs stand in the table")


def test_too_few_patients_are_shown_as_a_refusal_not_as_a_number() -> None:
    comparison = compare_scores({"a": arm(0.0, num_patients=3), "b": arm(0.1, num_patients=3)}, num_bootstraps=50)
    html = render_report(ReportContent(title="Comparison", comparisons=[("", comparison)]))
    assert "too few patients: 3, at least 6 could show a difference" in html
    assert "Wilcoxon" in html
    assert "HD95" in html[html.index('id="definitions"') :]
