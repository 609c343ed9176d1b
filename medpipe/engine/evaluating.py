"""`medpipe evaluate`: which of its forms is asked for, and how it ends."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medpipe.config.errors import ConfigError, Problem
from medpipe.engine.evaluating_answers import evaluate_answers, holds_answers
from medpipe.engine.evaluating_checkpoint import Checkpoint, evaluate_checkpoint, find_checkpoint
from medpipe.engine.evaluation import (
    REPORT_FILE,
    SCORES_FILE,
    SUMMARY_FILE,
    EvaluateOptions,
    Evaluation,
    write_evaluation,
)
from medpipe.geometry.faults import DataFault, DataFaults

if TYPE_CHECKING:
    from rich.console import Console


def evaluate_command(
    predictions: Path,
    references: Path | None,
    options: EvaluateOptions,
    *,
    output: Path,
    as_json: bool,
    command: Sequence[str],
) -> int:
    """Score, write and print; the exit code. Faults of the data are raised together as DataFaults."""
    from rich.console import Console

    from medpipe.stages.stage import StopRequested

    if not options.force and (output / SCORES_FILE).exists():
        raise wrong(f"{output} holds results already; give another --output, or --force")
    if holds_answers(predictions):
        return evaluate_answers(predictions, references, options, output=output, as_json=as_json, command=command)
    if min(options.tolerances_mm) < 0 or len(set(options.tolerances_mm)) < len(options.tolerances_mm):
        raise wrong(f"tolerances are different mm, 0 or more, got {list(options.tolerances_mm)}")
    console = Console(stderr=as_json, soft_wrap=not sys.stdout.isatty())
    checkpoint = find_checkpoint(predictions)
    check_form(predictions, references, checkpoint, options)
    if checkpoint is not None:
        try:
            evaluation = evaluate_checkpoint(checkpoint, options, output, console)
        except StopRequested:
            print("stopped on request; the same command goes on from there", file=sys.stderr)
            return 75
        except (ConfigError, DataFault, DataFaults):
            raise
        except ValueError as error:  # weights that do not fit, a checkpoint without its decoder
            print(f"medpipe evaluate: {error}", file=sys.stderr)
            return 3
    else:
        from medpipe.engine.evaluating_folder import evaluate_folder

        assert references is not None, "check_form"
        evaluation = evaluate_folder(predictions, references, options, console)
    document = write_evaluation(output, evaluation, command)
    if as_json:
        print(json.dumps(document, indent=2))
        return 0
    tell(evaluation, output, console)
    return 0


def tell(evaluation: Evaluation, output: Path, console: "Console") -> None:
    """The table, the notes, and where the files are."""
    from medpipe.reporting.tables import print_score_table

    if evaluation.kind == "reconstruction":
        from medpipe.engine.evaluating_pretraining import print_reconstructions

        print_reconstructions(evaluation.scores, console)
    else:
        print_score_table(evaluation.scores, console)
    for note in evaluation.notes:
        console.print(f"note: {note}", style="yellow", highlight=False, markup=False)
    print(f"written: {output / SCORES_FILE}, {output / SUMMARY_FILE}, {output / REPORT_FILE}")


def check_form(
    predictions: Path, references: Path | None, checkpoint: Checkpoint | None, options: EvaluateOptions
) -> None:
    """Refuse options that the form asked for does not have: an option that is silently unused misleads."""
    of_folders = [
        name
        for name, given in (
            ("REFERENCES", references is not None),
            ("--patients", options.patients is not None),
            ("--no-resample", not options.resample),
            ("--missing-cases refuse", options.missing_cases != "count"),
        )
        if given
    ]
    if checkpoint is None:
        if references is None:
            raise wrong(
                f"{predictions} is no checkpoint (no model.json or members.json in it), so a folder of REFERENCES is "
                "needed"
            )
        of_checkpoints = [
            name for name, given in (("--data-root", options.data_root), ("--part", options.part)) if given is not None
        ]
        if of_checkpoints:
            raise wrong(f"{', '.join(of_checkpoints)}: for checkpoints; {predictions} is none")
        return
    if of_folders:
        raise wrong(
            f"{', '.join(of_folders)}: for folders of predictions; {checkpoint.folder} is a checkpoint, which is "
            "evaluated on the cases of --manifest"
        )
    if options.manifest is None:
        raise wrong(f"{checkpoint.folder} is a checkpoint: give --manifest, whose cases it shall predict")


def wrong(message: str) -> ConfigError:
    return ConfigError([Problem("medpipe evaluate", None, None, message)])
