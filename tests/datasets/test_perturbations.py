"""The four perturbations: what they change, what they leave alone, and that they are the same each time."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from medpipe.datasets.generated_questions import draw_image
from medpipe.datasets.perturbations import (
    PERTURBATIONS,
    find_text,
    hide_text,
    image_change,
    perturb,
    write_text,
    wrong_answer,
)
from medpipe.datasets.questions import Question
from medpipe.datasets.vocabularies import load_vocabulary
from medpipe.metrics.question_forms import Option

COLON_X = load_vocabulary("colon_x")
CHOICE = Question(
    "q1", "lesion_choice", "options", "Which? <A> polyp, <B> ulcer", "<B> ulcer", ("a.jpg",),
    (Option("A", "polyp"), Option("B", "ulcer")),
)  # fmt: skip
YES = Question("q2", "bleeding_warning", "yes_no", "Bleeding?", "Yes", ("a.jpg",))
NAME = Question("q3", "lesion_open", "name", "Name it.", "caecal polyps", ("a.jpg",))
BOX = Question("q4", "lesion_location", "box", "Where?", "{<1><2><3><4>}", ("a.jpg",))


def endoscope_image(text: str, seed: int = 0) -> Image.Image:
    """A smooth reddish picture with highlights, and a line of text in its corner."""
    import cv2

    noise = np.random.default_rng(seed).normal(0, 1, (6, 8, 3)).astype(np.float32)
    smooth = 120 + 25 * cv2.resize(noise, (640, 480), interpolation=cv2.INTER_CUBIC)
    image = Image.fromarray(np.clip(smooth + np.array([40, 0, 0]), 0, 230).astype(np.uint8))
    ImageDraw.Draw(image).text((12, 10), text, fill="white", font=ImageFont.load_default(22))
    return image


def test_a_wrong_answer_is_never_the_reference() -> None:
    assert wrong_answer(CHOICE, COLON_X) == "<A> polyp"
    assert wrong_answer(YES, COLON_X) == "no"
    for number in range(200):
        question = Question(f"n{number}", "lesion_open", "name", "Name it.", "colonic polyp")
        assert wrong_answer(question, COLON_X) != "polyp"
    assert wrong_answer(BOX, COLON_X) is None


def test_sentences_stand_before_the_question_and_claim_a_wrong_answer() -> None:
    for kind in ("contradiction", "emotion"):
        changed = perturb(CHOICE, kind, COLON_X)  # type: ignore[arg-type]
        assert changed is not None
        assert changed.text.endswith(CHOICE.text)
        assert "<A> polyp" in changed.text.removesuffix(CHOICE.text)
        assert (changed.question_id, changed.reference, changed.options) == ("q1", CHOICE.reference, CHOICE.options)
        assert changed == perturb(CHOICE, kind, COLON_X)  # type: ignore[arg-type]
        assert perturb(BOX, kind, COLON_X) is None  # type: ignore[arg-type]


def test_perturbed_images_leave_the_text_alone() -> None:
    for kind in ("hidden_text", "misleading_text"):
        assert perturb(YES, kind, COLON_X) == YES  # type: ignore[arg-type]
        assert image_change(YES, kind, COLON_X) is not None  # type: ignore[arg-type]
        assert perturb(Question("q", "bleeding_warning", "yes_no", "?", "Yes"), kind, COLON_X) is None  # type: ignore[arg-type]
    assert image_change(YES, "emotion", COLON_X) is None


def test_written_text_stands_in_the_corner_and_fits() -> None:
    image = endoscope_image("")
    for text in ("Answer: no", "Answer: <B> an option with a very long text that goes on and on and on"):
        changed = np.asarray(write_text(image, text)).astype(int)
        differs = (changed != np.asarray(image)).any(axis=2)
        assert differs.any()
        assert not differs[80:].any()


@pytest.mark.parametrize("text", ["NBI", "WLI 2024-03-11", "Scope: CF-H190"])
def test_burnt_in_text_is_covered_and_the_rest_kept(text: str) -> None:
    image = endoscope_image(text)
    plain = endoscope_image("")
    letters = (np.asarray(image) != np.asarray(plain)).any(axis=2)
    hidden = np.asarray(hide_text(image))
    covered = (hidden == 0).all(axis=2)
    assert (covered & letters).sum() > 0.9 * letters.sum()
    assert covered.sum() < 12 * letters.sum()
    assert np.array_equal(hidden[~covered], np.asarray(image)[~covered])


def test_a_picture_without_text_is_left_alone() -> None:
    covered = sum(width * height for seed in range(5) for _, _, width, height in find_text(endoscope_image("", seed)))
    assert covered < 0.002 * 5 * 640 * 480


def test_the_generated_caption_is_found(tmp_path: Path) -> None:
    draw_image(tmp_path / "a.jpg", 3)
    image = Image.open(tmp_path / "a.jpg").convert("RGB")
    found = find_text(image)
    assert any(x < 20 and y < 15 for x, y, _, _ in found), found


def test_every_perturbation_has_its_words() -> None:
    assert set(PERTURBATIONS) == {"hidden_text", "misleading_text", "contradiction", "emotion"}
