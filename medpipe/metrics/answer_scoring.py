"""One question and one answer in, everything that is told of it out: medpipe's verdict, other rules, chance."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

from medpipe.metrics.answer_rules import Rule, RuleScore, rule_of
from medpipe.metrics.answer_tally import ScoredAnswer
from medpipe.metrics.answers import judge
from medpipe.metrics.colon_x_rules import Judge
from medpipe.metrics.question_forms import AnswerForm


class Asked(Protocol):
    """What scoring needs of a question."""

    @property
    def question_id(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def reference(self) -> str: ...
    @property
    def cluster(self) -> str: ...


def score_answer(
    question: Asked,
    raw: Any,
    form: AnswerForm,
    *,
    finish_reason: str | None = None,
    failed: bool = False,
    metric: str = "accuracy",
    rules: Sequence[str] = (),
    official: str | None = None,
    judge_of_rules: Judge | None = None,
) -> ScoredAnswer:
    """Score one answer.

    failed     the model never answered: wrong, under a status of its own
    metric     of the task, for free text
    official   the task's rule in its benchmark's own scorer; without it that scorer has nothing to say
    judge_of_rules   what that scorer asks where it finds several answers; medpipe's own verdict never asks anyone
    """
    verdict = judge(None if failed else raw, form, question.reference, finish_reason, metric=metric)
    extraction = verdict.extraction
    others = [_other(_rule(name, judge_of_rules), official or "", question, raw, failed) for name in rules]
    return ScoredAnswer(
        question_id=question.question_id,
        task=question.task,
        group=question.group,
        kind=form.kind,
        cluster=question.cluster,
        reference=label(verdict.reference, form),
        extracted=label(extraction.answer, form),
        status="failed" if failed else extraction.status,
        rule="failed" if failed else extraction.rule,
        right=verdict.right,
        score=verdict.score,
        chance=chance(form),
        token_f1=verdict.token_f1,
        others=tuple(other.score for other in others),
        judged=tuple(other.asked_judge for other in others),
    )


def _other(rule: Rule, official: str, question: Asked, raw: Any, failed: bool) -> RuleScore:
    return rule(official, question.text, question.reference, None if failed else raw)


@lru_cache(maxsize=16)
def _rule(name: str, judge_of_rules: Judge | None) -> Rule:
    return rule_of(name, judge_of_rules)


def label(answer: str, form: AnswerForm) -> str:
    """What stands in tables: of an option its text, since letters change from question to question."""
    if form.kind == "options" and answer:
        return next((option.text for option in form.options if option.letter == answer), answer)
    return answer


def chance(form: AnswerForm) -> float:
    """Expected accuracy of guessing among the possible answers; NaN of open kinds."""
    if form.kind == "yes_no":
        return 0.5
    if form.kind == "options":
        return 1 / len(form.options) if form.options else math.nan
    if form.kind in ("name", "grade"):
        return 1 / len(form.names) if form.names else math.nan
    return 1 / (1 + len(form.names)) if form.kind == "yes_no_which" else math.nan
