"""Rules of others beside medpipe's own, by name: how a benchmark's publisher scores the same answers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

from medpipe.metrics.colon_x_rules import Judge, official_score

RULE_SENTENCES = {
    "colon_x": "The released engine of Colon-X, misreadings included; items that it would give to its judge "
    "score 0 and are "
    "counted.",
    "colon_x_reasoning": "The same with the data type `reasoning`: the first <answer> block, or the whole text.",
    "substring": "The rule of REAL-Colon-VQA's publisher: right where the reference, lower case, stands anywhere "
    "within the "
    "answer, lower case.",
    "exact": "Right where answer and reference are the same text but for case and surrounding white space.",
}


@final
@dataclass(frozen=True)
class RuleScore:
    """A rule's score; None where the rule has nothing to say of such a question."""

    score: float | None
    asked_judge: bool = False


Rule = Callable[[str, str, str, Any], RuleScore]  # official rule of the task, question, reference, raw answer


def rule_of(name: str, judge: Judge | None = None) -> Rule:
    """The rule of that name; ValueError lists them."""
    if name not in RULE_SENTENCES:
        raise ValueError(f"no scoring rule {name!r}; there are {', '.join(RULE_SENTENCES)}")
    if name == "substring":
        return lambda official, question, reference, raw: RuleScore(substring(reference, raw))
    if name == "exact":
        return lambda official, question, reference, raw: RuleScore(exact(reference, raw))

    def colon_x(official: str, question: str, reference: str, raw: Any) -> RuleScore:
        if not official:
            return RuleScore(None)
        found = official_score(official, question, reference, raw, reasoning=name == "colon_x_reasoning", judge=judge)
        return RuleScore(found.score, found.asked_judge)

    return colon_x


def substring(reference: str, raw: Any) -> float:
    """REAL-Colon-VQA: 1.0 where the lower-case reference is a substring of the lower-case answer."""
    return float(isinstance(raw, str) and reference.lower() in raw.lower())


def exact(reference: str, raw: Any) -> float:
    """1.0 for equal texts, case and surrounding white space aside."""
    return float(isinstance(raw, str) and reference.strip().lower() == raw.strip().lower())
