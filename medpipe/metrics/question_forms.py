"""What a question expects: its kind, its options, the names it may be answered with. Text alone, no files."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, final

QuestionKind = Literal["yes_no", "yes_no_which", "options", "name", "grade", "text", "box"]
QUESTION_KINDS: dict[str, str] = {
    "yes_no": "yes or no",
    "yes_no_which": "yes or no, and if yes, which of the names",
    "options": "one of the options that the question lists",
    "name": "one name of a vocabulary, not listed in the question",
    "grade": "one level of an ordered scale",
    "text": "free text",
    "box": "a rectangle in the image",
}
# Kinds whose answers are one of finitely many: they have a confusion matrix, a majority answer and a chance level.
CLOSED_KINDS = ("yes_no", "yes_no_which", "options", "name", "grade")

# Canonical name with its other names; hashable, so that what is compiled from it is kept.
Names = tuple[tuple[str, tuple[str, ...]], ...]

BoxOrder = Literal["xyxy", "xywh", "yxyx"]
BoxScale = Literal["pixels", "unit", "thousand"]


@final
@dataclass(frozen=True)
class Option:
    """One choice: its capital letter, and its text without separators around it."""

    letter: str
    text: str

    def __str__(self) -> str:
        return f"<{self.letter}> {self.text}"


@final
@dataclass(frozen=True)
class BoxForm:
    """How boxes are written: order of the four numbers, and what they count."""

    order: BoxOrder = "xyxy"
    scale: BoxScale = "pixels"


@final
@dataclass(frozen=True)
class AnswerForm:
    """All that is needed to read an answer, without the reference.

    names      of kinds name, grade (in order) and yes_no_which; of options: names that hide shorter options
    image_size (width, height) in pixels: boxes in other scales than pixels need it
    """

    kind: QuestionKind
    question: str = ""
    options: tuple[Option, ...] = ()
    names: Names = ()
    box: BoxForm = BoxForm()
    image_size: tuple[int, int] | None = None


def frozen_names(names: Mapping[str, Iterable[str]]) -> Names:
    """Names with their aliases as they stand in a form."""
    return tuple((name, tuple(aliases)) for name, aliases in names.items())


_ANGLED = re.compile(r"<([A-Z])>")
_PLAIN = re.compile(r"(?:^|(?<=[\s,;]))\(?([A-Z])[).:]\s")


@lru_cache(maxsize=4096)
def parse_options(question: str) -> tuple[Option, ...]:
    """The options inside a question: `<A> text, <B> text`, or `A. text` and `(A) text` from A on; () where none.

    A letter counts only as the next of the sequence, so that an option's own text may hold `<C>` or brackets. The
    separator before the next letter is no part of a text.
    """
    for pattern in (_ANGLED, _PLAIN):
        starts = _sequence(question, pattern)
        if len(starts) > 1:
            ends = [*(start for start, _, _ in starts[1:]), len(question)]
            options = tuple(
                Option(letter, question[text_start:end].strip().rstrip(",;").strip())
                for (_, text_start, letter), end in zip(starts, ends, strict=True)
            )
            return options if all(option.text for option in options) else ()
    return ()


def _sequence(question: str, pattern: re.Pattern[str]) -> list[tuple[int, int, str]]:
    """(start of the letter, start of its text, letter) of A, B, C ... in a row."""
    found: list[tuple[int, int, str]] = []
    for match in pattern.finditer(question):
        if match.group(1) == chr(ord("A") + len(found)):
            found.append((match.start(), match.end(), match.group(1)))
    return found


_REFERENCE = re.compile(r"^\s*<([A-Z])>\s*(.*?)\s*$", re.DOTALL)


def reference_option(reference: str, options: Sequence[Option]) -> Option | None:
    """The option that a reference names: whole (`<B> adenoma`), by text, or by its letter alone; else None."""
    match = _REFERENCE.match(reference)
    letter, text = (match.group(1), match.group(2)) if match else ("", reference.strip())
    text = text.rstrip(",;").strip().casefold()
    for option in options:
        if option.text.casefold() == text and letter in ("", option.letter):
            return option
    if not match and len(text) == 1:
        return next((option for option in options if option.letter.casefold() == text), None)
    return None
