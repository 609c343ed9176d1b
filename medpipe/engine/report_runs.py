"""`medpipe report`: several runs, evaluations or files of scores side by side in one page."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medpipe.engine.run_directory import RunDirectory
from medpipe.geometry.faults import DataFault
from medpipe.stages.report import curves_of, flat_record, transfers_of
from medpipe.stages.score_files import read_scores, scores_file

if TYPE_CHECKING:
    import pandas as pd

    from medpipe.metrics.comparison import Comparison


@dataclass
class Shown:
    """One of the runs: what the page takes from it, under a name that no other has."""

    name: str
    path: Path
    scores: "pd.DataFrame | None" = None
    curves: dict[str, "pd.DataFrame"] = field(default_factory=dict)
    transfers: dict[str, dict[str, Any]] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    workflow: str = ""


def report_command(paths: Sequence[Path], *, names: Sequence[str], output: Path, force: bool, title: str) -> int:
    """Write one page for all `paths`; the exit code. DataFault names the path that holds nothing to show."""
    from medpipe.engine.record import now
    from medpipe.reporting.content import ReportContent
    from medpipe.reporting.report import write_report

    if output.exists() and not force:
        print(f"medpipe report: {output} is there already; give another --output, or --force", file=sys.stderr)
        return 2
    if names and len(names) != len(paths):
        print(f"medpipe report: {len(names)} names for {len(paths)} runs; give one each", file=sys.stderr)
        return 2
    if len(set(names)) < len(names):  # one run's scores and curves would take the place of another's
        print(f"medpipe report: names must differ, got {', '.join(names)}", file=sys.stderr)
        return 2
    runs = [read_run(name, path) for name, path in zip(names or short_names(paths), paths, strict=True)]
    notes: list[str] = []
    scores = joined_scores(runs)
    several = len(runs) > 1
    content = ReportContent(
        title=title or (f"{', '.join(run.name for run in runs[:-1])} and {runs[-1].name}" if several else runs[0].name),
        date=now(),
        scores=scores,
        comparisons=compared(scores, notes),
        curves=_prefixed(runs, "curves"),
        transfers=_prefixed(runs, "transfers"),
        record={f"{run.name}: {key}" if several else key: value for run in runs for key, value in run.record.items()},
        workflow="\n".join((f"# {run.name}\n" if several else "") + run.workflow for run in runs if run.workflow),
        notes=notes,
    )
    write_report(output, content)
    print(f"written: {output}")
    return 0


def read_run(name: str, path: Path) -> Shown:
    """A run's directory, a folder that `medpipe evaluate` left, or a file of scores."""
    from medpipe.metrics.comparison import check_definition
    from medpipe.metrics.score_kinds import OF_PHASES, kind_of

    shown = Shown(name, path)
    if not path.exists():
        raise DataFault(path, "no such run")
    stages = finished_stages(path) if path.is_dir() else {}
    for stage, facts in stages.items():
        if str(facts["stage"]).endswith("_training") or facts["stage"] == "masked_pretraining":
            shown.curves |= dict(curves_of(stage, path / stage))
            shown.transfers |= dict(transfers_of(stage, path / stage))
    if (
        path.is_file()
        or any(path.glob("scores.csv"))
        or any((path / stage / "scores.csv").is_file() for stage in stages)
    ):
        file = scores_file(path)
        shown.scores = read_scores(file)
        if kind_of(shown.scores.columns) is OF_PHASES:
            raise DataFault(
                file, "holds scores of phases: such a run or evaluation leaves a report.html of its own, and `medpipe "
                "compare` lays several beside each other",
            )  # fmt: skip
        try:
            check_definition(shown.scores)
        except ValueError as error:
            raise DataFault(file, str(error)) from error
    if shown.scores is None and not shown.curves:
        raise DataFault(path, "holds neither scores nor a finished training; give a run, an evaluation or a scores.csv")
    shown.record = record_of(path, stages)
    workflow = path / "workflow.yaml"
    shown.workflow = workflow.read_text(encoding="utf-8") if stages and workflow.is_file() else ""
    return shown


def finished_stages(folder: Path) -> dict[str, dict[str, Any]]:
    """Stage -> what its ledger says, for the finished stages of a run; in the order of their ends."""
    directory = RunDirectory(folder)
    names = [path.parent.name for path in folder.glob("*/done.json")]
    found = {name: directory.ledger(name).done() for name in names}
    return dict(sorted(found.items(), key=lambda item: item[1]["finished"]))


def record_of(path: Path, stages: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Seed, command, versions and times of a run; what `medpipe evaluate` kept; or the file alone."""
    if stages:
        facts = {name: {**done, "starts": len(done["starts"])} for name, done in stages.items()}
        return {"folder": str(path), **flat_record(RunDirectory(path).record(), facts)}
    summary = path / "summary.json"
    if summary.is_file():
        return {"folder": str(path), **json.loads(summary.read_text(encoding="utf-8")).get("record", {})}
    return {"scores": str(path)}


def short_names(paths: Sequence[Path]) -> list[str]:
    """The folders' names; with the folder above where two are the same, numbered where those are too."""
    for depth in (1, 2):
        found = ["/".join(path.resolve().with_suffix("").parts[-depth:]) for path in paths]
        if len(set(found)) == len(found):
            return found
    return [f"{name} ({number})" for number, name in enumerate(found, start=1)]


def joined_scores(runs: Sequence[Shown]) -> "pd.DataFrame | None":
    """All scores in one table; a model that several runs have carries the run's name."""
    import pandas as pd

    from medpipe.metrics.aggregation import complete_scores

    tables = {}
    for run in runs:
        if run.scores is not None:
            try:
                tables[run.name] = complete_scores(run.scores)
            except ValueError as error:
                raise DataFault(run.path, str(error)) from error
    owners: dict[str, int] = {}
    for table in tables.values():
        for model in set(table["model"]):
            owners[model] = owners.get(model, 0) + 1
    for name, table in tables.items():
        table["model"] = [f"{name}: {model}" if owners[model] > 1 else model for model in table["model"]]
    return pd.concat(tables.values(), ignore_index=True) if tables else None


def compared(scores: "pd.DataFrame | None", notes: list[str]) -> "list[tuple[str, Comparison]]":
    """The models at the largest labelled share, where they were scored on the same patients; else a note."""
    from medpipe.metrics.comparison import arms_of, compare_scores

    if scores is None:
        return []
    share = scores["labelled_share"].max()
    rows = scores.loc[scores["labelled_share"] == share]
    arms = arms_of(rows, str(rows["model"].iloc[0]))
    if len(arms) < 2:
        return []
    try:
        metrics = [name for name in ("dice", "hd95_mm") if name in rows.columns and rows[name].notna().any()]
        return [("", compare_scores(arms, metrics=metrics))]
    except ValueError as error:
        notes.append(f"The models are not compared with each other: {error}")
        return []


def _prefixed(runs: Sequence[Shown], what: str) -> dict[str, Any]:
    several = len(runs) > 1
    return {
        f"{run.name}: {key}" if several else key: value for run in runs for key, value in getattr(run, what).items()
    }
