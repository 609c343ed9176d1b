"""`medpipe compare` on scored answers: two or more models on the same questions."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from medpipe.geometry.faults import DataFault


def are_answer_scores(paths: Sequence[Path]) -> bool:
    """Whether the files of scores are of answers. DataFault where some are and others are not."""
    found = [_holds_answers(path) for path in paths]
    for path, is_one in zip(paths, found, strict=True):
        if is_one != found[0]:
            raise DataFault(path, f"holds scores of another kind than {paths[0]}: answers are not compared with others")
    return found[0]


def _holds_answers(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return "question_id" in next(csv.reader(file), [])
    except UnicodeDecodeError as error:
        raise DataFault(path, f"not a file of scores: {error}") from error


def compare_answer_files(
    paths: Sequence[Path],
    names: Sequence[str],
    *,
    correction: Literal["bh", "holm"],
    against: str | None,
    output: Path,
    as_json: bool,
    seed: int,
    alpha: float,
) -> int:
    """Compare, write comparison.csv and comparison.json, print; the exit code."""
    from rich.console import Console

    from medpipe.metrics.answer_comparison import compare_answers
    from medpipe.reporting.answer_tables import print_comparison, write_comparison

    comparison = compare_answers(
        read_models(paths, names), correction=correction, alpha=alpha, seed=seed, against=against
    )
    document = write_comparison(output, comparison)
    if as_json:
        print(json.dumps(document, indent=2))
    else:
        print_comparison(comparison, Console())
        for method in comparison.methods():
            print(method)
        print(f"written: {output / 'comparison.csv'}, {output / 'comparison.json'}")
    return 0


def read_models(paths: Sequence[Path], names: Sequence[str]) -> dict[str, Any]:
    """Every unperturbed model of every file by a name of its own. Raises DataFault: one name for two models."""
    from medpipe.stages.answer_tables import read_item_scores

    if names and len(names) != len(paths):
        raise ValueError(f"{len(names)} names for {len(paths)} files; give one each, in their order")
    models: dict[str, Any] = {}
    for number, path in enumerate(paths):
        found = {model: items for (model, perturbed), items in read_item_scores(path).items() if not perturbed}
        for model, items in found.items():
            name = names[number] if names and len(found) == 1 else model
            if name in models:
                name = f"{path.resolve().parent.name}: {name}"
            if name in models:
                raise DataFault(path, f"the name {name!r} stands for two models; give different names with --name")
            models[name] = items
    return models
