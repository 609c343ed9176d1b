"""`medpipe report`: several evaluations, files of scores and runs in one page."""

import math
from pathlib import Path

import pandas as pd
import pytest

from medpipe.engine.report_runs import joined_scores, read_run, report_command, short_names
from medpipe.geometry.faults import DataFault


def write_scores(path: Path, model: str, *, num_patients: int = 8, definition: str = "medpipe-1") -> Path:
    rows = [
        {"model": model, "labelled_share": 1.0, "case_id": f"c{i}", "patient_id": f"p{i}", "structure": "rectum",
         "status": "scored", "dice": 0.8 + 0.01 * i, "hd95_mm": math.inf if i == 2 else 4.0, "definition": definition}
        for i in range(num_patients)
    ]  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def report(output: Path, *paths: Path, force: bool = False) -> int:
    return report_command(paths, names=[], output=output, force=force, title="")


def test_two_evaluations_stand_side_by_side_and_are_compared(tmp_path: Path) -> None:
    first = write_scores(tmp_path / "first" / "scores.csv", "U-Net").parent
    second = write_scores(tmp_path / "second" / "scores.csv", "STU-Net").parent
    assert report(tmp_path / "page.html", first, second) == 0
    html = (tmp_path / "page.html").read_text()
    assert "first and second" in html
    assert "Comparison of models" in html
    assert "STU-Net - U-Net" in html


def test_a_model_of_the_same_name_carries_its_runs_name(tmp_path: Path) -> None:
    paths = [write_scores(tmp_path / name / "scores.csv", "U-Net") for name in ("a", "b")]
    scores = joined_scores([read_run(name, path) for name, path in zip(short_names(paths), paths, strict=True)])
    assert scores is not None
    assert list(dict.fromkeys(scores["model"])) == ["a/scores: U-Net", "b/scores: U-Net"]


def test_other_patients_are_shown_but_not_compared_and_the_page_says_so(tmp_path: Path) -> None:
    write_scores(tmp_path / "a.csv", "A")
    write_scores(tmp_path / "b.csv", "B", num_patients=7)
    assert report(tmp_path / "page.html", tmp_path / "a.csv", tmp_path / "b.csv") == 0
    html = (tmp_path / "page.html").read_text()
    assert "The models are not compared with each other: B lacks 1 patients" in html


def test_bad_input_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    good = write_scores(tmp_path / "a.csv", "A")
    other = write_scores(tmp_path / "b.csv", "B", definition="medpy")
    (tmp_path / "empty").mkdir()
    for path, message in ((other, "made by the definition"), (tmp_path / "empty", "neither scores"),
                          (tmp_path / "none", "no such run")):  # fmt: skip
        with pytest.raises(DataFault, match=message):
            report(tmp_path / "page.html", good, path)
    assert not (tmp_path / "page.html").exists()


def test_a_page_that_is_there_is_not_replaced_without_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = write_scores(tmp_path / "a.csv", "A")
    (tmp_path / "page.html").write_text("mine")
    assert report(tmp_path / "page.html", good) == 2
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "page.html").read_text() == "mine"
    assert report(tmp_path / "page.html", good, force=True) == 0


def test_two_runs_of_one_name_are_refused_not_merged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [write_scores(tmp_path / f"{name}.csv", name) for name in "ab"]
    assert report_command(paths, names=["X", "X"], output=tmp_path / "page.html", force=False, title="") == 2
    assert "names must differ, got X, X" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()
