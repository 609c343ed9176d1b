"""`medpipe compare`: score files in; a table, comparison.csv and comparison.json out."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from medpipe.geometry.faults import DataFault

if TYPE_CHECKING:
    import pandas as pd

    from medpipe.metrics.comparison import Comparison

SCORES_FILE = "scores.csv"
WRONG_DATA = 3


def compare_command(
    files: Sequence[Path],
    *,
    names: Sequence[str],
    metrics: Sequence[str],
    structures: Sequence[str],
    correction: Literal["bh", "holm"],
    against: str | None,
    output: Path,
    as_json: bool,
    seed: int,
    alpha: float,
    allow_unpaired: bool,
) -> int:
    """Compare score files; returns the exit code. Where no test is possible it says how many patients could."""
    from rich.console import Console

    from medpipe.metrics.comparison import compare_scores
    from medpipe.reporting.comparison import comparison_json, print_comparison

    try:
        comparison = compare_scores(
            read_arms(files, names),
            metrics=metrics,
            structures=structures,
            against=against,
            correction=correction,
            alpha=alpha,
            seed=seed,
            allow_unpaired=allow_unpaired,
        )
    except ValueError as error:
        print(f"medpipe compare: {error}", file=sys.stderr)
        return WRONG_DATA
    write_comparison(output, comparison)
    if as_json:
        print(json.dumps(comparison_json(comparison), indent=2))
    else:
        print_comparison(comparison, Console())
        print(f"written: {output / 'comparison.csv'}, {output / 'comparison.json'}")
    if all(test.refusal for test in comparison.pairs):
        print(f"medpipe compare: nothing could be tested: {comparison.pairs[0].refusal}", file=sys.stderr)
        return WRONG_DATA
    return 0


def write_comparison(folder: Path, comparison: "Comparison") -> None:
    """comparison.csv (one row a paired test) and comparison.json (all, with methods), each whole or not at all."""
    from medpipe.geometry.atomic import written_beside
    from medpipe.reporting.comparison import comparison_json, comparison_rows

    folder.mkdir(parents=True, exist_ok=True)
    with written_beside(folder / "comparison.csv") as partial:
        comparison_rows(comparison).to_csv(partial, index=False)
    with written_beside(folder / "comparison.json") as partial:
        partial.write_text(json.dumps(comparison_json(comparison), indent=2) + "\n", encoding="utf-8")


def read_arms(files: Sequence[Path], names: Sequence[str]) -> "dict[str, pd.DataFrame]":
    """Every model of every file by a name of its own: the one given, the model's title, or the file's folder.

    Raises DataFault with the file that is missing, broken or made by another definition.
    """
    from medpipe.metrics.comparison import arms_of

    if names and len(names) != len(files):
        raise ValueError(f"{len(names)} names for {len(files)} files; give one each, in their order")
    paths = [scores_file(path) for path in files]
    tables = [read_scores(path) for path in paths]
    titles = list(names) or _titles(tables, files)
    arms: dict[str, pd.DataFrame] = {}
    for path, title, table in zip(paths, titles, tables, strict=True):
        try:
            found = arms_of(table, title)
        except ValueError as error:
            raise DataFault(path, str(error)) from error
        for name, rows in found.items():
            unique = name if name not in arms else f"{title}: {name}"
            if unique in arms:
                raise DataFault(path, f"the name {unique!r} stands for two models; give different names with --name")
            arms[unique] = rows
    return arms


def scores_file(path: Path) -> Path:
    """The file of scores that a path means: itself, the one in that folder, or the one stage of that run."""
    if path.is_file():
        return path
    if not path.exists():
        raise DataFault(path, "no such file or folder")
    found = [path / SCORES_FILE] if (path / SCORES_FILE).is_file() else sorted(path.glob(f"*/{SCORES_FILE}"))
    if len(found) != 1:
        listed = ", ".join(str(file) for file in found)
        raise DataFault(path, f"holds several files of scores, name one: {listed}" if found else f"no {SCORES_FILE}")
    return found[0]


def read_scores(path: Path) -> "pd.DataFrame":
    """A file of scores, its names as text."""
    import pandas as pd

    text: Any = {"model": str, "case_id": str, "patient_id": str, "structure": str, "definition": str}
    try:
        return pd.read_csv(path, dtype=text)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, ValueError) as error:
        raise DataFault(path, f"not a file of scores: {error}") from error


def _titles(tables: "Sequence[pd.DataFrame]", files: Sequence[Path]) -> list[str]:
    """The model's title where every file holds one of its own, else the folders' or files' names, numbered if equal."""
    models = [list(table["model"].dropna().unique()) if "model" in table.columns else [] for table in tables]
    if all(len(found) == 1 for found in models) and len({found[0] for found in models}) == len(models):
        return [str(found[0]) for found in models]
    short = [file.resolve().parent.name if file.name == SCORES_FILE else file.stem for file in files]
    if len(set(short)) == len(short):
        return short
    return [f"{title} {number}" for number, title in enumerate(short, start=1)]
