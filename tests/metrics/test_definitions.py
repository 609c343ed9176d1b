"""Every number of a report has a sentence."""

import numpy as np
import pytest

from medpipe.metrics.definitions import METRICS, definitions, metrics_in, nsd_column
from medpipe.metrics.scoring import score_masks


def test_every_score_is_a_metric_with_a_definition() -> None:
    mask = np.ones((2, 3, 4), dtype=bool)
    row = score_masks(mask, mask, spacing_mm=(1, 1, 1), tolerances_mm=[2.0, 0.5]).row()
    assert set(row) - {"status", "volume_ref_ml", "volume_pred_ml"} == set(metrics_in(row))
    assert metrics_in(row)[:2] == ["dice", "iou"]
    assert metrics_in(row)[-4:] == ["nsd_2mm", "nsd_0.5mm", "nsd_area_2mm", "nsd_area_0.5mm"]
    assert {METRICS[name].title for name in row if name in metrics_in(row)} <= set(definitions(row))


def test_definitions_state_the_tolerance_and_the_counts() -> None:
    sentences = definitions([nsd_column(2.5), nsd_column(2.5, by_area=True)])
    assert "within 2.5 mm of the other surface" in sentences["NSD at 2.5 mm"]
    assert "area within 2.5 mm" in sentences["NSD by area at 2.5 mm"]
    assert {"n", "missed", "false", "absent", "mean ± SD", "median [IQR]"} <= set(definitions())


def test_what_is_no_metric_is_no_metric() -> None:
    assert "status" not in METRICS
    assert "nsd_mm" not in METRICS
    with pytest.raises(KeyError):
        METRICS["nsd_twomm"]
