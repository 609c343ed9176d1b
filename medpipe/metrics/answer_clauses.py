"""Clauses of an answer: which are denied, which decline, and where a conclusion is drawn."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import final

from medpipe.metrics.answer_text import refuses

# "no doubt" affirms; "not only" does not deny.
_AFFIRMING = re.compile(
    r"\b(?:there is |with |have |has )?(?:no|without(?: a| any)?|beyond(?: a)?) (?:doubt|question"
    r"|uncertainty)\b(?: that)?:?"
    r"|\bnot only\b|\bnot just\b|\bno wonder\b",
    re.IGNORECASE,
)
_BREAK = re.compile(
    r"(?<!\d)[.](?=\s|$|[\"')*])|(?<=\d)[.](?=\s|$)|[;!?\n。]|\b(?:but|however|although|though|whereas|while"
    r"|rather than|instead of|as opposed to|except|(?:all|anything|everything|any) but"
    r"|than(?= (?:an?|option|with|of|by)\b))\b|\bthan(?= [(<*]*[A-Z]\b)"
    r"|,(?!\d)|:(?=\s)|\s-\s",
    re.IGNORECASE,
)
_DENIAL = re.compile(
    r"\b(?:not|no|none|neither|nor|never|without|exclud\w*|rul\w* out|eliminat\w*|absen\w*|free of|negative for"
    r"|lacks?|lacking"
    r"|incorrect|wrong|unlikely|denies)\b",
    re.IGNORECASE,
)
# Behind a mention: "A is incorrect", "adenoma can be excluded".
# but "B not A" and "adenoma, not ulcer" deny what follows.
_DENIED_AFTER = re.compile(
    r"^[\s\"'*_)>\]}]*(?:(?!and\b|or\b|because\b|since\b|as\b|while\b|when\b|if\b|not\b|no\b)\w+\s+){0,2}?"
    r"(?:(?:is|are|was|were|can|could|would|does|do|has|seems?|appears?)\s+(?:also\s+|be\s+|been\s+|very\s+)*"
    r"(?:not|no)\b"
    r"|(?:is|are|was|were|can|could|would|does|do|has|seems?|appears?)?\s*(?:also\s+|be\s+|been\s+|very\s+)*"
    r"(?:incorrect|wrong|unlikely|exclud|ruled out|eliminat|absent|implausible"
    r"|(?:not|no)\s*$|not (?:correct|right|present|seen|visible|likely|identified|detected|shown|found|evident"
    r"|supported|possible|applicable|applied|the|an option)\b))",
    re.IGNORECASE,
)
_PUT_AWAY = (
    "rather than", "instead of", "as opposed to", "except", "than", "all but", "anything but", "everything but",
    "any but",
)  # fmt: skip
LONGEST_GLUE = 40  # characters; runs of blanks are tried in many ways
_GLUE = re.compile(
    r"^[\s,;/&()<>*\"'\[\]]*(?P<joint>(?:,?\s*(?:and|or|nor|&)\b)?)[\s(<*\"'\[]*(?:options?\s+)?[\s(<*\"'\[]*$",
    re.IGNORECASE,
)
_VERB = re.compile(r"\b(?:is|are|was|were|shows?|see|seen|answer|choose|would|appears?|seems?|be)\b", re.IGNORECASE)
_CONCLUSION = re.compile(
    r"\b(?P<final>final (?:answer|choice|diagnosis|decision)|therefore|thus|hence|in conclusion)\b|\\boxed"
    r"|\b(?:(?:the |my |correct |right |best |most likely )*(?:answer|choice|option|diagnosis"
    r"|conclusion))(?:\s+\w+){0,2}?\s*(?:is|would be|should be|[:=])"
    r"|\b(?:i|i'd|i would|i will|i'll|we) (?:go with|choose|select|pick|opt for|say|conclude)\b"
    r"|\b(?:most (?:likely|consistent|probably)|consistent with|best (?:described|classified|categorized"
    r"|characterized|matche[sd])|classified as|diagnosed as)\b",
    re.IGNORECASE,
)  # fmt: skip


@final
@dataclass(frozen=True)
class Clause:
    """A stretch of text, [start, end); `introduced_by` is the word or sign before it."""

    start: int
    end: int
    denied_from: int | None  # mentions behind this place in the clause are denied
    declines: bool
    introduced_by: str = ""


def affirmed(text: str) -> str:
    """The text with idioms blanked that hold a negating word and affirm; its length does not change."""
    return _AFFIRMING.sub(lambda found: " " * len(found.group()), text)


@lru_cache(maxsize=64)
def clauses(text: str) -> tuple[Clause, ...]:
    """The clauses of a normalised text."""
    plain = affirmed(text)
    found: list[Clause] = []
    start, before = 0, ""
    for stop in [*_BREAK.finditer(plain), None]:
        end = len(plain) if stop is None else stop.start()
        if plain[start:end].strip():
            found.append(_clause(plain, start, end, before, found))
        if stop is not None:
            start, before = stop.end(), stop.group().strip().lower()
    return tuple(found)


def _clause(plain: str, start: int, end: int, before: str, earlier: Sequence[Clause]) -> Clause:
    part = plain[start:end]
    denial = _DENIAL.search(part)
    denied_from = start + denial.start() if denial else None
    if before in _PUT_AWAY:
        denied_from = start
    goes_on = before == "," and bool(earlier) and earlier[-1].denied_from is not None and not _VERB.search(part)
    if goes_on and _lists_alternatives(plain, start):  # "not B, C or D"
        denied_from = start
    return Clause(start, end, denied_from, refuses(part), before)


def _lists_alternatives(plain: str, start: int) -> bool:
    sentence_end = re.compile(r"[.;!?\n]").search(plain, start)
    rest = plain[start : sentence_end.start() if sentence_end else len(plain)]
    return re.search(r"\b(?:or|nor)\b", rest, re.IGNORECASE) is not None


def is_denied(text: str, start: int, end: int) -> bool:
    """Whether what stands at [start, end) is denied, declined, or put away by what follows it."""
    for clause in clauses(text):
        if clause.start <= start < clause.end:
            if clause.declines or (clause.denied_from is not None and clause.denied_from < start):
                return True
            return _DENIED_AFTER.match(text[end : clause.end]) is not None
    return False


def denied(text: str, places: Sequence[tuple[int, int]]) -> list[bool]:
    """`is_denied` of each of these stretches, in order; what is said of one end of a list holds for all of it.

    "A, C and D can be excluded", "the others (A, C, D) do not fit", "I rule out A, C and D"; but "not A, B" denies A
    alone.
    """
    found = [is_denied(text, *place) for place in places]
    first = 0
    while first < len(places):
        last, joined = first, False
        while last + 1 < len(places):
            between = text[places[last][1] : places[last + 1][0]]
            glue = _GLUE.match(between) if len(between) <= LONGEST_GLUE else None
            if glue is None:
                break
            joined, last = joined or bool(glue.group("joint").strip(" ,")), last + 1
        if last > first and ((joined and found[first]) or ((joined or last > first + 1) and found[last])):
            found[first : last + 1] = [True] * (last + 1 - first)
        first = last + 1
    return found


_REASON = re.compile(r"\b(?:because|since|given that|as long as)\b|,\s*as\b", re.IGNORECASE)


def reason_starts(text: str) -> int:
    """Where the first reason begins that follows an answer: `B because A would bleed`; the text's length if nowhere."""
    found = _REASON.search(text)
    return found.start() if found else len(text)


def conclusions(text: str) -> list[tuple[int, int, bool]]:
    """Where a conclusion is drawn: [start, end of its sentence), and whether it calls itself final."""
    found = []
    for cue in _CONCLUSION.finditer(text):
        sentence = re.compile(r"(?<!\d)[.](?=\s|$)|[;!?\n]").search(text, cue.end())
        found.append((cue.end(), sentence.start() if sentence else len(text), cue.group("final") is not None))
    return found
