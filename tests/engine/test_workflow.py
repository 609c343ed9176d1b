from pathlib import Path

import pytest

from medpipe.config.errors import ConfigError
from medpipe.engine.workflow import load_workflow


def write(tmp_path: Path, stages: str) -> str:
    path = tmp_path / "workflow.yaml"
    path.write_text(f"workflow: trial\nstages:\n{stages}")
    return str(path)


def test_an_unknown_kind_of_stage_is_refused_with_a_suggestion(tmp_path: Path) -> None:
    path = write(tmp_path, "  one: {stage: segmentation_trainning}\n")
    with pytest.raises(ConfigError, match=r"workflow.yaml:3:.*did you mean 'segmentation_training'"):
        load_workflow(path)


def test_a_reference_to_no_stage_is_refused_where_it_stands(tmp_path: Path, writing_stages: None) -> None:
    path = write(
        tmp_path, "  first: {stage: writing, word: a}\n  second: {stage: writing, word: b, after: {from: frist}}\n"
    )
    with pytest.raises(ConfigError, match=r"workflow.yaml:4:51: .*'frist'.*did you mean 'first'"):
        load_workflow(path)


def test_a_reference_to_a_stage_of_the_wrong_kind_is_refused(tmp_path: Path, writing_stages: None) -> None:
    path = write(
        tmp_path,
        "  first: {stage: writing, word: a}\n  scores: {stage: segmentation_evaluation, predictions: {from: first}}\n",
    )
    with pytest.raises(
        ConfigError, match=r"workflow.yaml:4:.*'predictions' takes from a stage of kind segmentation_pred"
    ):
        load_workflow(path)


def test_a_circle_is_refused_by_name(tmp_path: Path, writing_stages: None) -> None:
    path = write(
        tmp_path,
        "  one: {stage: writing, word: a, after: {from: two}}\n  two: {stage: writing, word: b, after: {from: one}}\n",
    )
    with pytest.raises(ConfigError, match="in a circle: one -> two -> one"):
        load_workflow(path)


def test_an_unknown_workflow_name_lists_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match="did you mean 'ct_pretraining'"):
        load_workflow("ct_pretrainin")


def test_the_resolved_text_reads_back_to_the_same_workflow(chain: Path, tmp_path: Path) -> None:
    loaded = load_workflow(str(chain), (), ["first.word='1e-3'", "first.length=3"])
    again = tmp_path / "again.yaml"
    again.write_text(loaded.text())
    assert load_workflow(str(again)).values == loaded.values
    assert "command line" in loaded.text()
