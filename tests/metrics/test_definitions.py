"""Every number of a report has a sentence."""

from dataclasses import fields

from medpipe.metrics.definitions import METRICS, definitions
from medpipe.metrics.scoring import Score


def test_every_score_is_a_metric_with_a_definition() -> None:
    not_metrics = {"status", "tolerance_mm", "volume_ref_ml", "volume_pred_ml"}
    assert [field.name for field in fields(Score) if field.name not in not_metrics] == list(METRICS)
    assert {metric.title for metric in METRICS.values()} <= set(definitions())


def test_definitions_state_the_tolerance_and_the_counts() -> None:
    assert "within 2.5 mm of the other surface" in definitions(2.5)["NSD"]
    assert {"n", "missed", "false", "absent", "mean ± SD", "median [IQR]"} <= set(definitions())
