"""Questions of every form of file, and what is refused with its place."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medpipe.datasets.cases import DataConfig
from medpipe.datasets.question_checks import check_questions
from medpipe.datasets.question_images import read_image
from medpipe.datasets.question_sets import load_question_set, question_set_names
from medpipe.datasets.questions import Question, QuestionsConfig, load_questions, read_questions, write_questions
from medpipe.geometry.faults import DataFault, DataFaults

Load = Callable[..., Any]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """`load(text, format=..., name=...)`: the questions of one file in a set of that form."""

    def make(
        text: str,
        *,
        form: str = "json_lines",
        name: str = "q.jsonl",
        vocabulary: str = "plain",
        more: str = "",
        **asked: Any,
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / "mine.yaml").write_text(
            f"# mine\nquestion_set: mine\nformat: {form}\nfolder: ''\nvocabulary: {vocabulary}\nfiles: [{{path: "
            f"'{name}'}}]\n{more}"
        )
        config = QuestionsConfig(question_set="mine.yaml", **asked)
        return load_questions(config, DataConfig(root=tmp_path), tmp_path)

    return make


def entry(
    image: str = "a.jpg", question: str = "<image>\nWhich? <A> polyp, <B> ulcer", reference: str = "<B> ulcer"
) -> dict[str, Any]:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": reference}]
    return {"id": image, "image": image, "conversations": turns}


@pytest.mark.parametrize("name", question_set_names())
def test_every_question_set_reads(name: str) -> None:
    assert load_question_set(name).question_set == name


def test_a_colon_x_array_becomes_questions_without_its_reference_in_the_text(load: Load) -> None:
    found = load(json.dumps([entry()]), form="colon_x", name="Task_10_ColonEval.json", vocabulary="colon_x").questions
    (question,) = found
    assert (question.task, question.group, question.kind) == ("lesion_choice", "lesion_diagnosis", "options")
    assert question.text == "Which? <A> polyp, <B> ulcer"
    assert [option.text for option in question.options] == ["polyp", "ulcer"]
    assert question.images == ("a.jpg",)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([{**entry(), "conversations": [{"from": "human", "value": "x"}]}], "0 turns from 'gpt'"),
        ([{**entry(), "conversations": entry()["conversations"] * 2}], "2 turns from 'human'"),
        ([entry(reference="<C> polyp")], "none of the options"),
        ([entry(reference=" ")], "no text under 'value'"),
        ([entry(image="../secret.jpg")], "leaves the folder of images"),
        ([entry(image="/etc/x.jpg")], "leaves the folder of images"),
        ([entry(question="Which? <A> polyp, <B> polyp", reference="<A> polyp")], "two options are the same"),
        ([entry(), entry(reference="<A> polyp")], "ask the same of the same image"),
        (["text"], "entry 1: expected an object"),
        ([{"image": "a.jpg", "conversations": "hello"}], "no list of turns"),
    ],
)
def test_a_broken_entry_is_named_with_its_place(load: Load, content: list[Any], reason: str) -> None:
    with pytest.raises(DataFaults, match=r".+") as caught:
        load(json.dumps(content), form="colon_x", name="Task_10_ColonEval.json", vocabulary="colon_x")
    assert reason in str(caught.value)


def test_all_faults_of_a_file_are_told_at_once(load: Load) -> None:
    lines = ['{"id": 1, "question": "Is it?", "answer": "yes", "task": "yes_no"}', "{broken", '{"id": 2, '
        '"question": "Is it?", "answer": "maybe", "task": "yes_no"}',
             '{"id": 3, "question": "Is it?", "answer": "no", "task": "yesno"}', "[1]"]  # fmt: skip
    with pytest.raises(DataFaults) as caught:
        load("\n".join(lines))
    text = str(caught.value)
    assert all(
        part in text for part in ("line 2: not JSON", "line 3", "neither yes nor no", "line 4: task 'yesno'", "line 5")
    )


def test_the_same_question_twice_is_asked_once_and_said(load: Load) -> None:
    loaded = load(json.dumps([entry(), entry()]), form="colon_x", name="Task_10.json", vocabulary="colon_x")
    assert len(loaded.questions) == 1
    assert "1 questions stand there twice" in loaded.notes[0]


def test_contradicting_references_under_ids_of_their_own_are_said(load: Load) -> None:
    lines = [
        json.dumps({"id": name, "question": "Is it?", "answer": answer, "task": "yes_no"})
        for name, answer in (("a", "yes"), ("b", "no"), ("c", "yes"))
    ]
    loaded = load("\n".join(lines))
    assert len(loaded.questions) == 3
    assert any("with another reference: a and b" in note for note in loaded.notes)


def test_two_questions_of_one_image_are_both_kept(load: Load) -> None:
    other = entry(question="Which one? <A> polyp, <B> ulcer")
    assert (
        len(load(json.dumps([entry(), other]), form="colon_x", name="Task_10.json", vocabulary="colon_x").questions)
        == 2
    )


def test_lines_and_tables_mean_the_same(load: Load) -> None:
    line = {
        "id": "q1",
        "image": "a.png",
        "question": "Which?",
        "options": ["polyp", "ulcer"],
        "answer": "B",
        "task": "options",
    }
    from_lines = load("\ufeff" + json.dumps(line) + "\n\n").questions
    table = "id,image,question,A,B,C,answer,task\r\nq1,a.png,Which?,polyp,ulcer,,B,options\r\n"
    from_table = load(table, form="table", name="q.csv").questions
    tabs = "id\timages\tquestion\toptions\tanswer\ttask\nq1\ta.png\tWhich?\tpolyp | ulcer\tulcer\toptions\n"
    from_tabs = load(tabs, form="table", name="q.tsv").questions
    assert [option.text for option in from_lines[0].options] == ["polyp", "ulcer"]
    assert from_lines[0].options == from_table[0].options == from_tabs[0].options
    assert from_lines[0].reference == from_table[0].reference == "<B> ulcer"


def test_questions_survive_their_file(load: Load, tmp_path: Path) -> None:
    loaded = load(
        json.dumps({"id": 7, "images": ["ä.png", "b.png"], "question": "Is “it”?", "answer": "yes", "task": "yes_no"})
    )
    write_questions(tmp_path / "out.jsonl", loaded)
    assert tuple(read_questions(tmp_path / "out.jsonl")) == loaded.questions
    assert loaded.questions[0].question_id == "7"


def test_a_selection_keeps_every_task_and_the_order(tmp_path: Path) -> None:
    data = DataConfig(source="phantom", cache=tmp_path)
    whole = load_questions(QuestionsConfig(question_set="colon_eval"), data)
    some = load_questions(QuestionsConfig(question_set="colon_eval", max_questions=160), data)
    assert len(some.questions) == 160
    assert {question.task for question in some.questions} == {question.task for question in whole.questions}
    assert list(some.questions) == [question for question in whole.questions if question in some.questions]
    with pytest.raises(ValueError, match="no task lesion"):
        load_questions(QuestionsConfig(question_set="colon_eval", tasks=("lesion",)), data)


def test_the_real_sets_read(real_data: Path) -> None:
    data = DataConfig(root=real_data)
    clips = load_questions(QuestionsConfig(question_set="real_colon_vqa"), data).questions
    assert len(clips) == 1000
    assert all(len(question.images) == 8 for question in clips)
    slake = load_questions(QuestionsConfig(question_set="slake", language="zh"), data).questions
    assert {question.kind for question in slake} == {"yes_no", "text"}
    assert sum(question.kind == "yes_no" for question in slake) > 300


def test_a_leak_between_splits_is_found_by_name_and_by_content(load: Load, tmp_path: Path) -> None:
    picture = Image.fromarray(np.zeros((4, 4, 3), np.uint8))
    for name in ("a.png", "copy.png"):
        picture.save(tmp_path / name)
    rows = [{"id": n, "image": image, "question": "Is it?", "answer": "yes", "task": "yes_no", "split": split}
            for n, (image, split) in enumerate([("a.png", "train"), ("copy.png", "test")])]  # fmt: skip
    loaded = load("\n".join(map(json.dumps, rows)))
    report = check_questions(loaded, images=True, jobs=1)
    assert len(report.faults) == 1
    assert "leak between splits" in str(report.faults[0])


def test_missing_and_broken_images_are_named(load: Load, tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:-800])
    rows = [
        {"id": name, "image": name, "question": "Is it?", "answer": "yes", "task": "yes_no"}
        for name in ("empty.png", "cut.jpg", "none.png")
    ]
    faults = check_questions(load("\n".join(map(json.dumps, rows))), images=True, jobs=2).faults
    assert [fault.path.name for fault in faults] == ["empty.png", "cut.jpg", "none.png"]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "CMYK", "I;16", "1"])
def test_every_kind_of_image_becomes_rgb(mode: str, tmp_path: Path) -> None:
    values = np.arange(48 * 32, dtype=np.uint16).reshape(32, 48) * 40
    image = Image.fromarray(values) if mode == "I;16" else Image.fromarray((values >> 8).astype(np.uint8)).convert(mode)
    path = tmp_path / ("image.JPG" if mode in ("CMYK", "RGB") else "image.PNG")
    image.save(path)
    read = read_image(path)
    assert (read.mode, read.size) == ("RGB", (48, 32))
    assert np.asarray(read).std() > 1


def test_a_turned_image_stands_upright_and_a_large_one_is_made_smaller(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").size == (20, 40)
    Image.new("L", (12_000, 9_000)).save(tmp_path / "large.png")
    width, height = read_image(tmp_path / "large.png", most_pixels=1_000_000).size
    assert width * height <= 1_000_000
    assert width / height == pytest.approx(12 / 9, abs=0.01)
    Image.new("RGB", (1, 1)).save(tmp_path / "one.png")
    assert read_image(tmp_path / "one.png").size == (1, 1)
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataFault, match="cannot be read as an image"):
        read_image(tmp_path / "text.png")


def test_easy_vqa_comes_from_its_package() -> None:
    questions = load_questions(QuestionsConfig(question_set="easy_vqa", split="test"), DataConfig()).questions
    assert len(questions) == 9673
    assert {question.task for question in questions} == {"yes_no", "shape", "colour"}


def test_a_question_knows_its_class() -> None:
    assert Question.from_json(Question("a", "yes_no", "yes_no", "Is it?", "yes").to_json()).kind == "yes_no"
