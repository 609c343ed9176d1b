"""`medpipe compare` on scored answers: two or more models on the same questions."""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from medpipe.geometry.faults import DataFault


def are_answer_scores(paths: Sequence[Path]) -> bool:
    """Whether the first file of scores is one of answers."""
    with paths[0].open(encoding="utf-8", newline="") as file:
        header = next(csv.reader(file), [])
    return "question_id" in header


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

    from medpipe.geometry.atomic import written_beside
    from medpipe.metrics.answer_comparison import compare_answers
    from medpipe.reporting.answer_tables import comparison_rows, print_comparison
    from medpipe.stages.answer_summary import plain
    from medpipe.stages.stage import write_json

    comparison = compare_answers(
        read_models(paths, names), correction=correction, alpha=alpha, seed=seed, against=against
    )
    output.mkdir(parents=True, exist_ok=True)
    with written_beside(output / "comparison.csv") as partial:
        comparison_rows(comparison).to_csv(partial, index=False)
    document = plain({**asdict(comparison), "methods": comparison.methods()})
    write_json(output / "comparison.json", document)
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
