"""Paired tests of answers: McNemar by hand, intervals over clusters, what a perturbation changes."""

import pytest

from medpipe.metrics.answer_comparison import ItemScore, compare_answers, mcnemar_p, reliability


def items(rights: str, task: str = "t", per_cluster: int = 1) -> dict[str, ItemScore]:
    return {f"q{n}": ItemScore(task, f"c{n // per_cluster}", sign == "1", float(sign)) for n, sign in enumerate(rights)}


def test_mcnemar_by_hand() -> None:
    assert mcnemar_p(0, 0) == 1.0
    assert mcnemar_p(0, 5) == pytest.approx(2 / 32)
    assert mcnemar_p(1, 5) == pytest.approx(2 * (1 + 6) / 64)
    assert mcnemar_p(4, 4) == 1.0


def test_mcnemar_is_that_of_statsmodels() -> None:
    from statsmodels.stats.contingency_tables import mcnemar

    assert mcnemar_p(7, 21) == pytest.approx(mcnemar([[40, 7], [21, 30]], exact=True).pvalue)


def test_a_pair_is_compared_over_all_and_for_each_task() -> None:
    first = items("1111100000") | {f"x{n}": ItemScore("u", f"d{n}", False, 0.0) for n in range(5)}
    second = items("1111111111") | {f"x{n}": ItemScore("u", f"d{n}", False, 0.0) for n in range(5)}
    found = compare_answers({"a": first, "b": second})
    assert [test.scope for test in found.tests] == ["overall", "t", "u"]
    whole = found.tests[0]
    assert (whole.n, whole.only_first, whole.only_second) == (15, 0, 5)
    assert whole.difference == pytest.approx(1 / 3)
    assert whole.interval.low > 0
    assert found.tests[2].p == 1.0
    assert whole.p_adjusted == pytest.approx(min(1.0, 3 * whole.p))


def test_only_common_questions_are_paired_and_it_is_said() -> None:
    found = compare_answers({"a": items("11110"), "b": items("111")})
    assert found.tests[0].n == 3
    assert "3 questions in common, 2 of one alone" in found.notes[0]
    with pytest.raises(ValueError, match="no question in common"):
        compare_answers({"a": items("1"), "b": {"other": ItemScore("t", "c", True, 1.0)}})


def test_clusters_widen_the_interval_of_a_difference() -> None:
    first, second = "10" * 60, "11" * 30 + "10" * 30
    apart = compare_answers({"a": items(first), "b": items(second)}).tests[0].interval
    together = (
        compare_answers({"a": items(first, per_cluster=20), "b": items(second, per_cluster=20)}).tests[0].interval
    )
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_every_pair_of_three_or_only_those_with_one() -> None:
    models = {name: items(rights) for name, rights in (("a", "1100"), ("b", "1010"), ("c", "1111"))}
    assert len(compare_answers(models).tests) == 3
    against = compare_answers(models, against="c").tests
    assert [(test.first, test.second) for test in against] == [("c", "a"), ("c", "b")]
    with pytest.raises(ValueError, match="no model 'd'"):
        compare_answers(models, against="d")


def test_what_a_perturbation_changes_is_counted_in_both_directions() -> None:
    found = reliability("m", "hidden_text", items("11110000"), items("10010001"))
    assert (found.n, found.right_to_wrong, found.wrong_to_right) == (8, 2, 1)
    assert found.change == pytest.approx(-1 / 8)
    with pytest.raises(ValueError, match="no perturbed question belongs"):
        reliability("m", "hidden_text", items("1"), {})
