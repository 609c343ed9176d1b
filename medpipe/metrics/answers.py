"""What a model answered, and whether it is right: one extraction and one verdict for every kind of question.

The extraction never sees the reference. An answer that is refused, ambiguous, unreadable or truncated is wrong, and
counted under its own name.
"""

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, final

from medpipe.metrics.answer_boxes import Box, iou, parse_box, read_box
from medpipe.metrics.answer_extraction import Extraction, decide
from medpipe.metrics.answer_options import read_option
from medpipe.metrics.answer_phrases import Phrases, phrases_of
from medpipe.metrics.answer_sizes import Size, read_size
from medpipe.metrics.answer_text import folded_words, normal, said, tokens
from medpipe.metrics.answer_yes_no import plain_yes_or_no, read_yes_no
from medpipe.metrics.question_forms import AnswerForm, Names, reference_option

# Raised when extraction or verdicts change: scores of different definitions are not compared.
DEFINITION = "medpipe-answers-2"


@final
@dataclass(frozen=True)
class Verdict:
    """How an answer is scored. `reference` is in the form of the extraction; `score` is 0 to 1, `right` all or
    nothing."""

    extraction: Extraction
    reference: str
    right: bool
    score: float
    token_f1: float | None = None  # of free text


def extract(raw: Any, form: AnswerForm, finish_reason: str | None = None) -> Extraction:
    """What a raw answer says, in the form of the question's kind: a letter, yes or no, a name, a text, a box."""
    what = said(raw, finish_reason)
    if what.status == "truncated":
        return Extraction("truncated", rule=what.rule)
    if what.status:
        return Extraction("unreadable", rule=what.rule)
    if form.kind == "options":
        return read_option(what.text, form.options, form.names)
    if form.kind == "yes_no":
        return read_yes_no(what.text, form.question)
    if form.kind == "yes_no_which":
        return _read_yes_no_which(what.text, form)
    if form.kind in ("name", "grade"):
        return read_name(what.text, form.names)
    if form.kind == "box":
        return read_box(what.text, form)
    return Extraction("answered", what.text, "text")


def judge(
    raw: Any, form: AnswerForm, reference: str, finish_reason: str | None = None, *, metric: str = "accuracy"
) -> Verdict:
    """Extraction and verdict of one answer."""
    extraction = extract(raw, form, finish_reason)
    expected = canonical_reference(form, reference)
    given = extraction.answer
    if form.kind == "box":
        overlap = iou(parse_box(given), reference_box(form, reference)) if given else 0.0
        return Verdict(extraction, expected, overlap >= 0.5, overlap)
    if form.kind == "text":
        right = bool(given) and folded_words(given) == folded_words(reference)
        f1 = token_f1(given, reference)
        return Verdict(extraction, expected, right, f1 if metric == "token_f1" else float(right), f1)
    right = extraction.status == "answered" and given == expected
    return Verdict(extraction, expected, right, float(right))


def canonical_reference(form: AnswerForm, reference: str) -> str:
    """The reference in the form that extractions have; ValueError where it does not fit the kind of question."""
    if form.kind == "options":
        option = reference_option(reference, form.options)
        if option is None:
            listed = ", ".join(str(option) for option in form.options) or "none were found in the question"
            raise ValueError(f"reference {reference!r} is none of the options ({listed})")
        return option.letter
    if form.kind == "yes_no":
        sense = plain_yes_or_no(reference)
        if sense is None:
            raise ValueError(f"reference {reference!r} is neither yes nor no")
        return sense
    if form.kind in ("name", "grade"):
        name = _exact_names(form.names).get(folded_words(reference))
        if name is None:
            raise ValueError(f"reference {reference!r} is no name of the vocabulary ({_listed(form.names)})")
        return name
    if form.kind == "yes_no_which":
        extraction = _read_yes_no_which(normal(reference), form)
        if extraction.status != "answered":
            raise ValueError(f"reference {reference!r} says neither no nor which of {_listed(form.names)}")
        return extraction.answer
    if form.kind == "box":
        return str(reference_box(form, reference))
    return normal(reference)


def reference_box(form: AnswerForm, reference: str) -> Box:
    """The reference's box in pixels; references are always corners in pixels. ValueError for anything else."""
    extraction = read_box(normal(reference), AnswerForm("box", image_size=form.image_size))
    if extraction.status != "answered":
        raise ValueError(f"reference {reference!r} is no box with an area ({extraction.rule})")
    return parse_box(extraction.answer)


def read_name(text: str, names: Names) -> Extraction:
    """The one name of the vocabulary that a normalised text affirms; a size where every name is one."""
    mentions = _phrases(names).find(text, tokens(text))
    answer, status, rule = decide(text, mentions)
    sizes = _sizes(names)
    if sizes and (answer is None or status != "answered"):
        size = read_size(text)
        fitting = [name for name, of_name in sizes if size is not None and size.within(of_name)]
        if len(fitting) == 1:
            return Extraction("answered", fitting[0], "size")
    return Extraction(status, answer or "", rule)


def _read_yes_no_which(text: str, form: AnswerForm) -> Extraction:
    """`no`, `yes`, or `yes: cecum`. A name that is affirmed says yes by itself."""
    stance = read_yes_no(text, form.question)
    named = read_name(text, form.names)
    # A no of its own denies all; "no cecum, but the valve" denies one name and affirms another.
    says_no = stance.answer == "no" and stance.rule != "statement"
    readable = stance.status in ("answered", "unreadable") or stance.rule == "mixed_statements"
    if readable and named.status == "answered" and not says_no:
        return Extraction("answered", f"yes: {named.answer}", named.rule)
    return stance


def _listed(names: Names) -> str:
    return ", ".join(name for name, _ in names)


@lru_cache(maxsize=256)
def _phrases(names: Names) -> Phrases[str]:
    return phrases_of(dict(names))


@lru_cache(maxsize=256)
def _exact_names(names: Names) -> dict[tuple[str, ...], str]:
    return {folded_words(text): name for name, aliases in reversed(names) for text in (name, *aliases)}


@lru_cache(maxsize=256)
def _sizes(names: Names) -> tuple[tuple[str, Size], ...]:
    """Name -> size where every name of the scale is one (`<5`, `5-10`), else nothing."""
    sizes = [(name, read_size(normal(name))) for name, _ in names]
    given = tuple((name, size) for name, size in sizes if size is not None)
    return given if len(given) == len(names) else ()


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall of the words (Rajpurkar et al., 2016, arXiv:1606.05250), articles
    left out."""
    given, expected = (
        Counter(word for word in folded_words(text) if word not in ("a", "an", "the")) for text in (answer, reference)
    )
    common = sum((given & expected).values())
    return 2 * common / (sum(given.values()) + sum(expected.values())) if common else 0.0
