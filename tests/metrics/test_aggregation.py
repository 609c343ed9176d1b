"""Per patient first, and nothing dropped in silence."""

import math

import numpy as np
import pandas as pd
import pytest

from medpipe.metrics.aggregation import case_means, describe, mean_dice, notable_cases, per_patient, quantile, summary


def row(patient: str, dice: float, hd95_mm: float, *, structure="bladder", case=None, status="scored", **more) -> dict:
    case_id = patient if case is None else case
    scores = {"structure": structure, "status": status, "dice": dice, "hd95_mm": hd95_mm}
    return {"model": "net", "labelled_share": 1.0, "case_id": case_id, "patient_id": patient, **scores, **more}


MISSED = {"dice": 0.0, "hd95_mm": math.inf, "status": "missed"}
FALSE = {"dice": 0.0, "hd95_mm": math.inf, "status": "false"}
ABSENT = {"dice": math.nan, "hd95_mm": math.nan, "status": "absent"}


def metric_row(table: pd.DataFrame, metric: str) -> dict:
    rows = summary(table)
    return rows[rows["metric"] == metric].iloc[0].to_dict()


def test_examinations_of_one_patient_are_averaged_before_the_mean_over_patients() -> None:
    table = pd.DataFrame([row("a", 0.9, 1, case="a1"), row("a", 0.7, 3, case="a2"), row("b", 0.2, 10)])
    dice = metric_row(table, "dice")
    assert dice["n"] == 2
    assert dice["mean"] == pytest.approx((0.8 + 0.2) / 2, abs=1e-12)
    assert metric_row(table, "hd95_mm")["mean"] == pytest.approx((2 + 10) / 2, abs=1e-12)


def test_missed_and_false_stand_beside_the_finite_mean_and_inside_the_median() -> None:
    table = pd.DataFrame(
        [row("a", 0.8, 2), row("b", 0.6, 4), row("c", **MISSED), row("d", **FALSE), row("e", **ABSENT)]
    )
    hd95 = metric_row(table, "hd95_mm")
    counts = {name: hd95[name] for name in ("n", "missed", "false", "absent", "finite")}
    assert counts == {"n": 4, "missed": 1, "false": 1, "absent": 1, "finite": 2}
    assert hd95["mean"] == 3.0
    assert hd95["sd"] == pytest.approx(math.sqrt(2), abs=1e-12)  # sample SD of 2 and 4
    assert (hd95["q1"], hd95["median"], hd95["q3"]) == (3.5, math.inf, math.inf)
    assert metric_row(table, "dice")["mean"] == pytest.approx(1.4 / 4, abs=1e-12)  # the two zeros count


def test_one_missed_examination_makes_the_patients_distance_infinite() -> None:
    table = pd.DataFrame([row("a", 0.8, 2, case="a1"), row("a", case="a2", **MISSED), row("b", 0.6, 4)])
    patient = per_patient(table).set_index("patient_id").loc["a"]
    assert (patient["dice"], patient["hd95_mm"], bool(patient["missed"])) == (0.4, math.inf, True)
    assert metric_row(table, "hd95_mm")["missed"] == 1


def test_a_patients_absent_examination_is_left_out_of_the_patients_mean() -> None:
    table = pd.DataFrame([row("a", 0.8, 2, case="a1"), row("a", case="a2", **ABSENT), row("b", **ABSENT)])
    dice = metric_row(table, "dice")
    assert (dice["n"], dice["mean"], dice["absent"]) == (1, 0.8, 1)


def test_a_structure_that_nobody_has_stays_in_the_table() -> None:
    dice = metric_row(pd.DataFrame([row("a", **ABSENT), row("b", **ABSENT)]), "dice")
    assert (dice["n"], dice["absent"]) == (0, 2)
    assert math.isnan(dice["mean"])
    assert math.isnan(dice["median"])


def test_quantiles_of_finite_values_are_numpys_linear_ones() -> None:
    values = np.random.default_rng(0).standard_normal(11)
    for share in (0.0, 0.25, 0.5, 0.75, 0.9, 1.0):
        assert quantile(values, share) == pytest.approx(float(np.quantile(values, share)), abs=1e-12)


def test_quantiles_keep_infinite_values_in_their_place() -> None:
    assert quantile(np.array([1.0, 2.0, math.inf]), 0.5) == 2.0
    assert quantile(np.array([1.0, math.inf]), 0.5) == math.inf
    assert quantile(np.array([math.inf, math.inf, 3.0]), 0.75) == math.inf  # numpy: NaN, as inf - inf
    assert quantile(np.array([1.0, 2.0, 3.0, math.inf, math.inf]), 0.5) == 3.0
    assert math.isnan(quantile(np.array([]), 0.5))


def test_the_sd_of_one_patient_is_not_zero_but_unknown() -> None:
    described = describe(np.array([0.7]))
    assert (described["mean"], described["median"]) == (0.7, 0.7)
    assert math.isnan(described["sd"])


def test_mean_dice_weighs_structures_alike_and_says_how_many() -> None:
    rows = [
        row("a", 0.9, 1),
        row("b", 0.7, 1),
        row("a", 0.5, 1, structure="rectum"),
        row("b", structure="rectum", **ABSENT),
    ]
    rows += [row(patient, structure="uterus", **ABSENT) for patient in "ab"]
    means = mean_dice(pd.DataFrame(rows)).iloc[0]
    assert means["mean_dice"] == pytest.approx((0.8 + 0.5) / 2, abs=1e-12)
    assert (means["structures"], means["patients"]) == (2, 2)


def test_models_and_shares_are_never_mixed() -> None:
    rows = [
        row("a", 0.5, 1, model=m, labelled_share=s) | {"dice": d}
        for m, s, d in [("x", 1.0, 0.9), ("x", 0.1, 0.3), ("y", 1.0, 0.6)]
    ]
    means = mean_dice(pd.DataFrame(rows)).set_index(["model", "labelled_share"])["mean_dice"]
    assert means.to_dict() == {("x", 1.0): 0.9, ("x", 0.1): 0.3, ("y", 1.0): 0.6}


def test_scores_without_model_or_share_are_one_model_at_full_share() -> None:
    table = pd.DataFrame([row("a", 0.9, 1)]).drop(columns=["model", "labelled_share"])
    assert summary(table)[["model", "labelled_share"]].iloc[0].to_list() == ["model", 1.0]


def test_cases_are_ranked_by_mean_dice_worst_first() -> None:
    table = pd.DataFrame(
        [row(p, d, 1, structure=s) for p, d, s in [("a", 0.9, "x"), ("a", 0.5, "y"), ("b", 0.2, "x"), ("c", 0.95, "x")]]
        + [row("d", structure="x", **ABSENT)]
    )
    assert case_means(table)["case_id"].to_list() == ["b", "a", "c", "d"]
    assert notable_cases(table) == [("best", "c"), ("median", "a"), ("worst", "b")]
    assert notable_cases(table[table["case_id"] == "a"]) == [("best", "a")]
    with pytest.raises(ValueError, match="no scored case of the model 'other'"):
        notable_cases(table, model="other")


def test_faulty_score_tables_are_refused() -> None:
    good = pd.DataFrame([row("a", 0.9, 1)])
    with pytest.raises(ValueError, match=r"lack the columns \['status'\]"):
        summary(good.drop(columns="status"))
    with pytest.raises(ValueError, match=r"rows of the scores come twice, first case 'a', structure 'bladder'"):
        summary(pd.concat([good, good]))
    with pytest.raises(ValueError, match="status 'lost', expected one of scored, missed, false, absent"):
        summary(good.assign(status="lost"))
    with pytest.raises(ValueError, match="1 rows without a patient_id"):
        summary(good.assign(patient_id=None))


def test_networks_of_an_ensemble_are_averaged_within_the_patient() -> None:
    table = pd.DataFrame([row("a", d, 1, member=m) for m, d in enumerate((0.6, 0.8))] + [row("b", 0.9, 1, member=0)])
    dice = metric_row(table, "dice")
    assert (dice["n"], dice["mean"]) == (2, pytest.approx((0.7 + 0.9) / 2, abs=1e-12))
