"""Further wordings of models, quotes and marks of other languages and families: what is read and what must not be."""

import pytest

from medpipe.datasets.vocabularies import load_vocabulary
from medpipe.metrics.answers import extract
from medpipe.metrics.question_forms import AnswerForm, BoxForm, Option

COLON_X = load_vocabulary("colon_x")
LESIONS = COLON_X.frozen_names_of("lesion_open")


def options(*texts: str) -> tuple[Option, ...]:
    return tuple(Option(chr(ord("A") + index), text) for index, text in enumerate(texts))


CHOICE = AnswerForm("options", options=options("bleeding", "adenoma", "high grade adenoma", "ulcer"), names=LESIONS)
POLYP = AnswerForm("yes_no", question="Does this image show a polyp? Answer yes or no.")
LANDMARK = AnswerForm(
    "yes_no_which",
    question="Is the cecum or the ileocecal valve visible?",
    names=COLON_X.frozen_names_of("completion_landmark"),
)
SIZE = AnswerForm(
    "options", options=options("polyp ≥ 30mm", "6mm ≤ polyp < 20mm", "0mm < polyp < 6mm", "20mm ≤ polyp < 30mm")
)
BOX = AnswerForm("box", image_size=(768, 576))


@pytest.mark.parametrize(
    "text",
    [
        '{"answer": "B"}', '```json\n{"answer": "B"}\n```', '{"reasoning": "A is bleeding, not seen", "answer": "B"}',
        "◁think▷A◁/think▷B", "<|begin_of_thought|>A?<|end_of_thought|>B", "[THINK]A or C[/THINK]B",
        "<seed:think>A</seed:think>B", "「B」", "『B』", "«B»", "„B“", "‚B‘", "‹B›", "答案是（B）", "Ответ: B", "Ⓑ",
        "La respuesta es B", "it's b", "\\(B\\)", "~~A~~ B", "## Final answer\n\n**B. adenoma**", "B not A",
        "adenoma, not ulcer", "I rule out A, C and D, so B.", "A, C and D can be excluded. B remains.",
        "Neither A nor C, it is B", "Both A and C are wrong, so B", "Answer: B, since A, C, and D are not visible.",
        "B. adenoma\n\nThe other options (A, C, D) do not fit.", "Answer: B as opposed to A",
        "This looks more like an adenoma than an ulcer.", "Option B, as A would show blood",
        "The answer is option B because A is wrong", "There is an adenoma and no bleeding.", "B</s>", "<b>B</b>",
    ],
)  # fmt: skip
def test_the_right_option_in_further_dresses(text: str) -> None:
    assert extract(text, CHOICE).answer == "B", extract(text, CHOICE)


@pytest.mark.parametrize(
    "text",
    [
        "[A, B]", '["A","B"]', '{"answer": ["A","B"]}', '{"answer": null}', "A/B", "A & B", "AB", "all but B",
        "anything but B", "everything except B", "N/A", "first A then B", "If A then B", "plan B", "hepatitis B",
        "B12", "It could be A, B, C or D", "A because of the blood, or B", "adenoma vs ulcer", "B is not correct",
        "adenoma can be ruled out", "A and B are wrong", "◁think▷B", "non-adenoma", "E",
    ],
)  # fmt: skip
def test_what_names_no_single_option(text: str) -> None:
    assert extract(text, CHOICE).answer == "", extract(text, CHOICE)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("**Answer:** Yes", "yes"), ('{"answer": true}', "yes"), ("да", "yes"), ("はい", "yes"), ("It does.", "yes"),
        ("There is a polyp without bleeding", "yes"), ("A polyp with no bleeding is present", "yes"),
        ("The image contains a polyp with no signs of ulceration.", "yes"), ("«Yes»", "yes"),
        ('{"answer": false}', "no"), ("Нет", "no"), ("いいえ", "no"), ("None visible", "no"), ("Not really", "no"),
        ("The image is without polyps", "no"), ("It does not.", "no"), ("This does not show any polyp", "no"),
        ("no yes", ""), ("yes/no", ""), ("There may be a polyp or not", ""), ("The image shows an ulcer.", ""),
    ],
)  # fmt: skip
def test_yes_and_no_in_further_words(text: str, answer: str) -> None:
    assert extract(text, POLYP).answer == answer, extract(text, POLYP)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("cecum, no ileocecal valve", "yes: cecum"), ("Neither", "no"), ("None of them", "no"),
        ("No cecum is seen, but the ileocecal valve is visible.", "yes: ileocecal valve"),
        ("Neither the cecum nor the ileocecal valve is visible", "no"), ("The cecum is not visible", "no"),
        ("Maybe the image does not show any landmarks.", "no"),
        ("both the cecum and the ileocecal valve are visible", "yes"),
    ],
)  # fmt: skip
def test_landmarks_named_and_denied(text: str, answer: str) -> None:
    assert extract(text, LANDMARK).answer == answer, extract(text, LANDMARK)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("5mm", "C"), ("0.5 cm", "C"), ("0,5 cm", "C"), ("5,0 mm", "C"), ("a 5-mm polyp", "C"),
        ("1.2 centimetres", "B"),
        ("20 mm", "D"), ("5 to 8 mm", ""), ("500 µm", ""), ("12 x 8 mm", ""), ("5 mm or 25 mm", ""), ("5 %", ""),
    ],
)  # fmt: skip
def test_sizes_with_commas_and_other_units(text: str, answer: str) -> None:
    assert extract(text, SIZE).answer == answer, extract(text, SIZE)


@pytest.mark.parametrize(
    "text",
    [
        "[10px, 20px, 100px, 200px]", "top left (10, 20), bottom right (100, 200)", "x1=10,x2=100,y1=20,y2=200",
        '{"x": 10, "y": 20, "width": 90, "height": 180}', '{"left": 10, "top": 20, "right": 100, "bottom": 200}',
        "<|box_start|>(10,20),(100,200)<|box_end|>", "<box>10,20,100,200</box>", "[[10, 20], [100, 200]]",
        "[10,20,100,200] [10,20,100,200]",
    ],
)  # fmt: skip
def test_boxes_as_families_write_them(text: str) -> None:
    assert extract(text, BOX).answer == "[10, 20, 100, 200]", extract(text, BOX)


@pytest.mark.parametrize("text", ["[1e999, 0, 5, 5]", "[nan, 1, 2, 3]", "[10, 20, 100]", "[900, 20, 1000, 200]"])
def test_numbers_that_are_no_box(text: str) -> None:
    assert extract(text, BOX).status == "unreadable"


def test_named_corners_outweigh_the_declared_order() -> None:
    form = AnswerForm("box", box=BoxForm(order="xywh"), image_size=(768, 576))
    assert extract("x1=10 y1=20 x2=100 y2=200", form).answer == "[10, 20, 100, 200]"
    assert extract("[10, 20, 90, 180]", form).answer == "[10, 20, 100, 200]"
