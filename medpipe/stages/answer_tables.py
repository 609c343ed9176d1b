"""Questions and answers, read side by side, to rows of scores.csv and the sums of a table."""

import csv
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO, final

from medpipe.datasets.question_sets import BoxConvention
from medpipe.datasets.questions import AnswerForms, Question, read_questions
from medpipe.datasets.vocabularies import Vocabulary
from medpipe.geometry.faults import DataFault
from medpipe.language.foreign_answers import AnswersByQuestion, iter_answers
from medpipe.metrics.answer_comparison import ItemScore
from medpipe.metrics.answer_scoring import score_answer
from medpipe.metrics.answer_tally import AnswerTally, ScoredAnswer
from medpipe.metrics.answers import DEFINITION
from medpipe.metrics.colon_x_rules import Judge

COLUMNS = (
    "model", "perturbation", "question_id", "task", "group", "kind", "cluster", "reference", "extracted",
    "status", "rule",
    "right", "score", "token_f1",
)  # fmt: skip


@final
@dataclass(frozen=True)
class AnsweredSet:
    """One model's answers to one set: what scoring reads, wherever it lies."""

    title: str
    answers: Path
    questions: Path | Sequence[Question]
    vocabulary: Vocabulary
    box: BoxConvention = field(default_factory=BoxConvention)
    perturbation: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    def iter_questions(self) -> Iterable[Question]:
        return read_questions(self.questions) if isinstance(self.questions, Path) else self.questions


def answered_set(folder: Path) -> AnsweredSet:
    """What a stage of kind question_answering left in its folder."""
    path = folder / "answering.json"
    if not path.is_file():
        raise DataFault(path, "no such file; expected the folder of a stage of kind question_answering")
    facts = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = Vocabulary.model_validate_json(json.dumps(facts["vocabulary"]), strict=True)
    box = BoxConvention.model_validate(facts["box"])
    return AnsweredSet(
        facts["title"], folder / "answers.jsonl", folder / "questions.jsonl", vocabulary, box,
            facts["perturbation"] or "",
        facts,
    )  # fmt: skip


@final
class ScoreWriter:
    """Rows of scores.csv as they come."""

    def __init__(self, file: TextIO, rules: Sequence[str]) -> None:
        self.rows = csv.writer(file, lineterminator="\n")
        self.rows.writerow([*COLUMNS, *(f"rule_{rule}" for rule in rules), "definition"])

    def write(self, model: str, perturbation: str, scored: ScoredAnswer) -> None:
        f1 = "" if scored.token_f1 is None else f"{scored.token_f1:.4f}"
        others = ["" if value is None else f"{value:g}" for value in scored.others]
        self.rows.writerow(
            [model, perturbation, scored.question_id, scored.task, scored.group, scored.kind, scored.cluster,
             scored.reference, scored.extracted, scored.status, scored.rule, int(scored.right), f"{scored.score:g}", f1,
             *others, DEFINITION]
        )  # fmt: skip


@final
@dataclass(frozen=True)
class SetScores:
    """A model's sums, and what could not be paired."""

    tally: AnswerTally
    unanswered: int
    unasked: int
    differing: dict[str, int]  # rule -> items on which it and medpipe differ (right against a score of 1/2 or more)


def score_set(
    answered: AnsweredSet,
    rules: Sequence[str],
    writer: ScoreWriter,
    on_item: Any = None,
    judge: Judge | None = None,
) -> SetScores:
    """Score every question of a set, in the order of its file, at the memory of its sums."""
    forms = AnswerForms(answered.vocabulary, answered.box.form)
    tasks = answered.vocabulary.tasks
    found = AnswersByQuestion(iter_answers(answered.answers), answered.answers)
    tally = AnswerTally(rules=rules)
    unanswered, differing = 0, dict.fromkeys(rules, 0)
    for question in answered.iter_questions():
        record = found.take(question.question_id)
        unanswered += record is None
        task = tasks.get(question.task)
        scored = score_answer(
            question,
            None if record is None else record["answer"],
            forms(question),
            finish_reason=None if record is None else record["finish_reason"],
            failed=record is None or record["status"] == "failed",
            metric=task.scored_by if task else "accuracy",
            rules=rules,
            official=task.official if task else None,
            judge_of_rules=judge,
        )
        tally.add(scored)
        writer.write(answered.title, answered.perturbation, scored)
        for rule, value in zip(rules, scored.others, strict=True):
            differing[rule] += value is not None and (value >= 0.5) != scored.right
        if on_item is not None:
            on_item()
    return SetScores(tally, unanswered, len(found.rest()), differing)


def read_item_scores(path: Path) -> dict[tuple[str, str], dict[str, ItemScore]]:
    """(model, perturbation) -> question -> score, from scores.csv. Raises DataFault for scores of another
    definition."""
    models: dict[tuple[str, str], dict[str, ItemScore]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        if rows.fieldnames is None or "question_id" not in rows.fieldnames or "definition" not in rows.fieldnames:
            raise DataFault(path, "not a file of scored answers (no columns question_id, definition)")
        for row in rows:
            if row["definition"] != DEFINITION:
                raise DataFault(
                    path, f"scored by the definition {row['definition']!r}, expected {DEFINITION!r}; score again"
                )
            item = ItemScore(row["task"], row["cluster"], row["right"] == "1", float(row["score"]))
            models.setdefault((row["model"], row["perturbation"]), {})[row["question_id"]] = item
    return models


def plain_number(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return None if math.isnan(value) else value
