"""Files of scores as they are named on a command line or left by a stage: found, read, split into models."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medpipe.geometry.faults import DataFault
from medpipe.stages.segmentation_evaluation import SCORES_FILE

if TYPE_CHECKING:
    import pandas as pd

    from medpipe.metrics.score_kinds import ScoreKind


def read_arms(files: Sequence[Path], names: Sequence[str]) -> "tuple[ScoreKind, dict[str, pd.DataFrame]]":
    """What is scored, and every model by a name of its own: the one given, the model's title, or the file's folder.

    Raises DataFault with the file that is missing, broken, made by another definition or of another kind.
    """
    from medpipe.metrics.comparison import arms_of
    from medpipe.metrics.score_kinds import kind_of

    if names and len(names) != len(files):
        raise ValueError(f"{len(names)} names for {len(files)} files; give one each, in their order")
    if len(set(names)) < len(names):
        raise ValueError(f"names must differ, got {', '.join(names)}")
    paths = [scores_file(path) for path in files]
    tables = [read_scores(path) for path in paths]
    kinds = [kind_of(table.columns) for table in tables]
    for path, kind in zip(paths, kinds, strict=True):
        if kind is not kinds[0]:
            raise DataFault(path, f"holds scores of {kind.what}, {paths[0]} of {kinds[0].what}: these do not compare")
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
    return kinds[0], arms


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
    """A file of scores, its names as text and its metrics as numbers. Raises DataFault."""
    import pandas as pd

    from medpipe.metrics.definitions import METRICS

    names = ("model", "case_id", "video_id", "patient_id", "structure", "definition")
    text: Any = dict.fromkeys(names, str)
    try:
        table = pd.read_csv(path, dtype=text)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, ValueError) as error:
        raise DataFault(path, f"not a file of scores: {error}") from error
    if table.empty:
        raise DataFault(path, "holds no scores: a heading and no row below it")
    for column in table.columns:
        if column in METRICS and not pd.api.types.is_numeric_dtype(table[column]):
            numbers: Any = pd.to_numeric(table[column], errors="coerce")
            bad = table.loc[numbers.isna() & table[column].notna(), column]
            raise DataFault(path, f"{column} is {bad.iloc[0]!r} in row {bad.index[0] + 1}, expected a number")
    return table


def _titles(tables: "Sequence[pd.DataFrame]", files: Sequence[Path]) -> list[str]:
    """The model's title where every file holds one of its own, else the folders' or files' names, numbered if equal."""
    models = [list(table["model"].dropna().unique()) if "model" in table.columns else [] for table in tables]
    if all(len(found) == 1 for found in models) and len({found[0] for found in models}) == len(models):
        return [str(found[0]) for found in models]
    short = [file.resolve().parent.name if file.name == SCORES_FILE else file.stem for file in files]
    if len(set(short)) == len(short):
        return short
    return [f"{title} {number}" for number, title in enumerate(short, start=1)]
