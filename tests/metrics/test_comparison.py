"""Comparisons of made-up studies: what is planted is found, what is not is not, and nothing is dropped in silence."""

import math

import numpy as np
import pandas as pd
import pytest

from medpipe.metrics.comparison import Comparison, arms_of, compare_scores, mean_interval


def scores_of(values: dict[str, np.ndarray], model: str, metric: str = "dice") -> pd.DataFrame:
    """structure -> one value a patient, as the rows of a file of scores."""
    rows = [
        {"model": model, "labelled_share": 1.0, "case_id": f"c{i}", "patient_id": f"p{i}", "structure": structure,
         "status": "scored", "dice": 0.5, metric: value, "definition": "medpipe-1"}
        for structure, column in values.items()
        for i, value in enumerate(column)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def compared(*tables: pd.DataFrame, **options: object) -> Comparison:
    arms: dict[str, pd.DataFrame] = {}
    for index, table in enumerate(tables):
        arms |= arms_of(table, "ABCDEFG"[index])
    return compare_scores(arms, **{"metrics": ["dice"], "num_bootstraps": 0, **options})


def draw(rng: np.random.Generator, num_patients: int, shift_sd: float = 0.0, num_arms: int = 2) -> list[pd.DataFrame]:
    """Arms on the same patients; the last one is `shift_sd` standard deviations of a paired difference better."""
    patients = rng.normal(0.8, 0.05, num_patients)
    arms = [patients + rng.normal(0, 0.02, num_patients) for _ in range(num_arms)]
    arms[-1] += shift_sd * 0.02 * math.sqrt(2)
    return [scores_of({"bladder": values}, f"m{index}") for index, values in enumerate(arms)]


def test_copies_show_no_difference_and_no_nan() -> None:
    table = draw(np.random.default_rng(0), 29)[0]
    test = compared(table, table).pairs[0]
    assert (test.p, test.p_adjusted, test.mean_difference, test.effect) == (1.0, 1.0, 0.0, 0.0)
    assert mean_interval(np.zeros(29), 1000, 0) == (0.0, 0.0)


def test_a_planted_shift_is_found_and_chance_is_not() -> None:
    rng = np.random.default_rng(29)
    found = [compared(*draw(rng, 29, 0.6)).pairs[0].p_adjusted <= 0.05 for _ in range(200)]
    by_chance = [compared(*draw(rng, 29)).pairs[0].p_adjusted <= 0.05 for _ in range(200)]
    assert np.mean(found) >= 0.75
    assert 0.01 <= np.mean(by_chance) <= 0.095  # 200 draws of 0.05: 2.5 to 19 in 199 of 200 such tests


def test_three_models_are_ranked_and_the_shifted_one_is_found() -> None:
    rng = np.random.default_rng(3)
    comparison = compared(*draw(rng, 29, 1.5, num_arms=3))
    assert comparison.omnibus[0].p_adjusted <= 0.05
    assert [test.p_adjusted <= 0.05 for test in comparison.pairs] == [False, True, True]
    chance = [min(t.p_adjusted for t in compared(*draw(rng, 20, num_arms=3)).pairs) <= 0.05 for _ in range(100)]
    assert np.mean(chance) <= 0.12  # 5 % at most by the correction; 12 of 100 come by chance once in 250


def test_benjamini_hochberg_and_holm_by_hand() -> None:
    rng = np.random.default_rng(1)
    shifts = [0.0, 0.3, 0.6, 1.0]
    first = {f"s{i}": rng.normal(0.8, 0.02, 20) for i in range(4)}
    second = {
        name: values + 0.02 * (rng.normal(0, 1, 20) + shifts[i]) for i, (name, values) in enumerate(first.items())
    }
    tables = scores_of(first, "a"), scores_of(second, "b")
    p = np.array([test.p for test in compared(*tables).pairs])
    order = np.argsort(p)
    by_rank = np.minimum.accumulate((p[order] * 4 / np.arange(1, 5))[::-1])[::-1]
    holm = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(4, 0, -1)))
    assert np.array([t.p_adjusted for t in compared(*tables).pairs])[order] == pytest.approx(np.minimum(1, by_rank))
    assert np.array([t.p_adjusted for t in compared(*tables, correction="holm").pairs])[order] == pytest.approx(holm)


def test_too_few_patients_are_refused_with_the_number_that_could() -> None:
    test = compared(*draw(np.random.default_rng(0), 5, 5.0)).pairs[0]
    assert math.isnan(test.p)
    assert math.isnan(test.p_adjusted)
    assert test.refusal == "too few patients: 5, at least 6 could show a difference"
    assert compared(*draw(np.random.default_rng(0), 6, 9.0)).pairs[0].p == 2 / 2**6


def test_holm_asks_for_more_patients_where_the_family_is_larger() -> None:
    values = {f"s{i}": np.linspace(0.5, 0.9, 8) for i in range(10)}
    tables = scores_of(values, "a"), scores_of({name: v + 0.05 for name, v in values.items()}, "b")
    assert all("at least 9" in test.refusal for test in compared(*tables, correction="holm").pairs)
    assert all(test.p_adjusted == 2 / 2**8 for test in compared(*tables).pairs)


def test_missed_structures_count_by_rank_and_not_in_the_mean() -> None:
    hd95 = np.linspace(2, 9, 12)
    worse = hd95 + 0.5
    worse[0] = np.inf
    comparison = compared(
        scores_of({"uterus": hd95}, "a", "hd95_mm"), scores_of({"uterus": worse}, "b", "hd95_mm"), metrics=["hd95_mm"]
    )
    test = comparison.pairs[0]
    assert (test.n, test.finite, test.effect) == (12, 11, 1.0)
    assert test.mean_difference == pytest.approx(0.5)
    assert test.p == 2 / 2**12


def test_undefined_scores_are_left_out_and_counted() -> None:
    first, second = np.linspace(0.5, 0.9, 10), np.linspace(0.6, 0.95, 10)
    second[3] = math.nan
    test = compared(scores_of({"uterus": first}, "a"), scores_of({"uterus": second}, "b")).pairs[0]
    assert (test.n, test.undefined) == (9, 1)


def test_other_patients_are_refused_or_counted() -> None:
    first, second = draw(np.random.default_rng(0), 12)
    second = second[second["patient_id"] != "p7"]
    with pytest.raises(ValueError, match=r"B lacks 1 patients that others have: p7; .*--allow-unpaired"):
        compared(first, second)
    comparison = compared(first, second, allow_unpaired=True)
    assert comparison.pairs[0].n == 11
    assert any("p7; left out" in note for note in comparison.notes)


def test_a_structure_of_one_model_only_is_counted_or_refused_when_asked_for() -> None:
    values = np.linspace(0.5, 0.9, 10)
    first, second = scores_of({"uterus": values, "bladder": values}, "a"), scores_of({"uterus": values}, "b")
    assert compared(first, second).notes == ("bladder is not compared: no scores of B.",)
    with pytest.raises(ValueError, match="no structure 'bladder' in the scores of B"):
        compared(first, second, structures=["bladder"])


def test_examinations_of_one_patient_are_one_pair() -> None:
    first, second = draw(np.random.default_rng(0), 12)
    for table in (first, second):
        table["patient_id"] = [f"p{i // 2}" for i in range(12)]
    assert compared(first, second).pairs[0].n == 6


def test_against_names_the_one_that_all_others_are_compared_with() -> None:
    pairs = compared(*draw(np.random.default_rng(0), 12, num_arms=3), against="B").pairs
    assert [(test.first, test.second) for test in pairs] == [("B", "A"), ("B", "C")]
    with pytest.raises(ValueError, match="no model 'Z'"):
        compared(*draw(np.random.default_rng(0), 12), against="Z")


def test_scores_of_another_definition_are_refused() -> None:
    table = draw(np.random.default_rng(0), 8)[0]
    with pytest.raises(ValueError, match="no column 'definition'"):
        arms_of(table.drop(columns="definition"), "A")
    with pytest.raises(ValueError, match=r"made by the definition \['medpy'\]"):
        arms_of(table.assign(definition="medpy"), "A")


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(8)
    covered = [low <= 0 <= high for low, high in (mean_interval(rng.normal(0, 1, 25), 500, i) for i in range(200))]
    assert 0.88 <= np.mean(covered) <= 0.99


def test_the_family_of_tests_is_stated() -> None:
    text = " ".join(compared(*draw(np.random.default_rng(0), 12, num_arms=3)).methods())
    assert "Family: 3 paired tests (structure x metric x pair of models), 0 refused" in text
    assert "Benjamini-Hochberg" in text
