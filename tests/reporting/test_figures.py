"""What the figures of numbers draw, and what they pass over."""

import base64
import math

import numpy as np
import pandas as pd
import pytest

from medpipe.reporting.figures import MOST_CURVE_POINTS, learning_curve, strip_plot, thinned


def svg_of(picture) -> str:
    kind, data = picture.uri.split(";base64,")
    assert kind == "data:image/svg+xml"
    return base64.b64decode(data).decode()


def test_a_curve_is_thinned_to_means_and_keeps_its_ends() -> None:
    steps, values = thinned(np.arange(10_000.0), np.arange(10_000.0) * 2)
    assert len(steps) == MOST_CURVE_POINTS
    assert values == pytest.approx(2 * steps, abs=1e-9)  # means over the same runs
    assert steps[0] < 17
    assert steps[-1] > 9982
    few = thinned(np.array([1.0, 2.0, 3.0]), np.array([5.0, np.nan, 7.0]))
    assert few[0].tolist() == [1.0, 3.0]
    assert few[1].tolist() == [5.0, 7.0]


def test_a_stage_without_numbers_has_no_curve() -> None:
    assert learning_curve("a", pd.DataFrame({"step": [1, 2], "loss": [math.nan, math.nan]})) is None
    assert learning_curve("a", pd.DataFrame({"step": [1, 2], "learning_rate": [1.0, 1.0]})) is None
    drawn = learning_curve("a", pd.DataFrame({"step": [1, 2], "validation_dice": [math.nan, 0.5]}))
    assert drawn is not None
    assert "validation_dice" in drawn.alt


def test_missed_structures_are_drawn_at_the_edge() -> None:
    def table(status: str, hd95_mm: float) -> pd.DataFrame:
        rows = [("a", "scored", 0.9, 3.0), ("b", status, 0.9 if status == "scored" else 0.0, hd95_mm)]
        columns = ["patient_id", "status", "dice", "hd95_mm"]
        return pd.DataFrame(rows, columns=columns).assign(case_id=["a", "b"], structure="bladder")

    # The labels of ticks are drawn as glyphs, with the text in a comment beside them.
    assert "<!-- ∞ -->" in svg_of(strip_plot(table("missed", math.inf)))
    assert "<!-- ∞ -->" not in svg_of(strip_plot(table("scored", 4.0)))


def test_a_study_where_every_case_is_missed_is_drawn() -> None:
    rows = pd.DataFrame(
        {"case_id": ["a"], "patient_id": ["a"], "structure": ["x"], "status": ["missed"], "dice": [0.0]}
    )
    assert strip_plot(rows.assign(hd95_mm=math.inf)).width > 0
    absent = rows.assign(status="absent", dice=math.nan, hd95_mm=math.nan)
    assert strip_plot(absent).width > 0
