"""The stage that compares models: between evaluations, and share by share of the labelled cases."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from medpipe.config.base import StageRef
from medpipe.datasets.cases import DataConfig
from medpipe.geometry.faults import DataFault
from medpipe.metrics.answers import DEFINITION as ANSWERS
from medpipe.metrics.definitions import DEFINITION
from medpipe.metrics.phase_metrics import PHASE_DEFINITION
from medpipe.reporting.comparison import comparison_section, definitions_of, read_comparison
from medpipe.stages.comparison import ComparisonStage, comparison_files
from medpipe.stages.score_files import read_arms
from medpipe.stages.stage import StageRun


def write_scores(folder: Path, models: dict[str, float], shares: tuple[float, ...] = (1.0,)) -> Path:
    folder.mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    for share in shares:
        for model, shift in models.items():
            rng = np.random.default_rng(0)
            rows += [
                {"model": model, "labelled_share": share, "case_id": f"c{i}", "patient_id": f"p{i}", "status": "scored",
                 "structure": "rectum", "dice": 0.7 + 0.1 * rng.random() + shift, "hd95_mm": 5 - 10 * shift,
                 "definition": DEFINITION}
                for i in range(8)
            ]  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "scores.csv", index=False)
    return folder


def run_of(folder: Path, inputs: dict[str, Path]) -> StageRun:
    said: list[str] = []
    output = SimpleNamespace(console=Console(quiet=True), say=said.append, warn=said.append, said=said)
    return StageRun(
        name="compare", folder=folder, seed=0, data=DataConfig(), inputs=inputs, output=output,  # type: ignore[arg-type]
        should_stop=lambda: False, base=folder,
    )  # fmt: skip


def stage(*names: str, **values: Any) -> ComparisonStage:
    references = tuple(StageRef(from_=name) for name in names)
    return ComparisonStage(stage="comparison", evaluations=references, num_bootstraps=50, **values)


def test_two_evaluations_of_one_model_each(tmp_path: Path) -> None:
    inputs = {"a": write_scores(tmp_path / "a", {"plain": 0}), "b": write_scores(tmp_path / "b", {"better": 0.05})}
    (tmp_path / "out").mkdir()
    stage("a", "b").run(run_of(tmp_path / "out", inputs))
    ((title, path),) = comparison_files(tmp_path / "out")
    comparison = read_comparison(path)
    assert title == ""
    assert comparison.arms == ("plain", "better")
    assert comparison.pairs[0].mean_difference == pytest.approx(0.05)


def test_each_labelled_share_is_a_family_of_its_own(tmp_path: Path) -> None:
    inputs = {"a": write_scores(tmp_path / "a", {"scratch": 0, "full": 0.05, "other": 0.01}, (0.25, 1.0))}
    (tmp_path / "out").mkdir()
    stage("a", against="scratch", metrics=("dice",)).run(run_of(tmp_path / "out", inputs))
    found = dict(comparison_files(tmp_path / "out"))
    assert list(found) == ["Trained on 100 % of the labelled cases", "Trained on 25 % of the labelled cases"]
    for path in found.values():
        comparison = read_comparison(path)
        assert [(pair.first, pair.second) for pair in comparison.pairs] == [("scratch", "full"), ("scratch", "other")]


def test_an_unknown_model_to_compare_with_is_refused_by_name(tmp_path: Path) -> None:
    inputs = {"a": write_scores(tmp_path / "a", {"scratch": 0, "full": 0.05})}
    with pytest.raises(ValueError, match="no model 'skratch' to compare with"):
        stage("a", against="skratch").run(run_of(tmp_path, inputs))


def test_an_unknown_metric_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="hd95_pooled_mm"):
        stage("a", metrics=("hausdorff",))


def write_phase_scores(folder: Path, models: dict[str, float], videos: int = 8) -> Path:
    folder.mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    for model, shift in models.items():
        rng = np.random.default_rng(0)
        rows += [
            {"model": model, "fold": 1, "video_id": f"00{i % 4}-00{i}", "patient_id": f"00{i % 4}-00{i}",
             "macro_f1": 0.5 + 0.1 * rng.random() + shift, "f1_at_25": 40 + 10 * rng.random() + 100 * shift,
             "accuracy": 0.7, "withdrawal_error_s": -30 * (1 - shift), "definition": PHASE_DEFINITION}
            for i in range(videos)
        ]  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "scores.csv", index=False)
    return folder


def write_answers(folder: Path, right: dict[str, str]) -> Path:
    """Ten questions a model, right where its string has a 1."""
    folder.mkdir(parents=True)
    rows = [
        {"model": model, "perturbation": "", "question_id": f"q{i}", "task": "t", "cluster": f"c{i}", "right": flag,
         "score": flag, "definition": ANSWERS}
        for model, flags in right.items()
        for i, flag in enumerate(flags)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "scores.csv", index=False)
    return folder


def test_phases_are_compared_by_their_own_metrics(tmp_path: Path) -> None:
    inputs = {"a": write_phase_scores(tmp_path / "a", {"tcn": 0, "better": 0.05, "same": 0})}
    (tmp_path / "out").mkdir()
    stage("a", against="tcn").run(run_of(tmp_path / "out", inputs))
    ((_, path),) = comparison_files(tmp_path / "out")
    comparison = read_comparison(path)
    assert comparison.definition == PHASE_DEFINITION
    assert {(test.structure, test.metric) for test in comparison.pairs} == {
        ("whole video", "macro_f1"), ("whole video", "f1_at_25")
    }  # fmt: skip
    better = next(test for test in comparison.pairs if test.second == "better" and test.metric == "macro_f1")
    assert better.first == "tcn"
    assert better.mean_difference == pytest.approx(0.05)
    assert better.p_adjusted < 0.05
    assert len(comparison.omnibus) == 2
    section = comparison_section("", comparison)
    assert section["pairs"][0][:2] == ["whole video", "Macro F1"]
    assert "F1@25" in " ".join(definitions_of(comparison))


def test_models_are_chosen_by_title_and_an_absolute_withdrawal_error_is_a_metric(tmp_path: Path) -> None:
    inputs = {"a": write_phase_scores(tmp_path / "a", {"tcn": 0, "better": 0.05, "third": 0.1})}
    (tmp_path / "out").mkdir()
    chosen = stage("a", models=("tcn", "better"), metrics=("withdrawal_absolute_error_s",))
    chosen.run(run_of(tmp_path / "out", inputs))
    comparison = read_comparison(comparison_files(tmp_path / "out")[0][1])
    assert comparison.arms == ("tcn", "better")
    assert comparison.pairs[0].mean_difference == pytest.approx(-1.5)
    with pytest.raises(ValueError, match="no model 'tnc' in the scores; they hold tcn, better, third"):
        stage("a", models=("tnc",)).run(run_of(tmp_path / "out", inputs))


def test_scores_of_phases_and_of_structures_are_not_mixed(tmp_path: Path) -> None:
    inputs = {
        "a": write_phase_scores(tmp_path / "a", {"tcn": 0}),
        "b": write_scores(tmp_path / "b", {"plain": 0}),
    }
    with pytest.raises(ValueError, match="holds scores of another kind"):
        stage("a", "b").run(run_of(tmp_path, inputs))
    with pytest.raises(DataFault, match=r"b.scores\.csv: holds scores of structures, .*a.scores\.csv of phases"):
        read_arms([tmp_path / "a", tmp_path / "b"], [])


def test_phase_scores_without_their_definition_or_with_a_video_twice_are_refused(tmp_path: Path) -> None:
    path = write_phase_scores(tmp_path / "a", {"tcn": 0}) / "scores.csv"
    table = pd.read_csv(path)
    table.drop(columns="definition").to_csv(path, index=False)
    with pytest.raises(DataFault, match="expected 'medpipe-phases-1'"):
        read_arms([path, path], ["x", "y"])
    pd.concat([table, table.head(1)]).to_csv(path, index=False)
    with pytest.raises(DataFault, match="the video '000-000' stands twice for 'tcn'"):
        read_arms([path, path], ["x", "y"])


def test_answers_are_compared_by_the_same_kind_of_stage(tmp_path: Path) -> None:
    inputs = {"a": write_answers(tmp_path / "a", {"good": "1111111110", "poor": "0000000110"})}
    (tmp_path / "out").mkdir()
    stage("a").model_copy(update={"num_bootstraps": 10_000}).run(run_of(tmp_path / "out", inputs))
    (test,) = json.loads((tmp_path / "out/comparison.json").read_text())["tests"]
    assert (test["only_first"], test["only_second"]) == (7, 0)
    assert test["p"] == pytest.approx(2 * 0.5**7)
    values = {"num_bootstraps": 10_000, "metrics": ("dice",)}
    refusing = stage("a").model_copy(update=values)
    with pytest.raises(ValueError, match="'metrics' is of scores of structures and phases alone"):
        refusing.run(run_of(tmp_path / "out", inputs))


def test_scores_of_two_kinds_and_of_none_are_refused_with_the_file(tmp_path: Path) -> None:
    inputs = {"a": write_scores(tmp_path / "a", {"one": 0}), "b": write_answers(tmp_path / "b", {"two": "10"})}
    with pytest.raises(DataFault, match=r"b/scores\.csv: holds scores of another kind"):
        stage("a", "b").run(run_of(tmp_path, inputs))
    (tmp_path / "c").mkdir()
    (tmp_path / "c/scores.csv").write_text("x,y\n1,2\n")
    with pytest.raises(DataFault, match="no column structure or question_id or video_id"):
        stage("c").run(run_of(tmp_path, {"c": tmp_path / "c"}))
