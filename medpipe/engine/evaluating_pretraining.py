"""`medpipe evaluate` of a masked pretraining: how well it reconstructs hidden blocks of a manifest's volumes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medpipe.datasets.cases import CasesConfig, list_cases
from medpipe.engine.evaluation import SCORES_FILE, SUMMARY_FILE
from medpipe.stages.stage import StageRun, write_json
from medpipe.tasks.model_record import ModelRecord

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

NUMBERS = ("reconstruction_loss", "block_mean_loss", "explained_share", "error_hu", "block_mean_error_hu")
PLACES = {"error_hu": 1, "block_mean_error_hu": 1}


def score_reconstructions(
    folder: Path, record: ModelRecord, chosen: CasesConfig, run: StageRun, jobs: int | None
) -> "pd.DataFrame":
    """One row a case. StopRequested between two cases: what was scored is not kept, since a case takes seconds."""
    import pandas as pd

    from medpipe.datasets.preprocessing import Preprocessing
    from medpipe.stages.training import prepare
    from medpipe.tasks.reconstruction_scores import DEFINITION, load_pretraining, score_volume

    task = load_pretraining(folder, record)
    preprocessing = Preprocessing.model_validate(record.preprocessing, strict=False)
    cases = prepare(run, list_cases(chosen, run.data, run.base), preprocessing, jobs)
    rows: list[dict[str, Any]] = []
    with run.output.progress("reconstructing", len(cases)) as progress:
        for case in cases:
            run.stop_if_asked()
            score = score_volume(task, case.image(), preprocessing, record.patch_size)
            values = {**asdict(score), "explained_share": score.explained_share}
            rows.append(
                {"model": folder.resolve().name, "case_id": case.case_id, "patient_id": case.patient_id, **values,
                 "definition": DEFINITION}
            )  # fmt: skip
            progress.advance()
    return pd.DataFrame(rows)


def write_reconstructions(
    output: Path, scores: "pd.DataFrame", notes: Sequence[str], facts: dict[str, str]
) -> dict[str, Any]:
    """scores.csv, summary.json and report.html; returns the summary. `facts`: the record, `checkpoint` in it."""
    from medpipe.engine.record import now
    from medpipe.geometry.atomic import written_beside
    from medpipe.reporting.comparison import portable
    from medpipe.reporting.content import ReportContent
    from medpipe.reporting.report import write_report
    from medpipe.stages.report import REPORT_FILE, curves_of, reconstruction_of
    from medpipe.tasks.reconstruction_scores import DEFINITION, DEFINITIONS

    with written_beside(output / SCORES_FILE) as partial:
        scores.to_csv(partial, index=False)
    folder = Path(facts["checkpoint"])
    numbers = summary_of(scores)
    document = portable({"definition": DEFINITION, "scores": numbers, "notes": list(notes), "record": facts})
    write_json(output / SUMMARY_FILE, document)
    share, loss = numbers["explained_share"], numbers["reconstruction_loss"]
    sentence = (
        f"The network explains {share['mean']:.3f} ± {share['sd']:.3f} of the variance inside hidden blocks (loss "
        f"{loss['mean']:.3f}, block mean {numbers['block_mean_loss']['mean']:.3f}), mean ± SD over {share['n']} "
        f"patients. Error in hidden blocks: {numbers['error_hu']['mean']:.1f} HU, block mean "
        f"{numbers['block_mean_error_hu']['mean']:.1f} HU."
    )
    content = ReportContent(
        title=f"Evaluation of {folder.resolve().name}",
        date=now(),
        summary=sentence,
        notes=notes,
        curves=dict(curves_of("training", folder)),
        reconstruction=reconstruction_of(folder),
        record=facts | {f"case {row['case_id']}": line_of(row) for row in scores.to_dict("records")},
        definitions=DEFINITIONS,
    )
    write_report(output / REPORT_FILE, content)
    return document


def summary_of(scores: "pd.DataFrame") -> dict[str, dict[str, Any]]:
    """Each number over patients, whose examinations are averaged first: n, mean, sd, median, q1, q3."""
    import numpy as np

    from medpipe.metrics.aggregation import describe

    patients = scores.groupby("patient_id", sort=False)
    return {name: describe(np.asarray(patients[name].mean(), dtype=np.float64)) for name in NUMBERS}


def line_of(row: Mapping[Any, Any]) -> str:
    """A case's numbers in words."""
    parts = [f"{name.replace('_', ' ')} {row[name]:.{PLACES.get(name, 3)}f}" for name in NUMBERS]
    return f"{row['num_blocks']} hidden blocks, {', '.join(parts)}"


def print_reconstructions(scores: "pd.DataFrame", console: "Console") -> None:
    """A line a case, then the means over patients."""
    from medpipe.reporting.tables import aligned

    lines = [["case", "blocks", *(name.replace("_", " ") for name in NUMBERS)]]
    for row in scores.to_dict("records"):
        values = [f"{row[name]:.{PLACES.get(str(name), 3)}f}" for name in NUMBERS]
        lines.append([str(row["case_id"]), str(row["num_blocks"]), *values])
    numbers = summary_of(scores)
    means = [
        f"{numbers[name]['mean']:.{PLACES.get(name, 3)}f} +- {numbers[name]['sd']:.{PLACES.get(name, 3)}f}"
        for name in NUMBERS
    ]
    lines.append(["mean of patients", "", *means])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    console.print("\n".join(aligned(line, widths) for line in lines), markup=False, highlight=False, soft_wrap=True)
