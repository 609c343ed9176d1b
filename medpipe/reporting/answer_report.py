"""The report of answered questions: one HTML file with tables, intervals, confusion, examples and perturbations."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, final

from medpipe.geometry.atomic import written_beside
from medpipe.geometry.faults import DataFault
from medpipe.metrics.answer_extraction import STATUSES
from medpipe.metrics.answer_rules import RULE_SENTENCES
from medpipe.reporting.answer_figures import accuracy_figure, perturbation_figure
from medpipe.reporting.answer_tables import interval_text, percent
from medpipe.reporting.formatting import in_words
from medpipe.reporting.pictures import Picture

MOST_LABELS = 24  # of a confusion matrix that is drawn whole
THUMBNAIL = 220  # CSS pixels, the longer side

DEFINITIONS = {
    "accuracy": "Share of all questions whose answer is right; refused, ambiguous, unreadable, truncated and "
    "failed answers "
    "are wrong. Free text is right where its words equal the reference's; boxes where their overlap (IoU) is at "
    "least 0.5, "
    "and their score is the mean IoU.",
    "interval": "95 %. By cluster: percentile bootstrap that draws whole images (patients, videos) with all "
    "their questions. "
    "Wilson: as if every question were independent.",
    "micro and macro": "Micro: every question counts the same. Macro: the mean over tasks.",
    "balanced": "Mean recall over the answers that occur as references.",
    "majority, chance": "What always giving the most frequent reference of the task would score on these "
    "questions, and what "
    "guessing among the possible answers would.",
    "blind": "The same model, or one fitted to the wording alone, without any image.",
    "answered": "One answer could be read by a rule; the rule's name stands with every example and in scores.csv.",
    "refused": "The text declines to answer.",
    "ambiguous": "Several answers are named, or letter and text disagree, and no conclusion settles it.",
    "unreadable": "Empty, no text, or nothing that the question could be answered with.",
    "truncated": "Cut by the token limit before an answer was complete; thoughts are never scored.",
    "failed": "The model never answered, after all attempts.",
    "McNemar": "Exact two-sided test on the questions that one of two models alone has right.",
}


@final
@dataclass(frozen=True, kw_only=True)
class AnswerReport:
    """What the page shows; everything but the scores may be missing."""

    title: str
    run: str = ""
    date: str = ""
    notes: Sequence[str] = ()
    summary: Mapping[str, Any]  # summary.json of a scoring
    examples: Sequence[Mapping[str, Any]] = ()
    differences: Sequence[Mapping[str, Any]] = ()  # items that another rule judges otherwise, some of them
    comparison: Mapping[str, Any] | None = None
    curves: Sequence[Picture] = ()
    record: Mapping[str, Any] = field(default_factory=dict)
    workflow: str = ""


def write_answer_report(path: Path, report: AnswerReport) -> Path:
    """Write the page, whole or not at all."""
    with written_beside(path) as partial:
        partial.write_text(render(report), encoding="utf-8")
    return path


def render(report: AnswerReport) -> str:
    """The page as HTML text; all text of questions and answers is escaped."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    from medpipe.reporting.report import RESEARCH_USE

    package = files("medpipe.reporting")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["words"] = in_words
    template = environment.from_string(package.joinpath("answers.html.j2").read_text(encoding="utf-8"))
    originals = [found for found in report.summary["sets"] if not found["perturbation"]]
    reliability = report.summary["reliability"]
    return template.render(
        css=Markup(package.joinpath("report.css").read_text(encoding="utf-8")),
        research_use=RESEARCH_USE,
        report=report,
        models=[found["model"] for found in originals],
        table=score_lines(originals),
        readings=reading_lines(originals, report.summary["rules"]),
        figure=accuracy_figure(originals),
        confusions=confusions(originals[0]),
        examples=example_groups(report.examples, originals[0]),
        rules={rule: RULE_SENTENCES[rule] for rule in report.summary["rules"]},
        differences=[difference_cells(item, report.summary["rules"]) for item in report.differences],
        reliability=[reliability_cells(entry) for entry in reliability],
        perturbation_figure=perturbation_figure(reliability) if reliability else None,
        tests=comparison_lines(report.comparison) if report.comparison else [],
        definitions=DEFINITIONS,
    )


def score_lines(sets: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A line a task, group and over all, with a cell a model."""
    lines = []
    for row in sets[0]["table"]:
        cells = []
        for found in sets:
            same = next((r for r in found["table"] if (r["scope"], r["name"]) == (row["scope"], row["name"])), None)
            cells.append(None if same is None else score_cell(same))
        known = [cell["value"] for cell in cells if cell is not None and cell["value"] is not None]
        for cell in cells:
            if cell is not None:
                cell["best"] = len(known) > 1 and min(known) < max(known) == cell["value"]
        titles = sets[0]["group_titles"] if row["scope"] == "group" else sets[0]["task_titles"]
        name = titles.get(row["name"], row["name"]) if row["scope"] != "overall" else f"all questions, {row['name']}"
        answer = f" ({row['majority_answer']})" if row["majority_answer"] else ""
        lines.append(
            {
                "scope": row["scope"], "name": name, "kind": in_words(row["kind"]), "n": row["n"],
                "clusters": row["clusters"], "cells": cells, "majority": percent(row["majority"]),
                "majority_answer": answer, "chance": percent(row["chance"]),
            }
        )  # fmt: skip
    return lines


def score_cell(row: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in a cell: score, interval over clusters, Wilson's, balanced accuracy."""
    return {
        "value": None if row["score"] is None else round(100 * row["score"], 1),
        "score": percent(row["score"]),
        "bootstrap": interval_text(row["bootstrap"]),
        "wilson": interval_text(row["wilson"]),
        "balanced": percent(row["balanced"]) if row["balanced"] is not None else "",
        "f1": percent(row["token_f1"]) if row["token_f1"] is not None else "",
    }


def reading_lines(sets: Sequence[Mapping[str, Any]], rules: Sequence[str]) -> list[dict[str, Any]]:
    """Of each model: how many answers could be read, and what other rules make of them."""
    lines = []
    for found in sets:
        micro = next(row for row in found["table"] if row["name"] == "micro")
        lines.append(
            {
                "model": found["model"],
                "n": micro["n"],
                "statuses": [
                    (micro["statuses"][status], f"{100 * micro['statuses'][status] / micro['n']:.1f} %")
                    for status in STATUSES
                ],
                "score": percent(micro["score"]),
                "rules": [
                    (
                        percent(micro["others"][rule]),
                        micro["other_n"][rule],
                        micro["judged"][rule],
                        found["differing"][rule],
                    )
                    for rule in rules
                ],
            }
        )
    return lines


def confusions(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A matrix a closed task: references down, answers across, what could not be read at the end."""
    matrices = []
    for task, counts in found["confusion"].items():
        references = list(dict.fromkeys(reference for reference, _, _ in counts))
        given = list(dict.fromkeys(answer for _, answer, _ in counts))
        answers = [*[name for name in references if name in given],
                   *sorted((name for name in given if name not in references),
                       key=lambda name: name.startswith("("))]  # fmt: skip
        if len(references) > MOST_LABELS or len(answers) > MOST_LABELS:
            continue
        table = {(reference, answer): count for reference, answer, count in counts}
        largest = max(table.values())
        lines = [
            (reference, [(table.get((reference, answer), 0), _shade(table.get((reference, answer), 0), largest),
                          reference == answer) for answer in answers])
            for reference in references
        ]  # fmt: skip
        matrices.append({"task": found["task_titles"].get(task, task), "answers": answers, "lines": lines})
    return matrices


def _shade(count: int, largest: int) -> str:
    return f"{0.55 * math.sqrt(count / largest):.2f}" if count else "0"


def example_groups(
    examples: Sequence[Mapping[str, Any]], found: Mapping[str, Any]
) -> list[tuple[str, list[dict[str, Any]]]]:
    """Examples by task, each with its picture where that can be read."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for example in examples:
        if example["model"] == found["model"]:
            shown = dict(example) | {"picture": thumbnail(example.get("image_folder", ""), example.get("image", ""))}
            shown["others"] = [
                (name.removeprefix("rule_"), value)
                for name, value in example.items()
                if name.startswith("rule_") and value
            ]
            groups.setdefault(found["task_titles"].get(example["task"], example["task"]), []).append(shown)
    return list(groups.items())


def thumbnail(folder: str, image: str) -> Picture | None:
    """The image made small for the page; None where there is none to read."""
    from medpipe.datasets.question_images import read_image

    if not image:
        return None
    try:
        picture = read_image(Path(folder) / image, most_pixels=2_000_000)
    except DataFault:
        return None
    scale = min(1.0, 2 * THUMBNAIL / max(picture.size))
    small = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    shown = THUMBNAIL / max(small.size)
    uri = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
    return Picture(uri, f"Image {image}.", max(1, round(small.width * shown)), max(1, round(small.height * shown)))


def difference_cells(item: Mapping[str, Any], rules: Sequence[str]) -> dict[str, Any]:
    """A line of the list of differences."""
    return {
        "question_id": item["question_id"],
        "question": item["question"],
        "reference": item["full_reference"],
        "answer": item["answer"],
        "read": item["extracted"] if item["status"] == "answered" else item["status"],
        "verdict": "right" if item["right"] == "1" else "wrong",
        "rule": in_words(item["rule"]),
        "others": [item[f"rule_{rule}"] or "–" for rule in rules],
    }


def reliability_cells(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the table of perturbations."""
    from medpipe.datasets.perturbations import PERTURBATIONS

    change = 100 * (entry["after"] - entry["before"])
    return {
        "name": PERTURBATIONS.get(entry["perturbation"], in_words(entry["perturbation"])),
        "n": entry["n"],
        "before": percent(entry["before"]),
        "after": percent(entry["after"]),
        "change": f"{change:+.1f}",
        "interval": interval_text(entry["interval"]),
        "right_to_wrong": entry["right_to_wrong"],
        "wrong_to_right": entry["wrong_to_right"],
        "p": "< 0.001" if entry["p"] < 0.001 else f"{entry['p']:.3f}",
    }


def comparison_lines(comparison: Mapping[str, Any]) -> list[list[str]]:
    """The tests as cells, over all first."""
    lines = []
    for test in comparison["tests"]:
        p = test["p_adjusted"]
        lines.append(
            [
                in_words(test["scope"]), f"{test['second']} − {test['first']}", str(test["n"]),
                f"{100 * test['difference']:+.1f}", interval_text(test["interval"]), str(test["only_first"]),
                str(test["only_second"]), "< 0.001" if p < 0.001 else f"{p:.3f}",
                "different" if p <= comparison["alpha"] else "no difference shown",
            ]
        )  # fmt: skip
    return lines
