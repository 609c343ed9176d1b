"""The workflows of questions: stopped and gone on, another prompt, perturbations, bad input; all through the
command."""

import csv
import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, medpipe, cache: Path) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("colonoscopy")
    arguments = ["run", "colonoscopy_vqa", "-o", "smoke", f"data.cache={cache}"]
    done = medpipe(folder, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "runs/colonoscopy_vqa/smoke", arguments


def test_every_question_is_scored_for_every_model_and_perturbation(finished) -> None:
    run, _ = finished
    with (run / "score/scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    sets = {(row["model"], row["perturbation"]) for row in rows}
    assert len(sets) == 6
    assert {perturbation for _, perturbation in sets} == {
        "",
        "hidden_text",
        "misleading_text",
        "contradiction",
        "emotion",
    }
    summary = json.loads((run / "score/summary.json").read_text())
    assert [entry["perturbation"] for entry in summary["reliability"]] == [
        "hidden_text", "misleading_text", "contradiction", "emotion",
    ]  # fmt: skip
    report = (run / "report.html").read_text()
    assert all(part in report for part in ("Perturbations", "Confusion", "Examples", "McNemar", "generated"))


def test_answers_hold_what_is_needed_to_ask_again(finished) -> None:
    run, _ = finished
    for line in (run / "answer/answers.jsonl").read_text().splitlines():
        record = json.loads(line)
        assert {"question_id", "answer", "prompt", "model", "generation", "key", "image_sha256"} <= set(record)
        assert "reference" not in line


def test_another_prompt_asks_again_and_the_old_answers_are_kept(finished, medpipe) -> None:
    run, arguments = finished
    before = (run / "answer/answers.jsonl").read_text()
    more = [*arguments, "answer.prompt.template='{question} Be brief.'", "answer.prompt.by_kind={}"]
    done = medpipe(run.parents[2], *more, "--until", "answer")
    assert done.returncode == 0, done.stderr
    after = (run / "answer/answers.jsonl").read_text()
    assert "Be brief." in after
    assert "Be brief." not in before
    assert (run.parent / "smoke/superseded").is_dir()
    again = medpipe(run.parents[2], *arguments, "--until", "answer")
    assert "taken back" in again.stdout
    assert (run / "answer/answers.jsonl").read_text() == before


def test_faults_of_questions_end_with_3_and_name_them(tmp_path: Path, medpipe) -> None:
    (tmp_path / "q.jsonl").write_text(
        '{"id": "a", "image": "none.png", "question": "Is it?", "answer": "yes", "task": "yes_no"}\n'
        '{"id": "b", "image": "../up.png", "question": "Is it?", "answer": "yes", "task": "yes_no"}\n{broken\n'
    )
    (tmp_path / "mine.yaml").write_text(
        "question_set: mine\nformat: json_lines\nvocabulary: plain\nfiles: [{path: q.jsonl}]\n"
    )
    (tmp_path / "w.yaml").write_text(
        "workflow: w\ndata: {root: .}\nstages:\n  answer:\n    stage: question_answering\n"
        "    questions: {question_set: mine.yaml}\n    model: {name: constant, text: 'yes'}\n"
    )
    done = medpipe(tmp_path, "check", "w.yaml")
    assert done.returncode == 3
    assert all(part in done.stderr for part in ("line 2", "leaves the folder", "line 3: not JSON"))
    (tmp_path / "q.jsonl").write_text((tmp_path / "q.jsonl").read_text().splitlines()[0] + "\n")
    done = medpipe(tmp_path, "run", "w.yaml")
    assert done.returncode == 3
    assert "none.png: no such image" in done.stderr


def test_a_server_that_is_not_there_ends_with_1_and_says_where_it_was_looked_for(
    tmp_path: Path, medpipe, cache: Path
) -> None:
    done = medpipe(
        tmp_path, "run", "colonoscopy_vqa", "-o", "smoke", f"data.cache={cache}", "answer.stand_in=null",
        "answer.model.url=http://127.0.0.1:9/v1", "answer.model.give_up_seconds=0.3",
        "answer.model.first_wait_seconds=0.1",
        "--until", "answer",
    )  # fmt: skip
    assert done.returncode == 1
    assert "http://127.0.0.1:9/v1: no answer for" in done.stderr
