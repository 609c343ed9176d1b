"""The official-compatible rules give what the released engine was seen to give, right or wrong."""

import pytest

from medpipe.metrics.answer_rules import rule_of
from medpipe.metrics.colon_x_rules import box, landmark, official_score, open_name

LESIONS = "Which? <A> bleeding, <B> adenoma, <C> high grade adenoma, <D> ulcer"
SIZE = "How large? <A> polyp ≥ 30mm, <B> 6mm ≤ polyp < 20mm, <C> 0mm < polyp < 6mm, <D> 20mm ≤ polyp < 30mm"
SIZE_LAST = "How large? <A> polyp ≥ 30mm, <B> 6mm ≤ polyp < 20mm, <D> 20mm ≤ polyp < 30mm, <C> 0mm < polyp < 6mm"
NICE = "Which? <A> Type 1 (characteristic for hyperplastic), <B> Type 2 (characteristic for adenoma), <C> Type 3 (x)"
PARIS = "Which? <A> Sessile (Is), <B> Pedunculated (Ip), <C> Subpedunculated (Isp), <D> Slightly elevated (IIa)"
MODES = "Which? <A> White Light Imaging (WLI), <B> Narrow Band Imaging (NBI), <C> Linked Color Imaging (LCI)"
BBPS = "Rate it. <A> BBPS 0, <B> BBPS 1, <C> BBPS 2, <D> BBPS 3, <E> BBPS 0-1, <F> BBPS 2-3"
MAYO = "Grade it. <A> UC grade 0, <B> UC grade 1, <C> UC grade 0-1, <D> UC grade 1-2"
STAGE = "Which? <A> dyed lifted polyp, <B> dyed resection margin, <C> resection margin, <D> resected polyp"
EXPOSURE = "Check. <A> overexposed, <B> underexposed, <C> normal exposure"


def score(rule: str, question: str, reference: str, prediction: object) -> float:
    return official_score(rule, question, reference, prediction).score


@pytest.mark.parametrize(
    "text",
    ["**B**", "The correct answer is **B**.", '"B"', "'B'", "`B`", "{B}", "B,", "B:", "B;", "Answer:B", "\\boxed{B}",
     "<answer>B</answer>", "Ｂ"],
)  # fmt: skip
def test_right_letters_in_other_dress_score_nothing(text: str) -> None:
    assert score("choice", LESIONS, "<B> adenoma", text) == 0.0


@pytest.mark.parametrize("text", ["B", "b", "<B>", "(b)", "B. adenoma", "adenoma", "The answer is B", "<B> adenoma"])
def test_right_answers_that_the_engine_reads(text: str) -> None:
    assert score("choice", LESIONS, "<B> adenoma", text) == 1.0


@pytest.mark.parametrize(
    ("question", "reference", "text"),
    [
        (LESIONS, "<A> bleeding", "This is a lesion"),
        (LESIONS, "<A> bleeding", "I can't provide a diagnosis"),
        (LESIONS, "<B> adenoma", "<A> adenoma"),
        (LESIONS, "<B> adenoma", "<B> bleeding"),
        (LESIONS, "<B> adenoma", "There is no adenoma here"),
        (LESIONS, "<B> adenoma", "<C> high grade adenoma"),
        (NICE, "<B> Type 2 (characteristic for adenoma)", "not an adenoma; Type 1"),
        (STAGE, "<C> resection margin", "<B> dyed resection margin"),
        (BBPS, "<C> BBPS 2", "<F> BBPS 2-3"),
        (BBPS, "<A> BBPS 0", "<E> BBPS 0-1"),
        (MAYO, "<A> UC grade 0", "<C> UC grade 0-1"),
        (MAYO, "<B> UC grade 1", "<D> UC grade 1-2"),
        (PARIS, "<B> Pedunculated (Ip)", "<C> Subpedunculated (Isp)"),
        (EXPOSURE, "<C> normal exposure", "abnormal exposure"),
        ("Which? <A> ulcer, <B> polyp", "<A> ulcer", "ulcerative colitis"),
        *[(LESIONS, f"<{letter}> {name}", "bleeding, adenoma, high grade adenoma, ulcer")
          for letter, name in zip("ABCD", ["bleeding", "adenoma", "high grade adenoma", "ulcer"], strict=True)],
    ],
)  # fmt: skip
def test_wrong_answers_that_score_one(question: str, reference: str, text: str) -> None:
    found = official_score("choice", question, reference, text)
    assert (found.score, found.asked_judge) == (1.0, False)


def test_the_letter_i() -> None:
    nine = "Which? " + ", ".join(f"<{letter}> finding {number}" for number, letter in enumerate("ABCDEFGHI"))
    assert score("choice", nine, "<I> finding 8", "I cannot tell") == 1.0


def test_subpedunculated_counts_as_sessile() -> None:
    """Is is within Isp."""
    assert score("choice", PARIS, "<A> Sessile (Is)", "<C> Subpedunculated (Isp)") == 1.0


@pytest.mark.parametrize("text", ["Not visible.", "None", "Y", "True", "A polyp is present.", "是"])
def test_other_words_than_yes_and_no_score_nothing(text: str) -> None:
    assert score("yes_no", "Polyp?", "No", text) == 0.0
    assert score("yes_no", "Polyp?", "Yes", text) == 0.0


def test_yes_and_no_within_a_sentence() -> None:
    assert score("yes_no", "Polyp?", "No", "There is no doubt a polyp is present") == 1.0
    assert score("yes_no", "Polyp?", "No", "Sorry, there is no way to tell") == 1.0
    both = official_score("yes_no", "Polyp?", "Yes", "Yes, because there is no blood")
    assert (both.score, both.asked_judge) == (0.0, True)


def test_a_judge_that_fails_leaves_yes_and_no_right_for_either() -> None:
    def failing(question: str, prediction: str) -> str:
        raise ValueError("no judge")

    def gone(question: str, prediction: str) -> str:
        raise RuntimeError("the server is gone")

    with pytest.raises(RuntimeError, match="is gone"):
        official_score("yes_no", "Polyp?", "Yes", "yes and no", judge=gone)
    for reference in ("Yes", "No"):
        assert official_score("yes_no", "Polyp?", reference, "yes and no", judge=failing).score == 1.0
    assert official_score("choice", LESIONS, "<B> adenoma", "A or B", judge=failing).score == 0.0


def test_a_judge_is_asked_only_where_several_options_are_named() -> None:
    asked = []

    def judge(question: str, prediction: str) -> str:
        asked.append(prediction)
        return "<B> adenoma"

    assert official_score("choice", LESIONS, "<B> adenoma", "Not A; the final answer is B", judge=judge).score == 1.0
    assert official_score("choice", LESIONS, "<B> adenoma", "B", judge=judge).score == 1.0
    assert asked == ["Not A; the final answer is B"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("No, the cecum is not visible.", 0.0),
        ("Yes. The cecum is visible, not the ileocecal valve.", 0.0),
        ("Yes, the caecum", 0.5),
        ("Yes. This image shows cecum.", 1.0),
    ],
)
def test_landmark(text: str, expected: float) -> None:
    assert landmark("Yes. This image shows cecum.", text) == expected


@pytest.mark.parametrize(("text", "expected"), [("No", 0.5), ("Maybe the image does not show any landmarks.",
    0.5), ("No, the cecum is not visible.", 0.0)])  # fmt: skip
def test_landmark_where_there_is_none(text: str, expected: float) -> None:
    assert landmark("No. This image does not show any landmark.", text) == expected


@pytest.mark.parametrize(
    "text",
    ["4 mm", "smaller than 6mm", "<C> 0 mm < polyp < 6 mm", "larger than 0 and smaller than 6mm"],
)
def test_sizes_that_score_nothing(text: str) -> None:
    assert score("size", SIZE, "<C> 0mm < polyp < 6mm", text) == 0.0


def test_sizes() -> None:
    assert score("size", SIZE, "<A> polyp ≥ 30mm", "<A> polyp >= 30mm") == 0.0
    assert score("size", SIZE, "<A> polyp ≥ 30mm", "<A> polyp ≥ 30mm") == 1.0
    said = "The polyp is larger than 0 mm and it is smaller than 6 mm"
    assert score("size", SIZE, "<C> 0mm < polyp < 6mm", said) == 1.0
    assert score("size", SIZE_LAST, "<A> polyp ≥ 30mm", "polyp ≥ 30mm") == 1.0


def test_open_names() -> None:
    assert open_name("polyp", "polyp, adenoma, blood in lumen, ulcer") == 1.0
    assert open_name("polyp", "no polyp") == 1.0
    assert open_name("low grade adenoma", "high grade adenoma") == pytest.approx(2 / 3)
    assert open_name("blood in lumen", "normal colon in view") == pytest.approx(1 / 3)
    assert open_name("", "anything") == 1.0


@pytest.mark.parametrize("text", ["[624.4, 606.1, 700, 720]", "polyp 1: [10, 20, 30, 40]",
    "x1=10 y1=20 x2=30 y2=40", "[30, 40, 10, 20]", ""])  # fmt: skip
def test_boxes_that_score_nothing(text: str) -> None:
    assert box("{<10><20><30><40>}", text) == 0.0


def test_boxes() -> None:
    assert box("{<10><20><30><40>}", "{<10><20><30><40>}") == 1.0
    assert box("{<10><20><30><40>}", "[-10, 20, 30, 40]") == 1.0
    assert box("{<0><0><9><9>}", "[0, 0, 9, 19]") == pytest.approx(0.5)


@pytest.mark.parametrize("prediction", [None, ["B"], 3])
def test_what_crashes_the_engine_scores_nothing(prediction: object) -> None:
    assert score("choice", LESIONS, "<B> adenoma", prediction) == 0.0


def test_the_reasoning_form_takes_the_first_block_or_the_whole_text() -> None:
    two = "<answer>No</answer> wait <answer>Yes</answer>"
    assert official_score("yes_no", "?", "No", two, reasoning=True).score == 1.0
    assert official_score("yes_no", "?", "No", "<think>no</think>", reasoning=True).score == 1.0


def test_rules_by_name() -> None:
    assert rule_of("substring")("", "?", "No", "I know").score == 1.0
    assert rule_of("exact")("", "?", "No", "no ").score == 1.0
    assert rule_of("colon_x")("", "?", "No", "no").score is None
    with pytest.raises(ValueError, match="no scoring rule 'mine'; there are colon_x"):
        rule_of("mine")
