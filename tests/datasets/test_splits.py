import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from medpipe.datasets.cases import Case
from medpipe.datasets.manifest import Manifest
from medpipe.datasets.splits import labelled_share, ordered_patients, select_part, split_fold

Make = Callable[..., Manifest]


@pytest.fixture
def cases(manifest: Make) -> list[Case]:
    """30 patients with two examinations each."""
    return [
        Case(f"p{patient:02d}_{exam}", f"p{patient:02d}", Path("x"), None, manifest())
        for patient in range(30)
        for exam in "ab"
    ]


def patients(cases: list[Case]) -> set[str]:
    return {case.patient_id for case in cases}


def test_folds_split_patients_and_every_patient_is_held_out_once(cases: list[Case]) -> None:
    held_out = []
    for fold in range(4):
        training, validation = split_fold(cases, fold=fold, num_folds=4, seed=1)
        assert not patients(training) & patients(validation)
        assert len(training) + len(validation) == len(cases)
        assert 7 <= len(patients(validation)) <= 8  # 30 patients in 4 folds
        held_out += sorted(patients(validation))
    assert sorted(held_out) == sorted(patients(cases))


def test_a_split_depends_on_the_seed_alone(cases: list[Case]) -> None:
    first = split_fold(cases, fold=0, num_folds=5, seed=0)
    assert split_fold(cases[::-1], fold=0, num_folds=5, seed=0)[1] == first[1][::-1]
    assert patients(split_fold(cases, fold=0, num_folds=5, seed=1)[1]) != patients(first[1])


def test_smaller_labelled_shares_lie_within_larger_ones(cases: list[Case]) -> None:
    shares = [patients(labelled_share(cases, share, seed=3)) for share in (0.01, 0.1, 0.25, 0.5, 1.0)]
    assert [len(share) for share in shares] == [1, 3, 8, 15, 30]
    assert all(smaller < larger for smaller, larger in itertools.pairwise(shares))


def test_a_labelled_share_takes_all_examinations_of_a_patient(cases: list[Case]) -> None:
    assert len(labelled_share(cases, 0.1, seed=3)) == 6


def test_a_patient_who_joins_leaves_the_others_order_as_it_is() -> None:
    before = ordered_patients([f"p{i}" for i in range(20)], seed=0, purpose="fold")
    after = ordered_patients([f"p{i}" for i in range(21)], seed=0, purpose="fold")
    assert [patient for patient in after if patient != "p20"] == before


def test_too_few_patients_for_the_folds_are_refused_with_their_number(cases: list[Case]) -> None:
    with pytest.raises(ValueError, match=r"5 folds of 3 patients \(6 cases\): give 2 to 3 folds"):
        split_fold(cases[:6], fold=0, num_folds=5, seed=0)
    with pytest.raises(ValueError, match="at least 2 patients, got 1"):
        split_fold(cases[:2], fold=0, num_folds=2, seed=0)
    with pytest.raises(ValueError, match="fold 5 of 5: give 0 to 4"):
        split_fold(cases, fold=5, num_folds=5, seed=0)


@pytest.mark.parametrize("share", [0, -0.1, 1.5])
def test_a_share_that_is_none_is_refused(cases: list[Case], share: float) -> None:
    with pytest.raises(ValueError, match="over 0 and up to 1"):
        labelled_share(cases, share, seed=0)


def test_the_test_part_is_drawn_by_patient(manifest: Make, cases: list[Case]) -> None:
    toy = manifest(test={"share": 0.2, "seed": 4})
    cases = [replace(case, manifest=toy) for case in cases]
    training, test = select_part(cases, "train"), select_part(cases, "test")
    assert len(patients(test)) == 6
    assert patients(training) | patients(test) == patients(cases)
    assert not patients(training) & patients(test)
    assert select_part(cases, "all") == cases


def test_listed_test_patients_must_be_there(manifest: Make, cases: list[Case]) -> None:
    cases = [replace(case, manifest=manifest(test={"patients": ["p03", "p77"]})) for case in cases]
    with pytest.raises(ValueError, match="test patients p77 are not among the 30 patients"):
        select_part(cases, "train")


def test_a_patient_with_one_examination_in_the_test_split_is_a_test_patient(manifest: Make, cases: list[Case]) -> None:
    toy = manifest(test={"split_column": "split"})
    cases = [replace(case, manifest=toy, listed_part="test" if case.case_id == "p05_b" else "train") for case in cases]
    assert [case.case_id for case in select_part(cases, "test")] == ["p05_a", "p05_b"]


def test_a_manifest_without_a_test_part_has_none_to_leave_out(cases: list[Case]) -> None:
    with pytest.raises(ValueError, match="manifest toy has no `test:`; add one, or use part: all"):
        select_part(cases, "train")


def test_an_empty_part_is_refused(manifest: Make, cases: list[Case]) -> None:
    toy = manifest(test={"patients": ["p00"]})
    with pytest.raises(ValueError, match="no patient in part 'train' of 1"):
        select_part([replace(case, manifest=toy) for case in cases[:2]], "train")
