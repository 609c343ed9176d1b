"""Answering through a server that fails in every way: all items end answered exactly once, in order, none lost."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from medpipe.language.answer_file import ANSWERS_FILE, PARTIAL_FILE, AnswerLog, read_answers
from medpipe.language.answering import Request, Stopped, answer_requests
from medpipe.language.baselines import Baseline
from medpipe.language.model import ModelGone
from medpipe.language.options import BaselineModel, GenerationConfig, ServerModel
from medpipe.language.server import Server, read_completion


def server(url: str, **options: Any) -> Server:
    values = {"concurrency": 4, "timeout_seconds": 1.0, "first_wait_seconds": 0.01, "give_up_seconds": 20.0} | options
    return Server(ServerModel(name="server", model="m", url=url, **values), GenerationConfig(max_new_tokens=8))


def requests(count: int, picture: Path | None = None) -> list[Request]:
    images = () if picture is None else (picture,)
    return [Request(f"q{number}", f"Question {number}?", images, tuple(map(str, images))) for number in range(count)]


def prompt_of(body: dict[str, Any]) -> str:
    return next(part["text"] for part in body["messages"][-1]["content"] if part["type"] == "text")


def test_every_fault_ends_with_every_question_answered_once_in_order(loopback, tmp_path: Path, picture: Path) -> None:
    url, script = loopback
    faults: dict[str, list[Any]] = {
        "Question 3?": [429, 429], "Question 5?": [500], "Question 7?": ["hang"], "Question 9?": ["crash", "crash"],
        "Question 11?": [{"choices": []}], "Question 13?": [b'{"choices": [{"mess'],
        "Question 15?": [{"choices": [{"message": {"content": None}}]}],
        "Question 17?": [503, "crash", 429],
    }  # fmt: skip

    def plan(number: int, body: dict[str, Any]) -> Any:
        with script.lock:
            waiting = faults.get(prompt_of(body))
            return waiting.pop(0) if waiting else f"answer to {prompt_of(body)}"

    script.plan = plan
    outcome = answer_requests(requests(40, picture), server(url), tmp_path, {"model": "m"})
    assert (outcome.answered, outcome.failed) == (40, 0)
    records = list(read_answers(tmp_path / ANSWERS_FILE))
    assert [record["question_id"] for record in records] == [f"q{number}" for number in range(40)]
    assert all(record["answer"] == f"answer to {record['prompt']}" for record in records)
    assert records[17]["attempts"] == 4
    assert not any(faults.values())
    assert not (tmp_path / PARTIAL_FILE).exists()


def test_a_request_holds_the_prompt_and_the_image_and_never_the_reference(
    loopback, tmp_path: Path, picture: Path
) -> None:
    from medpipe.datasets.questions import Question
    from medpipe.language.options import PromptConfig
    from medpipe.stages.question_answering import requests_of

    url, script = loopback
    question = Question(
        "q",
        "lesion_open",
        "name",
        "Name the lesion.",
        "serrated-secret-reference",
        (picture.name,),
        source="secret-file",
    )
    made = requests_of(
        [question],
        PromptConfig(template="{question} Be brief."),
        lambda name: picture.parent / name,
        None,
        None,
        blind=False,
    )
    answer_requests(made, server(url), tmp_path, {"model": "m"})
    (body,) = script.bodies
    assert b"Name the lesion. Be brief." in body
    assert b"data:image/png;base64," in body
    assert b"secret" not in body
    assert set(json.loads(body)) == {"model", "messages", "max_tokens", "temperature", "top_p", "seed"}


def test_what_keeps_failing_is_failed_in_the_end_and_the_rest_is_not_lost(loopback, tmp_path: Path) -> None:
    url, script = loopback
    script.plan = lambda number, body: 500 if prompt_of(body) == "Question 2?" else "Yes"
    outcome = answer_requests(requests(5), server(url, max_attempts=2), tmp_path, {})
    assert (outcome.answered, outcome.failed) == (4, 1)
    failed = list(read_answers(tmp_path / ANSWERS_FILE))[2]
    assert (failed["status"], failed["answer"]) == ("failed", None)
    assert "HTTP 500" in failed["error"]
    assert sum(b"Question 2?" in body for body in script.bodies) == 4  # two attempts in each of two passes


def test_a_refused_request_is_not_repeated_at_once(loopback, tmp_path: Path) -> None:
    url, script = loopback
    script.plan = lambda number, body: 400
    answer_requests(requests(1), server(url), tmp_path, {}, passes=1)
    assert len(script.bodies) == 1


def test_a_wrong_model_or_key_ends_the_stage_with_what_to_look_at(loopback, tmp_path: Path) -> None:
    url, script = loopback
    script.plan = lambda number, body: 404
    with pytest.raises(ModelGone, match=r"HTTP 404.*check url, model and key"):
        answer_requests(requests(3), server(url), tmp_path, {})


def test_a_server_that_dies_leaves_its_answers_and_the_next_start_goes_on(loopback, tmp_path: Path) -> None:
    url, script = loopback
    alive = True
    script.plan = lambda number, body: "Yes" if alive and number <= 10 else "crash"
    with pytest.raises(ModelGone, match="no answer for"):
        answer_requests(requests(30), server(url, give_up_seconds=0.2, max_attempts=50), tmp_path, {})
    kept = len((tmp_path / PARTIAL_FILE).read_text().splitlines())
    assert kept == 10
    script.plan = lambda number, body: "No"
    outcome = answer_requests(requests(30), server(url), tmp_path, {})
    assert (outcome.answered, outcome.kept) == (30, 10)
    answers = [record["answer"] for record in read_answers(tmp_path / ANSWERS_FILE)]
    assert answers.count("Yes") == 10


def test_a_missing_image_fails_its_question_alone(loopback, tmp_path: Path) -> None:
    url, _ = loopback
    asked = [*requests(2), Request("lost", "?", (tmp_path / "none.png",), ("none.png",))]
    outcome = answer_requests(asked, server(url), tmp_path, {})
    assert (outcome.answered, outcome.failed) == (2, 1)
    assert "no such image" in list(read_answers(tmp_path / ANSWERS_FILE))[2]["error"]


def test_another_prompt_or_model_reuses_no_answer(tmp_path: Path) -> None:
    model = Baseline(BaselineModel(name="constant", text="Yes"))
    log = AnswerLog(tmp_path)
    log.close()
    seen: list[int] = []
    for facts, count in (({"model": "a"}, 3), ({"model": "a"}, 0), ({"model": "b"}, 3)):
        with contextlib.suppress(Stopped):
            answer_requests(requests(3), model, tmp_path, facts, should_stop=lambda: True)
        log = AnswerLog(tmp_path)
        log.close()
        seen.append(len(log.offsets))
        answer_requests(requests(3), model, tmp_path, facts)
        (tmp_path / ANSWERS_FILE).rename(tmp_path / PARTIAL_FILE)
        lines = (tmp_path / PARTIAL_FILE).read_text().splitlines()
        assert len(lines) == 3
        assert all(json.loads(line)["model"] == facts["model"] for line in lines), count


def test_the_order_and_the_answers_do_not_depend_on_the_number_of_workers(loopback, tmp_path: Path) -> None:
    url, script = loopback
    script.plan = lambda number, body: f"answer to {prompt_of(body)}"
    files = []
    for workers in (1, 7):
        folder = tmp_path / str(workers)
        folder.mkdir()
        answer_requests(requests(25), server(url, concurrency=workers), folder, {})
        files.append([(r["question_id"], r["answer"], r["key"]) for r in read_answers(folder / ANSWERS_FILE)])
    assert files[0] == files[1]


CLIENT = """
import sys
from pathlib import Path
from medpipe.language.answering import Request, answer_requests
from medpipe.language.options import GenerationConfig, ServerModel
from medpipe.language.server import Server
config = ServerModel(name="server", model="m", url=sys.argv[1], concurrency=4)
made = [Request(f"q{n}", f"Question {n}?") for n in range(200)]
answer_requests(made, Server(config, GenerationConfig()), Path(sys.argv[2]), {})
"""


def test_kill_9_of_the_client_costs_at_most_the_items_in_flight(loopback, tmp_path: Path) -> None:
    url, script = loopback

    def slow(number: int, body: dict[str, Any]) -> str:
        time.sleep(0.01)
        return f"answer to {prompt_of(body)}"

    script.plan = slow
    client = subprocess.Popen([sys.executable, "-c", CLIENT, url, str(tmp_path)])
    deadline = time.monotonic() + 60
    while len(script.bodies) < 80 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(client.pid, signal.SIGKILL)
    client.wait()
    time.sleep(0.1)
    sent = len(script.bodies)
    assert 80 <= sent < 200
    outcome = answer_requests([Request(f"q{n}", f"Question {n}?") for n in range(200)], server(url), tmp_path, {})
    assert outcome.answered == 200
    assert sent - outcome.kept <= 4 + 1  # four in flight, one answered and not yet written
    assert [record["question_id"] for record in read_answers(tmp_path / ANSWERS_FILE)] == [f"q{n}" for n in range(200)]


def test_a_line_cut_by_the_end_of_the_process_is_asked_again(tmp_path: Path) -> None:
    model = Baseline(BaselineModel(name="constant", text="Yes"))
    answer_requests(requests(3), model, tmp_path, {})
    text = (tmp_path / ANSWERS_FILE).read_bytes()
    (tmp_path / ANSWERS_FILE).unlink()
    (tmp_path / PARTIAL_FILE).write_bytes(text[:-20])
    assert answer_requests(requests(3), model, tmp_path, {}).kept == 2


@pytest.mark.parametrize(
    ("choice", "text", "reason"),
    [
        ({"message": {"content": "Yes"}, "finish_reason": "stop"}, "Yes", "stop"),
        ({"message": {"content": [{"type": "text", "text": "Yes"}]}, "finish_reason": "length"}, "Yes", "length"),
        ({"message": {"content": None, "reasoning_content": "hm"}, "finish_reason": "length"}, "", "length"),
        ({"message": {"content": None}, "finish_reason": "content_filter"}, None, "content_filter"),
        ({"message": None}, None, None),
    ],
)
def test_completions_of_every_shape(choice: dict[str, Any], text: str | None, reason: str | None) -> None:
    reply = read_completion(json.dumps({"choices": [choice]}).encode())
    assert (reply.text, reply.finish_reason) == (text, reason)
    assert read_completion(b"[]").error


def test_a_judge_of_published_rules_behind_a_server(loopback) -> None:
    from medpipe.metrics.answer_rules import rule_of
    from medpipe.stages.answer_scoring import ServerJudge

    url, script = loopback
    script.plan = lambda number, body: "<think>A or B?</think>\n<B> ulcer"
    judge = ServerJudge(ServerModel(name="server", model="m", url=url, timeout_seconds=1.0))
    rule = rule_of("colon_x", judge)
    question = "Which? <A> polyp, <B> ulcer"
    found = rule("choice", question, "<B> ulcer", "Not A, so B")
    assert (found.score, found.asked_judge) == (1.0, True)
    assert len(script.bodies) == 1
    script.plan = lambda number, body: 400
    assert judge.notes_since(0, 0) == []
    assert rule("choice", question, "<B> ulcer", "Not A, so B").score == 0.0
    (note,) = judge.notes_since(0, 0)
    assert note.startswith("1 of 2 calls of the judge failed")
    assert judge.notes_since(2, 1) == []
