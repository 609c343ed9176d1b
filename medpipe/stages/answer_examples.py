"""Examples for the report: of each task some answers with image, question, verdict and rule, the troubling ones
first."""

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medpipe.language.foreign_answers import iter_answers
from medpipe.stages.answer_tables import AnsweredSet

# What a reader should see first: answers that a rule judges otherwise, those that could not be read, then wrong ones.
LONGEST_SHOWN = 600


def pick_examples(answered: AnsweredSet, scores: Path, rules: Sequence[str], per_task: int) -> list[dict[str, Any]]:
    """The chosen items of one model, with the raw answer; of each kind of trouble one, before a second of any."""
    chosen: dict[str, dict[str, Any]] = {}
    by_task: dict[str, dict[str, list[dict[str, str]]]] = defaultdict(lambda: defaultdict(list))
    with scores.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["model"] == answered.title and row["perturbation"] == answered.perturbation:
                kept = by_task[row["task"]][trouble(row, rules)]
                if len(kept) < per_task:
                    kept.append(row)
    for troubles in by_task.values():
        ordered = [row for rank in range(per_task) for name in ORDER if len(rows := troubles[name]) > rank
                   for row in [rows[rank]]]  # fmt: skip
        for row in ordered[:per_task]:
            chosen[row["question_id"]] = {**row, "trouble": trouble(row, rules)}
    _add_texts(chosen, answered)
    return list(chosen.values())


MOST_DIFFERENCES = 100


def list_differences(
    answered: AnsweredSet, scores: Path, rules: Sequence[str], limit: int = MOST_DIFFERENCES
) -> list[dict[str, Any]]:
    """Items on which a rule of others and medpipe's differ, in the order of the file; all of them stand in
    scores.csv."""
    if not rules:
        return []
    found: dict[str, dict[str, Any]] = {}
    with scores.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            mine = row["model"] == answered.title and row["perturbation"] == answered.perturbation
            if mine and len(found) < limit and trouble(row, rules) == "rules_differ":
                found[row["question_id"]] = dict(row)
    if found:
        _add_texts(found, answered)
    return list(found.values())


def _add_texts(chosen: dict[str, dict[str, Any]], answered: AnsweredSet) -> None:
    """Question and raw answer of the chosen items."""
    for question in answered.iter_questions():
        if question.question_id in chosen:
            chosen[question.question_id] |= {
                "question": question.text,
                "image": question.images[0] if question.images else "",
                "options": [str(option) for option in question.options],
                "full_reference": question.reference,
                "image_folder": answered.facts.get("image_folder", ""),
                "answer": "(no answer)",
            }
    for record in iter_answers(answered.answers):
        if record["question_id"] in chosen:
            text = record["answer"]
            shown = "(no answer)" if text is None else str(text)
            cut = shown if len(shown) <= LONGEST_SHOWN else shown[:LONGEST_SHOWN] + " ..."
            chosen[record["question_id"]]["answer"] = cut


ORDER = ("rules_differ", "failed", "unreadable", "ambiguous", "truncated", "refused", "wrong", "right")


def trouble(row: dict[str, str], rules: Sequence[str]) -> str:
    """Why an item is worth a look."""
    for rule in rules:
        value = row[f"rule_{rule}"]
        if value and (float(value) >= 0.5) != (row["right"] == "1"):
            return "rules_differ"
    if row["status"] != "answered":
        return row["status"]
    return "right" if row["right"] == "1" else "wrong"
