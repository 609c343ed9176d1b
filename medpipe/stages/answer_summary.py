"""What a file of scored answers comes to, as plain data: tables, counts, notes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from medpipe.metrics.answer_comparison import ItemScore, Reliability, reliability
from medpipe.metrics.answer_rules import RULE_SENTENCES
from medpipe.metrics.answer_tally import ScopeScores
from medpipe.reporting.comparison import portable
from medpipe.stages.answer_tables import AnsweredSet, SetScores


def distinct_titles(sets: Sequence[AnsweredSet]) -> list[AnsweredSet]:
    """Models with names of their own: equal ones are numbered; a perturbed set bears the name of the first."""
    seen: Counter[str] = Counter()
    named = []
    for answered in sets:
        if answered.perturbation:
            named.append(replace(answered, title=named[0].title) if named else answered)
            continue
        seen[answered.title] += 1
        count = seen[answered.title]
        named.append(answered if count == 1 else replace(answered, title=f"{answered.title} ({count})"))
    return named


def set_summary(answered: AnsweredSet, scores: SetScores, rows: Sequence[ScopeScores]) -> dict[str, Any]:
    """The table of one model with all that is printed of it."""
    return {
        "model": answered.title,
        "perturbation": answered.perturbation,
        "question_set": answered.facts.get("question_set", ""),
        "blind": answered.facts.get("blind", False),
        "image_folder": answered.facts.get("image_folder", ""),
        "table": [portable(asdict(row)) for row in rows],
        "task_titles": {name: task.title or name.replace("_", " ") for name, task in answered.vocabulary.tasks.items()},
        "group_titles": answered.vocabulary.groups,
        "confusion": {
            task: [[reference, given, count] for (reference, given), count in counts.most_common()]
            for task, counts in scores.tally.confusion.items()
        },
        "differing": scores.differing,
        "notes": notes_of(scores, rows),
    }


def notes_of(scores: SetScores, rows: Sequence[ScopeScores]) -> list[str]:
    """What has to be known beside the numbers."""
    notes = []
    if scores.unanswered:
        notes.append(f"{scores.unanswered} questions have no answer; they count as failed")
    if scores.unasked:
        notes.append(f"{scores.unasked} answers belong to no question and are not scored")
    overall = next((row for row in rows if row.name == "micro"), None)
    if overall is not None and overall.clusters < 2:
        notes.append("all questions are of one cluster: there is no interval over clusters")
    for rule, count in scores.differing.items():
        judged = overall.judged[rule] if overall else 0
        asked = f"; its judge would have been asked about {judged}" if judged else ""
        notes.append(f"the rule {rule} differs on {count} items{asked}")
    return notes


def reliabilities(
    items: Mapping[tuple[str, str], Mapping[str, ItemScore]], model: str, *, seed: int
) -> list[Reliability]:
    """What each perturbation changes for the model."""
    return [
        reliability(model, perturbation, items[model, ""], perturbed, seed=seed)
        for (name, perturbation), perturbed in items.items()
        if perturbation and name == model and (model, "") in items
    ]


def rule_sentences(rules: Sequence[str]) -> dict[str, str]:
    """What each rule beside medpipe's is."""
    return {rule: RULE_SENTENCES[rule] for rule in rules}
