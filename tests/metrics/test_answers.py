"""The extractor on every line of known misreadings: right answers right, wrong answers wrong, by kind of question."""

import pytest

from medpipe.datasets.vocabularies import load_vocabulary
from medpipe.metrics.answers import extract, judge, token_f1
from medpipe.metrics.question_forms import AnswerForm, BoxForm, Option, parse_options, reference_option

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
PARIS = AnswerForm(
    "options",
    options=options("Sessile (Is)", "Pedunculated (Ip)", "Subpedunculated (Isp)", "Slightly elevated (IIa)"),
)
NICE = AnswerForm(
    "options",
    options=options(
        "Type 1 (characteristic for hyperplastic lesion)",
        "Type 2 (characteristic for adenoma)",
        "Type 3 (characteristic for invasive carcinoma)",
    ),
    names=LESIONS,
)
BBPS = AnswerForm("options", options=options("BBPS 0", "BBPS 1", "BBPS 2", "BBPS 3", "BBPS 0-1", "BBPS 2-3"))
MAYO = AnswerForm("options", options=options(*(f"ulcerative colitis grade {g}" for g in ("0", "1", "0-1", "1-2"))))
STAGE = AnswerForm("options", options=options("dyed lifted polyp", "dyed resection margin", "resection margin"))
EXPOSURE = AnswerForm("options", options=options("overexposed", "underexposed", "normal exposure"))
OPEN = AnswerForm("name", names=LESIONS)
BOX = AnswerForm("box", image_size=(768, 576))


@pytest.mark.parametrize(
    "text",
    [
        "**B**", "The correct answer is **B**.", '"B"', "'B'", "`B`", "{B}", "B,", "B:", "B;", "Answer:B", "\\boxed{B}",
        "<answer>B</answer>", "Ｂ", "b", "(b)", "B.", "B) adenoma", "<B> adenoma", "It is an Adenoma.", "Option B",
        "Not A; the final answer is B", "B, not A", "A is incorrect. B is correct.", "The image shows an adenoma (B).",
        "**Answer:** B", "<think>A or C</think>B", "I think it is B.", "aden\u200boma", "adenomas",
        "an adenomatous polyp",
        "the answer is b", "The answer is B because it is raised.", "A or B; the final answer is B", "B\u00a0",
        "<think>A</think><answer>A</answer> no: <answer>B</answer>", "tubular adenoma", "ade\u0301noma",
    ],
)  # fmt: skip
def test_the_right_option_is_read_in_every_dress(text: str) -> None:
    assert extract(text, CHOICE).answer == "B", extract(text, CHOICE)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("This is a lesion", "unreadable"),
        ("This is a lesion of unknown kind.", "unreadable"),
        ("I can't provide a diagnosis", "refused"),
        ("I'm sorry, I can't give a diagnosis.", "refused"),
        ("I cannot tell", "refused"),
        ("<A> adenoma", "ambiguous"),
        ("<B> bleeding", "ambiguous"),
        ("There is no adenoma here", "unreadable"),
        ("bleeding, adenoma, high grade adenoma, ulcer", "ambiguous"),
        ("A, B, C, D", "ambiguous"),
        ("B or C", "ambiguous"),
        ("Neither A nor B", "unreadable"),
        ("The answer is A. The answer is B.", "ambiguous"),
        ("low grade adenoma", "unreadable"),
        ("ulcerative colitis", "unreadable"),
        ("<think>B", "truncated"),
        ("<think>B</think><answer>B", "truncated"),
        ("", "unreadable"),
        ("B" * 100_000, "unreadable"),
    ],
)
def test_what_names_no_single_option_is_not_answered(text: str, status: str) -> None:
    extraction = extract(text, CHOICE)
    assert (extraction.status, extraction.answer) == (status, ""), extraction


def test_the_longer_option_is_not_the_shorter_one() -> None:
    assert extract("<C> high grade adenoma", CHOICE).answer == "C"
    assert extract("<F> BBPS 2-3", BBPS).answer == "F"
    assert extract("0–1", BBPS).answer == "E"
    assert extract("grade 1-2", MAYO).answer == "D"
    assert extract("<C> Subpedunculated (Isp)", PARIS).answer == "C"
    assert extract("<B> dyed resection margin", STAGE).answer == "B"
    assert extract("abnormal exposure", EXPOSURE).answer == ""
    assert extract("not an adenoma; Type 1", NICE).answer == "A"


def test_a_pronoun_and_an_article_are_no_letters() -> None:
    nine = AnswerForm("options", options=options(*"klmnopqrs"))
    assert extract("I cannot tell", nine).status == "refused"
    assert extract("A lesion of the colon", nine).answer == ""
    assert extract("I", nine).answer == "I"
    assert extract("This is a lesion", PARIS).answer == ""


@pytest.mark.parametrize("text", ["4 mm", "smaller than 6mm", "<C> 0 mm < polyp < 6 mm", "larger than 0 and "
    "smaller than 6mm", "0–6mm", "0.4 cm"])  # fmt: skip
def test_sizes_are_read_with_their_units(text: str) -> None:
    assert extract(text, SIZE).answer == "C"


def test_a_size_that_fits_no_single_option_is_not_guessed() -> None:
    assert extract("<A> polyp >= 30mm", SIZE).answer == "A"
    assert extract("3 cm", SIZE).answer == "A"
    assert extract("less than 25 mm", SIZE).status == "unreadable"


@pytest.mark.parametrize(
    "text",
    [
        "Yes", "yes.", "Y", "True", "A polyp is present.", "Yes, because there is no fresh blood",
        "There is no doubt: polyp",
        "There is no doubt a polyp is present", "是", "The answer is yes", "**Yes**",
        "<think>no</think><answer>Yes</answer>",
    ],
)  # fmt: skip
def test_yes_is_read_by_clause(text: str) -> None:
    assert extract(text, POLYP).answer == "yes", extract(text, POLYP)


@pytest.mark.parametrize(
    "text",
    ["No", "Not visible.", "None", "False", "There is no polyp.", "The image doesn't show a polyp.", "不包含",
        "No evidence of a polyp"],
)  # fmt: skip
def test_no_is_read_by_clause(text: str) -> None:
    assert extract(text, POLYP).answer == "no", extract(text, POLYP)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("Yes and no", "ambiguous"),
        ("yesno", "unreadable"),
        ("notice", "unreadable"),
        ("normal", "unreadable"),
        ("Bleeding is visible.", "unreadable"),
        ("I'm sorry, there is no way I can provide a diagnosis", "refused"),
        ("<think>no … yes</think><answer>Yes", "truncated"),
    ],
)
def test_what_is_neither_yes_nor_no(text: str, status: str) -> None:
    assert extract(text, POLYP).status == status, extract(text, POLYP)


def test_landmarks() -> None:
    assert extract("No, the cecum is not visible.", LANDMARK).answer == "no"
    assert extract("Yes. The cecum is visible, not the ileocecal valve.", LANDMARK).answer == "yes: cecum"
    assert extract("caecum", LANDMARK).answer == "yes: cecum"
    assert judge("No", LANDMARK, "No. This image does not show any landmark.").right
    assert not judge("Yes", LANDMARK, "Yes. This image shows cecum.").right


@pytest.mark.parametrize(
    ("text", "reference", "right"),
    [
        ("haemorrhoids", "hemorrhoid", True),
        ("adenomatous polyp", "adenoma", True),
        ("tubular adenoma with low-grade dysplasia", "low grade adenoma", True),
        ("high grade adenoma", "low grade adenoma", False),
        ("high grade adenoma", "adenoma", False),
        ("no polyp", "polyp", False),
        ("ulcerative colitis", "ulcer", False),
        (", ".join(name for name, _ in LESIONS), "polyp", False),
        ("normal colon in view", "blood in lumen", False),
    ],
)
def test_open_names(text: str, reference: str, right: bool) -> None:
    assert judge(text, OPEN, reference).right is right


@pytest.mark.parametrize(
    ("text", "answer", "rule"),
    [
        ("{<10><20><100><200>}", "[10, 20, 100, 200]", "box"),
        ("[10.5, 20, 100, 200]", "[10.5, 20, 100, 200]", "box"),
        ("polyp 1: [10, 20, 100, 200]", "[10, 20, 100, 200]", "box"),
        ("x1=10 y1=20 x2=100 y2=200", "[10, 20, 100, 200]", "box"),
        ("[100, 200, 10, 20]", "[10, 20, 100, 200]", "corners_put_in_order"),
        ("[-5, 20, 100, 200]", "[0, 20, 100, 200]", "cut_to_the_image"),
        ('{"bbox_2d": [10, 20, 100, 200], "label": "polyp"}', "[10, 20, 100, 200]", "box"),
        ("[1, 2, 3, 4] or [5, 6, 7, 8]", "", "several_boxes"),
        ("[10, 20, 10, 20]", "", "no_area"),
        ("nowhere", "", "no_box"),
    ],
)
def test_boxes(text: str, answer: str, rule: str) -> None:
    extraction = extract(text, BOX)
    assert (extraction.answer, extraction.rule) == (answer, rule)


def test_boxes_of_other_scales_and_their_overlap() -> None:
    thousand = AnswerForm("box", box=BoxForm(scale="thousand"), image_size=(768, 576))
    assert extract("[100, 100, 500, 500]", thousand).answer == "[76.8, 57.6, 384, 288]"
    assert (
        extract("[100, 100, 500, 500]", AnswerForm("box", box=BoxForm(scale="unit"))).rule == "scale_needs_image_size"
    )
    assert extract("[10, 20, 90, 180]", AnswerForm("box", box=BoxForm(order="xywh"))).answer == "[10, 20, 100, 200]"
    assert judge("[0, 0, 10, 10]", BOX, "{<0><0><10><20>}").score == pytest.approx(0.5)


@pytest.mark.parametrize("raw", [None, 3, ["B"], {"answer": "B"}, True])
def test_what_is_no_text_is_unreadable(raw: object) -> None:
    assert extract(raw, CHOICE).status == "unreadable"


def test_an_answer_cut_by_the_token_limit_counts_only_up_to_its_last_sentence() -> None:
    assert extract("The answer is B. It is", CHOICE, "length").answer == "B"
    assert extract("Considering option B which", CHOICE, "length").status == "truncated"
    assert extract("<answer>B", CHOICE, "stop").answer == "B"


def test_options_are_parsed_whatever_they_hold() -> None:
    question = "Which? <A> one, two, <B> three (x) <D> not an option, <C> a.*b [c]"
    assert [option.text for option in parse_options(question)] == [
        "one, two",
        "three (x) <D> not an option",
        "a.*b [c]",
    ]
    assert reference_option("<C> a.*b [c]", parse_options(question)) == Option("C", "a.*b [c]")
    assert reference_option("<A> three", parse_options(question)) is None
    assert [option.letter for option in parse_options("Which?\nA. yes\nB. no")] == ["A", "B"]
    assert parse_options("No options here") == ()


def test_token_f1_by_hand() -> None:
    assert token_f1("the left lung", "left lung") == 1.0
    assert token_f1("left lung and heart", "right lung") == pytest.approx(2 * 0.25 * 0.5 / 0.75)
    assert token_f1("", "lung") == 0.0


IMAGING = AnswerForm(
    "options",
    options=options("White Light Imaging (WLI)", "Narrow Band Imaging (NBI)", "Blue Laser Imaging (BLI)", "FICE"),
)


@pytest.mark.parametrize(
    ("form", "text", "answer"),
    [
        (CHOICE, "$\\boxed{\\text{B}}$", "B"),
        (CHOICE, "It is definitely an adenoma and not an ulcer.", "B"),
        (CHOICE, "B because A is wrong", "B"),
        (CHOICE, "Although it could be an ulcer, the answer is B.", "B"),
        (CHOICE, "There is no evidence of bleeding or ulcer; this looks like an adenoma", "B"),
        (CHOICE, "答案是B", "B"),
        (CHOICE, "high-grade adenoma", "C"),
        (CHOICE, "The answer is not A", ""),
        (CHOICE, "All of the above", ""),
        (IMAGING, "white-light endoscopy", "A"),
        (IMAGING, "narrow band", "B"),
        (IMAGING, "This is white light imaging, not NBI.", "A"),
        (IMAGING, "WLI or NBI", ""),
        (BBPS, "BBPS score of 2", "C"),
        (BBPS, "The BBPS is 3.", "D"),
        (BBPS, "BBPS 2 to 3", "F"),
        (BBPS, "between 0 and 1", "E"),
        (PARIS, "0-Is", "A"),
        (PARIS, "sub-pedunculated", "C"),
        (PARIS, "It is not sessile, it is pedunculated", "B"),
        (NICE, "Type II", "B"),
        (SIZE, "between 6 and 20 mm", "B"),
        (SIZE, "2.5 cm", "D"),
        (SIZE, "4 mm or 8 mm", ""),
        (POLYP, "I would say yes", "yes"),
        (POLYP, "Absolutely not", "no"),
        (POLYP, "Yes, this image shows a polyp; no bleeding.", "yes"),
        (POLYP, "No. However, there is an ulcer.", "no"),
        (POLYP, "Polyp present: No", "no"),
        (POLYP, "没有息肉", "no"),
        (POLYP, "It is unclear whether there is a polyp.", ""),
        (OPEN, "not a polyp but an ulcer", "ulcer"),
        (OPEN, "villous œdema", "villous-oedemas"),
        (OPEN, "polyp and ulcer", ""),
    ],
)
def test_sentences_as_models_write_them(form: AnswerForm, text: str, answer: str) -> None:
    assert extract(text, form).answer == answer, extract(text, form)
