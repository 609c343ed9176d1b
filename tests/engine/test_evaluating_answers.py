"""`medpipe evaluate` and `medpipe compare` on answers, as a user meets them."""

import csv
import json
from pathlib import Path

import pytest

from medpipe.config.errors import ConfigError
from medpipe.datasets.generated_questions import write_colon_x
from medpipe.engine.comparing import compare_command
from medpipe.engine.evaluating import evaluate_command
from medpipe.engine.evaluation import EvaluateOptions
from medpipe.geometry.faults import DataFault


@pytest.fixture
def entries(tmp_path: Path) -> list[dict]:
    write_colon_x(tmp_path / "colon_x", 12, first_seed=0, tasks=[10])
    return json.loads((tmp_path / "colon_x/JSON/ColonEval/Task_10_ColonEval.json").read_text())


def predictions(folder: Path, entries: list[dict], answers: list[object]) -> Path:
    """A prediction array of the released form, in a file of its own."""
    made = [
        {**entry, "conversations": [*entry["conversations"], {"from": "prediction", "value": answer}]}
        for entry, answer in zip(entries, answers, strict=True)
    ]
    path = folder / "predictions.json"
    path.write_text(json.dumps(made))
    return path


def evaluate(answers: Path, references: Path | None, output: Path, **options) -> int:
    values = EvaluateOptions(**{"manifest": "colon_eval", **options})
    return evaluate_command(answers, references, values, output=output, as_json=False, command=["evaluate"])


def test_a_prediction_array_is_scored_against_its_questions(tmp_path: Path, entries: list[dict], capsys) -> None:
    answers: list[object] = [entry["conversations"][1]["value"] for entry in entries]
    answers[0], answers[1], answers[2] = "**" + str(answers[0])[1] + "**", "I cannot tell", ["B"]
    done = evaluate(
        predictions(tmp_path, entries, answers), tmp_path / "colon_x/JSON/ColonEval/Task_10_ColonEval.json",
            tmp_path / "out",
        rules=("colon_x",), data_root=tmp_path,
    )  # fmt: skip
    assert done == 0
    with (tmp_path / "out/scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["right"] for row in rows] == ["1", "0", "0", *["1"] * 9]
    assert [row["status"] for row in rows[:3]] == ["answered", "refused", "unreadable"]
    assert rows[0]["rule_colon_x"] == "0"
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    micro = next(row for row in summary["sets"][0]["table"] if row["name"] == "micro")
    assert micro["score"] == pytest.approx(10 / 12)
    assert summary["sets"][0]["differing"] == {"colon_x": 1}
    report = (tmp_path / "out/report.html").read_text()
    assert "Differences between rules" in report
    assert "data:image/jpeg" in report
    assert "10/12" not in capsys.readouterr().err


def test_questions_without_an_answer_are_counted_or_refused(tmp_path: Path, entries: list[dict]) -> None:
    references = tmp_path / "colon_x/JSON/ColonEval/Task_10_ColonEval.json"
    some = predictions(tmp_path, entries[:9], ["A"] * 9)
    assert evaluate(some, references, tmp_path / "out") == 0
    summary = json.loads((tmp_path / "out/summary.json").read_text())["sets"][0]
    assert "3 questions have no answer" in summary["notes"][0]
    with pytest.raises(DataFault, match="3 questions have no answer"):
        evaluate(some, references, tmp_path / "other", missing_cases="refuse")
    assert not (tmp_path / "other" / "scores.csv").exists()
    with pytest.raises(ConfigError, match="holds results already"):
        evaluate(some, references, tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"question_id": "a", "answer": "B"}\n{broken', "line 2: not JSON"),
        ('{"answer": "B"}', "line 1: no id"),
        ('{"id": "a"}', "line 1: no answer"),
        ('{"id": "a", "answer": "B"}\n{"id": "a", "answer": "C"}', "two answers to the question a"),
    ],
)
def test_broken_answers_are_named(text: str, reason: str, tmp_path: Path, entries: list[dict]) -> None:
    (tmp_path / "answers.jsonl").write_text(text)
    with pytest.raises(DataFault, match=reason):
        evaluate(
            tmp_path / "answers.jsonl", tmp_path / "colon_x/JSON/ColonEval/Task_10_ColonEval.json", tmp_path / "out"
        )


def test_two_turns_of_prediction_are_refused_and_a_judged_file_gives_the_models_own(
    tmp_path: Path, entries: list[dict]
) -> None:
    from medpipe.language.foreign_answers import standard

    turns = entries[0]["conversations"]
    judged = {
        **entries[0],
        "conversations": [*turns, {"from": "prediction_ori", "value": "B"}, {"from": "prediction", "value": "yes"}],
    }
    assert standard(judged, Path("x"), "entry 1")["answer"] == "B"
    twice = {**entries[0], "conversations": [*turns, *[{"from": "prediction", "value": "B"}] * 2]}
    with pytest.raises(DataFault, match="2 turns from 'prediction'"):
        standard(twice, Path("x"), "entry 1")


def test_answers_in_any_order_give_the_same_scores(tmp_path: Path, entries: list[dict]) -> None:
    references = tmp_path / "colon_x/JSON/ColonEval/Task_10_ColonEval.json"
    answers: list[object] = ["ABCD"[number % 4] for number in range(12)]
    evaluate(predictions(tmp_path, entries, answers), references, tmp_path / "a")
    evaluate(predictions(tmp_path, entries[::-1], answers[::-1]), references, tmp_path / "b")
    assert (tmp_path / "a/scores.csv").read_text() == (tmp_path / "b/scores.csv").read_text()


def test_models_are_compared_on_the_same_questions(tmp_path: Path, entries: list[dict], capsys) -> None:
    references = tmp_path / "colon_x/JSON/ColonEval/Task_10_ColonEval.json"
    right = [entry["conversations"][1]["value"] for entry in entries]
    evaluate(predictions(tmp_path, entries, right), references, tmp_path / "good")
    evaluate(predictions(tmp_path, entries, ["no idea"] * 12), references, tmp_path / "bad")
    done = compare_command(
        [tmp_path / "bad", tmp_path / "good"], names=["bad", "good"], metrics=[], structures=[],
            correction="holm",
        against=None, output=tmp_path / "cmp", as_json=False, seed=0, alpha=0.05, allow_unpaired=False,
    )  # fmt: skip
    assert done == 0
    assert "+100.0" in capsys.readouterr().out
    test = json.loads((tmp_path / "cmp/comparison.json").read_text())["tests"][0]
    assert (test["only_first"], test["only_second"]) == (0, 12)
    assert test["p"] == pytest.approx(2 / 2**12)


def test_the_published_accuracy_by_the_command(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "vqa_real_colon"
    done = evaluate(
        folder / "qwen2_zeroshot_test.jsonl", folder / "test_multivideo.jsonl", tmp_path / "out",
            manifest="real_colon_vqa",
        rules=("substring",),
    )  # fmt: skip
    assert done == 0
    micro = next(
        row
        for row in json.loads((tmp_path / "out/summary.json").read_text())["sets"][0]["table"]
        if row["name"] == "micro"
    )
    assert micro["others"]["substring"] == pytest.approx(0.360)
    assert micro["score"] == pytest.approx(0.377)


def test_options_of_other_forms_are_refused_not_passed_over(tmp_path: Path, entries: list[dict]) -> None:
    references = tmp_path / "colon_x/JSON/ColonEval/Task_10_ColonEval.json"
    answers = predictions(tmp_path, entries, ["A"] * 12)
    for options, flag in (({"structures": ("rectum",)}, "--structures"), ({"tolerances_mm": (3.0,)}, "--tolerance-mm"),
                          ({"part": "test"}, "--part"), ({"resample": False}, "--no-resample")):  # fmt: skip
        with pytest.raises(ConfigError, match=f"{flag}: means nothing for answers to questions"):
            evaluate(answers, references, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_scores_of_answers_are_compared_with_their_kind_alone(tmp_path: Path, entries: list[dict], capsys) -> None:
    references = tmp_path / "colon_x/JSON/ColonEval/Task_10_ColonEval.json"
    evaluate(predictions(tmp_path, entries, ["A"] * 12), references, tmp_path / "a")
    values = {"names": [], "structures": [], "correction": "holm", "against": None, "output": tmp_path / "cmp",
              "as_json": False, "seed": 0, "alpha": 0.05, "allow_unpaired": False}  # fmt: skip
    assert compare_command([tmp_path / "a", tmp_path / "a"], metrics=["dice"], **values) == 3  # type: ignore[arg-type]
    assert "mean nothing for scores of answers" in capsys.readouterr().err
    other = tmp_path / "masks.csv"
    other.write_text("model,case_id,structure,dice\n")
    compare_command([tmp_path / "a", other], metrics=[], **values)  # type: ignore[arg-type]
    assert "masks.csv" in capsys.readouterr().err
    assert not (tmp_path / "cmp").exists()
