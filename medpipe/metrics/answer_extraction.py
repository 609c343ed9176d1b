"""What an extractor returns, and how one of several mentioned candidates is chosen, or none."""

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar, final

from medpipe.metrics.answer_clauses import conclusions, denied, reason_starts
from medpipe.metrics.answer_text import refuses

Status = Literal["answered", "refused", "ambiguous", "unreadable", "truncated"]
# In the order of tables; "failed" is of questions that a model never answered.
STATUSES = ("answered", "refused", "ambiguous", "unreadable", "truncated", "failed")

Candidate = TypeVar("Candidate", bound=Hashable)


@final
@dataclass(frozen=True)
class Extraction:
    """The answer that was read, in the form of its kind; "" unless `status` is "answered". `rule` decided."""

    status: Status
    answer: str = ""
    rule: str = ""


@final
@dataclass(frozen=True)
class Mention(Generic[Candidate]):
    """A candidate named at [start, end) of the text."""

    candidate: Candidate
    start: int
    end: int
    how: str  # letter, text, letter_and_text, ...


def decide(text: str, mentions: Sequence[Mention[Candidate]]) -> tuple[Candidate | None, Status, str]:
    """The one candidate that the text affirms, with the rule; or None with the status.

    One affirmed candidate is the answer. Of several, the one that a conclusion names; conclusions that differ leave the
    answer ambiguous unless the last calls itself final.
    """
    away = denied(text, [(mention.start, mention.end) for mention in mentions])
    kept = [mention for mention, is_away in zip(mentions, away, strict=True) if not is_away]
    named = {mention.candidate for mention in kept}
    if len(named) == 1:
        (candidate,) = named
        strongest = max(kept, key=lambda mention: len(mention.how))
        return candidate, "answered", strongest.how
    if len(named) > 1:
        return _concluded(text, kept)
    if refuses(text):
        return None, "refused", "declines"
    return None, "unreadable", "only_denied" if mentions else "nothing_named"


_OR = re.compile(r"\bor\W+(?:option\W+)?$", re.IGNORECASE)


def _concluded(text: str, kept: Sequence[Mention[Candidate]]) -> tuple[Candidate | None, Status, str]:
    drawn: list[tuple[Candidate, bool]] = []
    for start, end, is_final in conclusions(text):
        inside = {mention.candidate for mention in kept if start <= mention.start < end}
        if len(inside) > 1:
            return None, "ambiguous", "several_named"
        drawn += [(candidate, is_final) for candidate in inside]
    if not drawn:
        reason = reason_starts(text)
        before = {mention.candidate for mention in kept if mention.start < reason}
        offered = any(_OR.search(text, reason, mention.start) for mention in kept if mention.start > reason)
        if len(before) == 1 and not offered:  # the others are named as grounds
            return before.pop(), "answered", "before_the_reason"
        return None, "ambiguous", "several_named"
    last, is_final = drawn[-1]
    if is_final or len({candidate for candidate, _ in drawn}) == 1:
        return last, "answered", "conclusion"
    return None, "ambiguous", "several_conclusions"
