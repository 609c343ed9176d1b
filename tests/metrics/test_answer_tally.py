"""Tables of scores by hand, and blind policies on generated questions in the released format."""

import json
import math
from pathlib import Path

import pytest

from medpipe.datasets.cases import DataConfig
from medpipe.datasets.generated_questions import LESIONS, write_colon_x
from medpipe.datasets.question_reading import read_question_set
from medpipe.datasets.question_sets import QuestionSet
from medpipe.datasets.questions import AnswerForms, Question
from medpipe.datasets.vocabularies import Vocabulary, load_vocabulary
from medpipe.metrics.answer_scoring import score_answer
from medpipe.metrics.answer_tally import AnswerTally, ScopeScores, ScoredAnswer, balanced_accuracy


def scored(
    number: int, task: str, reference: str, extracted: str, status: str = "answered", group: str = "g"
) -> ScoredAnswer:
    right = status == "answered" and reference == extracted
    return ScoredAnswer(
        f"q{number}", task, group, "yes_no", f"image{number // 2}", reference, extracted, status, "word_alone", right,
        float(right), chance=0.5,
    )  # fmt: skip


def row(rows: list[ScopeScores], scope: str, name: str) -> ScopeScores:
    return next(found for found in rows if (found.scope, found.name) == (scope, name))


def test_a_table_by_hand() -> None:
    tally = AnswerTally()
    answers = [("yes", "yes", "answered"), ("yes", "no", "answered"), ("no", "no", "answered"), ("yes", "", "refused")]
    for number, (reference, extracted, status) in enumerate(answers):
        tally.add(scored(number, "a", reference, extracted, status))
    tally.add(scored(9, "b", "no", "no"))
    rows = tally.table()
    a = row(rows, "task", "a")
    assert (a.n, a.clusters, a.score) == (4, 2, 0.5)
    assert a.balanced == pytest.approx((1 / 3 + 1) / 2)
    assert (a.majority, a.majority_answer) == (0.75, "yes")
    assert a.statuses["refused"] == 1
    assert tally.confusion["a"]["yes", "(refused)"] == 1
    assert row(rows, "overall", "micro").score == pytest.approx(3 / 5)
    assert row(rows, "overall", "micro").majority == pytest.approx(4 / 5)
    assert row(rows, "overall", "macro").score == pytest.approx(0.75)
    assert row(rows, "group", "g").n == 5
    assert row(rows, "overall", "micro").chance == 0.5
    assert row(rows, "task", "b").wilson.low < 1.0


def test_an_empty_tally_has_an_empty_table() -> None:
    assert AnswerTally().table() == []


def test_balanced_accuracy_of_a_constant_answer_is_one_over_the_classes() -> None:
    assert balanced_accuracy({("a", "a"): 90, ("b", "a"): 5, ("c", "a"): 5}) == pytest.approx(1 / 3)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Question], Vocabulary]:
    """2,000 questions: 125 images, 16 tasks, in files of the released format."""
    folder = tmp_path_factory.mktemp("generated")
    tasks = [number for number in range(1, 18) if number != 13]
    write_colon_x(folder, 125, first_seed=0, tasks=tasks)
    vocabulary = load_vocabulary("colon_x")
    question_set = QuestionSet.model_validate_json(
        json.dumps(
            {"question_set": "x", "format": "colon_x", "vocabulary": "colon_x", "files": [{"path": "JSON/*/*.json"}]}
        ),
        strict=True,
    )
    questions, _ = read_question_set(question_set, vocabulary, folder)
    assert len(questions) == 2000
    return questions, vocabulary


def table_of(generated: tuple[list[Question], Vocabulary], answers: dict[str, str]) -> dict[str, ScopeScores]:
    """Everything answered as `answers` says by kind of question; rows by task."""
    questions, vocabulary = generated
    forms, tally = AnswerForms(vocabulary), AnswerTally(rules=["colon_x"])
    for question in questions:
        listed = ", ".join(option.text for option in question.options)
        raw = answers.get(question.kind, "").format(options=listed, names=", ".join(vocabulary.names))
        tally.add(
            score_answer(
                question, raw, forms(question), rules=["colon_x"], official=vocabulary.tasks[question.task].official
            )
        )
    return {found.name: found for found in tally.table()}


def test_listing_every_option_and_every_name_scores_nothing(generated: tuple[list[Question], Vocabulary]) -> None:
    rows = table_of(
        generated, {"options": "{options}", "name": "{names}", "yes_no": "Yes and no", "yes_no_which": "Yes. No."}
    )
    assert all(found.score == 0.0 for found in rows.values())
    assert rows["micro"].statuses["ambiguous"] == 2000
    for task in (
        "bowel_cleanliness",
        "intervention_stage",
        "imaging_quality",
        "lesion_choice",
        "polyp_size",
        "ulcerative_colitis_grade",
    ):
        assert (rows[task].others["colon_x"], rows[task].judged["colon_x"]) == (1.0, 0), task
    for task in ("imaging_modality", "nice_criteria", "paris_criteria"):
        assert rows[task].judged["colon_x"] == 125, task
    for task in ("lesion_open", "lesion_in_box"):
        assert rows[task].others["colon_x"] == 1.0, task


def test_a_sentence_about_nothing_is_read_as_nothing(generated: tuple[list[Question], Vocabulary]) -> None:
    rows = table_of(generated, {"options": "This is a lesion"})
    assert rows["micro"].score == 0.0
    for task, share in (("intervention_stage", 1 / 4), ("imaging_quality", 1 / 3), ("lesion_choice", 1 / 4)):
        assert rows[task].others["colon_x"] == pytest.approx(share, abs=0.13), task
    assert rows["paris_criteria"].judged["colon_x"] > 80  # "is" is the abbreviation Is, unless that is option A


def test_a_constant_answer_scores_what_chance_gives(generated: tuple[list[Question], Vocabulary]) -> None:
    rows = table_of(generated, {"options": "A", "yes_no": "Yes"})
    for task in (
        "bowel_cleanliness",
        "lesion_choice",
        "paris_criteria",
        "ulcerative_colitis_grade",
        "lesion_yes_no",
        "bleeding_warning",
    ):
        found = rows[task]
        assert found.wilson.low - 0.03 < found.chance < found.wilson.high + 0.03, task
        assert not math.isnan(found.majority)


def test_the_right_answer_scores_one_everywhere(generated: tuple[list[Question], Vocabulary]) -> None:
    questions, vocabulary = generated
    forms, tally = AnswerForms(vocabulary), AnswerTally()
    for question in questions:
        tally.add(score_answer(question, question.reference, forms(question)))
    assert {found.score for found in tally.table()} == {1.0}


def test_generated_lesions_are_names_of_the_vocabulary() -> None:
    assert set(LESIONS) <= set(load_vocabulary("colon_x").names)


def test_the_publishers_accuracy_is_reproduced_item_by_item(real_data: Path) -> None:
    from medpipe.datasets.questions import QuestionsConfig, load_questions

    loaded = load_questions(
        QuestionsConfig(question_set="real_colon_vqa", images="ignored"), DataConfig(root=real_data)
    )
    lines = (real_data / "vqa_real_colon" / "qwen2_zeroshot_test.jsonl").read_text().splitlines()
    published = {row["question_id"]: row for row in map(json.loads, lines)}
    forms = AnswerForms(loaded.vocabulary)
    found = [
        score_answer(
            question, published[question.question_id]["predicted_answer"], forms(question), rules=["substring"]
        )
        for question in loaded.questions
    ]
    assert [answer.others[0] for answer in found] == [published[answer.question_id]["correct"] for answer in found]
    assert sum(answer.others[0] or 0 for answer in found) / len(found) == pytest.approx(0.360)
    ours = sum(answer.right for answer in found)
    differing = [answer for answer in found if answer.right != bool(answer.others[0])]
    assert ours == 360 + sum(answer.right for answer in differing) - sum(not answer.right for answer in differing)
    assert 0 < len(differing) < 100
