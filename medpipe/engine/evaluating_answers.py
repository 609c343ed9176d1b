"""`medpipe evaluate` on answers to questions: a file of answers, or a stage's folder, against the set's questions."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medpipe.config.errors import ConfigError, Problem
from medpipe.engine.evaluation import REPORT_FILE, SCORES_FILE, SUMMARY_FILE, EvaluateOptions
from medpipe.geometry.faults import DataFault

if TYPE_CHECKING:
    from rich.console import Console

    from medpipe.datasets.questions import Question
    from medpipe.stages.answer_tables import AnsweredSet

ANSWER_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv")
ANSWERS_FILE, QUESTIONS_FILE = "answers.jsonl", "questions.jsonl"


def holds_answers(predictions: Path) -> bool:
    """Whether `predictions` are answers to questions: a file of text, or the folder of a stage that asked."""
    if predictions.is_dir():
        return (predictions / ANSWERS_FILE).is_file()
    return predictions.suffix.lower() in ANSWER_SUFFIXES


def evaluate_answers(
    answers: Path,
    references: Path | None,
    options: EvaluateOptions,
    *,
    output: Path,
    as_json: bool,
    command: Sequence[str],
) -> int:
    """Score, write scores.csv, summary.json and report.html, print; the exit code."""
    from rich.console import Console

    from medpipe.metrics.answer_rules import rule_of

    for rule in options.rules:
        try:
            rule_of(rule)
        except ValueError as error:
            raise ConfigError([Problem(f"command line: --rule {rule}", None, None, str(error))]) from None
    answered = the_set(answers, references, options)
    console = Console(stderr=as_json, soft_wrap=not sys.stdout.isatty())
    document = score_and_write(answered, options, output, console, command)
    if as_json:
        print(json.dumps(document, indent=2))
        return 0
    for note in document["sets"][0]["notes"]:
        console.print(f"note: {note}", style="yellow", highlight=False, markup=False)
    print(f"written: {output / SCORES_FILE}, {output / SUMMARY_FILE}, {output / REPORT_FILE}")
    return 0


def the_set(answers: Path, references: Path | None, options: EvaluateOptions) -> "AnsweredSet":
    """The answers with their questions and vocabulary, from whichever of the forms they are in."""
    from medpipe.stages.answer_tables import AnsweredSet, answered_set

    if answers.is_dir() and references is None and options.manifest is None:
        return answered_set(answers)
    if references is None and options.manifest is None:
        raise ConfigError(
            [Problem("command line", None, None, "answers need their questions: a second argument, or --manifest SET")]
        )
    path = answers / ANSWERS_FILE if answers.is_dir() else answers
    if not path.is_file():
        raise DataFault(path, "no such file of answers")
    title = answers.name if answers.is_dir() else answers.stem
    if references is not None and references.name == QUESTIONS_FILE and options.manifest is None:
        beside = answered_set(references.parent)
        return AnsweredSet(title, path, references, beside.vocabulary, beside.box, facts=beside.facts)
    questions, vocabulary, question_set, folder = _read(references, options)
    facts = {"question_set": question_set.question_set, "image_folder": str(folder), "questions": len(questions)}
    return AnsweredSet(title, path, questions, vocabulary, question_set.box, facts=facts)


def _read(references: Path | None, options: EvaluateOptions) -> "tuple[list[Question], Any, Any, Path]":
    """Questions of a file in the form of the set that --manifest names, or of that whole set."""
    from medpipe.datasets.cases import DataConfig
    from medpipe.datasets.question_reading import read_question_set
    from medpipe.datasets.question_sets import QuestionFile, load_question_set
    from medpipe.datasets.questions import question_folder
    from medpipe.datasets.vocabularies import load_vocabulary

    if options.manifest is None:
        raise ConfigError(
            [
                Problem(
                    "command line", None, None, f"{references}: name the question set that it is of, by --manifest SET"
                )
            ]
        )
    question_set = load_question_set(options.manifest)
    vocabulary = load_vocabulary(question_set.vocabulary)
    if references is None:
        folder = question_folder(question_set, DataConfig(root=options.data_root))
    elif references.is_dir():
        folder = references
    else:
        folder = references.parent
        question_set = question_set.model_copy(update={"files": (QuestionFile(path=references.name),)})
    questions, _ = read_question_set(question_set, vocabulary, folder)
    if references is not None and options.data_root is not None:  # the images lie where the set has them
        folder = options.data_root / question_set.folder
    return questions, vocabulary, question_set, folder / question_set.images


def score_and_write(
    answered: "AnsweredSet", options: EvaluateOptions, output: Path, console: "Console", command: Sequence[str]
) -> dict[str, Any]:
    """The three files, each whole or not at all; returns the summary."""
    from medpipe.engine.output import RunOutput
    from medpipe.engine.record import host, now, versions
    from medpipe.geometry.atomic import written_beside
    from medpipe.metrics.answers import DEFINITION
    from medpipe.reporting.answer_report import AnswerReport, write_answer_report
    from medpipe.reporting.answer_tables import print_answer_table
    from medpipe.stages.answer_examples import list_differences, pick_examples
    from medpipe.stages.answer_summary import set_summary
    from medpipe.stages.answer_tables import ScoreWriter, score_set
    from medpipe.stages.stage import write_json

    output.mkdir(parents=True, exist_ok=True)
    total = answered.facts.get("questions", 0)
    with (
        written_beside(output / SCORES_FILE) as partial,
        partial.open("w", encoding="utf-8", newline="") as file,
        RunOutput(console).progress("scoring", total) as progress,
    ):
        scores = score_set(answered, options.rules, ScoreWriter(file, options.rules), progress.advance)
        if options.missing_cases == "refuse" and scores.unanswered:
            raise DataFault(
                answered.answers,
                f"{scores.unanswered} questions have no answer; answer them, or count them: --missing-cases count",
            )
    rows = scores.tally.table(groups=list(answered.vocabulary.groups))
    machine = host()
    document = {
        "definition": DEFINITION,
        "sets": [set_summary(answered, scores, rows)],
        "rules": list(options.rules),
        "reliability": [],
        "record": {
            "command": "medpipe " + " ".join(command),
            "answers": str(answered.answers),
            "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
            "host": f"{machine['system']}, {machine['cores']} cores, {machine['memory_gib']} GiB",
        },
    }
    write_json(output / SUMMARY_FILE, document)
    report = AnswerReport(
        title=f"Answers of {answered.title}", date=now(), notes=document["sets"][0]["notes"], summary=document,
        examples=pick_examples(answered, output / SCORES_FILE, options.rules, 3),
        differences=list_differences(answered, output / SCORES_FILE, options.rules), record=document["record"],
    )  # fmt: skip
    write_answer_report(output / REPORT_FILE, report)
    print_answer_table({answered.title: rows}, console)
    return document
