"""`medpipe evaluate`: which of its forms is asked for, and how it ends."""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medpipe.config.errors import ConfigError
from medpipe.engine.evaluating_answers import evaluate_answers, holds_answers
from medpipe.engine.evaluating_checkpoint import Checkpoint, evaluate_checkpoint, find_checkpoint
from medpipe.engine.evaluating_phases import evaluate_phases, find_phases
from medpipe.engine.evaluation import (
    REPORT_FILE,
    SCORES_FILE,
    SUMMARY_FILE,
    EvaluateOptions,
    Evaluation,
    write_evaluation,
    wrong,
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
    phases = find_phases(predictions)
    if phases is not None:
        form = "a phase checkpoint" if phases.checkpoint is not None else "predicted phases"
        refuse_foreign(form, predictions, options)
        return evaluate_phases(phases, references, options, output=output, as_json=as_json, command=command)
    if holds_answers(predictions):
        refuse_foreign("answers to questions", predictions, options)
        return evaluate_answers(predictions, references, options, output=output, as_json=as_json, command=command)
    tolerances_mm = options.tolerances_mm
    if not all(math.isfinite(mm) and mm >= 0 for mm in tolerances_mm) or len(set(tolerances_mm)) < len(tolerances_mm):
        raise wrong(f"tolerances are different finite mm, 0 or more, got {list(tolerances_mm)}")
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


OF_VOLUMES = ("structures", "tolerances_mm", "resample", "missing_cases", "rules", "manifest", "data_root")
# Options that a form does not have, by the field of EvaluateOptions.
FOREIGN = {
    "answers to questions": ("structures", "tolerances_mm", "patients", "resample", "part", "fps", "encoder_weights"),
    "a checkpoint": ("patients", "resample", "missing_cases", "rules", "fps", "encoder_weights"),
    "a folder of predictions": ("data_root", "part", "rules", "fps", "encoder_weights"),
    "a phase checkpoint": OF_VOLUMES,
    "predicted phases": (*OF_VOLUMES, "part", "encoder_weights"),
}
FLAGS = {"structures": "--structures", "tolerances_mm": "--tolerance-mm", "patients": "--patients", "part": "--part",
         "resample": "--no-resample", "missing_cases": "--missing-cases", "rules": "--rule",
         "data_root": "--data-root", "fps": "--fps", "encoder_weights": "--encoder-weights",
         "manifest": "--manifest"}  # fmt: skip


def refuse_foreign(form: str, predictions: Path, options: EvaluateOptions) -> None:
    """Refuse options that the form asked for does not have: an option that is silently unused misleads."""
    defaults = EvaluateOptions()
    given = [FLAGS[name] for name in FOREIGN[form] if getattr(options, name) != getattr(defaults, name)]
    if given:
        raise wrong(f"{', '.join(given)}: means nothing for {form}, which {predictions} is")


def check_form(
    predictions: Path, references: Path | None, checkpoint: Checkpoint | None, options: EvaluateOptions
) -> None:
    """Refuse a folder without references, a checkpoint with them or without cases, and what else does not fit."""
    if checkpoint is None:
        if references is None:
            raise wrong(
                f"{predictions} is no checkpoint (no model.json or members.json in it), so a folder of REFERENCES is "
                "needed"
            )
        refuse_foreign("a folder of predictions", predictions, options)
        return
    if references is not None:
        raise wrong(
            f"REFERENCES: for folders of predictions; {checkpoint.folder} is a checkpoint, which is evaluated on the "
            "cases of --manifest"
        )
    refuse_foreign("a checkpoint", checkpoint.folder, options)
    if options.manifest is None:
        raise wrong(f"{checkpoint.folder} is a checkpoint: give --manifest, whose cases it shall predict")
