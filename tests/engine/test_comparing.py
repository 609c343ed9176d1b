"""`medpipe compare` as a user meets it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest


def write_scores(path: Path, model: str, shift: float = 0.0, num_patients: int = 12, **columns: object) -> Path:
    rng = np.random.default_rng(4)
    rows = [
        {"model": model, "case_id": f"c{i}", "patient_id": f"p{i}", "structure": structure, "status": "scored",
         "dice": 0.7 + 0.2 * rng.random() + shift, "hd95_mm": 5 + rng.random() - 5 * shift, "definition": "medpipe-1",
         **columns}
        for structure in ("bladder", "rectum")
        for i in range(num_patients)
    ]  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def compare(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "medpipe.cli", "compare", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_two_files_end_in_a_table_and_two_files(tmp_path: Path) -> None:
    write_scores(tmp_path / "a.csv", "U-Net")
    write_scores(tmp_path / "runs" / "b" / "evaluate" / "scores.csv", "STU-Net", 0.05)
    done = compare(tmp_path, "a.csv", "runs/b")
    assert done.returncode == 0, done.stderr
    assert "STU-Net - U-Net" in done.stdout
    assert "Benjamini-Hochberg" in done.stdout
    rows = pd.read_csv(tmp_path / "comparison" / "comparison.csv")
    assert list(rows["mean_difference"]) == pytest.approx([0.05, -0.25, 0.05, -0.25])
    assert (rows["p"] == 2 / 2**12).all()


def test_json_is_one_document_alone(tmp_path: Path) -> None:
    write_scores(tmp_path / "a.csv", "A")
    write_scores(tmp_path / "b.csv", "B", 0.05)
    done = compare(tmp_path, "a.csv", "b.csv", "--json", "--metric", "dice", "--correction", "holm")
    document = json.loads(done.stdout)
    assert [pair["metric"] for pair in document["pairs"]] == ["dice", "dice"]
    assert document == json.loads((tmp_path / "comparison" / "comparison.json").read_text())


def test_too_few_patients_are_refused_with_the_smallest_number(tmp_path: Path) -> None:
    write_scores(tmp_path / "a.csv", "A", num_patients=4)
    write_scores(tmp_path / "b.csv", "B", num_patients=4)
    done = compare(tmp_path, "a.csv", "b.csv")
    assert done.returncode == 3
    assert "too few patients: 4, at least 6 could show a difference" in done.stderr


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_text(""), "not a file of scores"),
        (lambda path: path.unlink(), "no such file or folder"),
        (lambda path: write_scores(path, "B", definition="medpy"), "made by the definition"),
        (lambda path: write_scores(path, "B", status="lost"), "'lost'"),
        (lambda path: path.write_text(path.read_text() * 2), "b.csv"),
        (lambda path: write_scores(path, "B", hd95_mm="far"), "hd95_mm is 'far' in row 1, expected a number"),
        (lambda path: path.write_text(path.read_text().splitlines()[0] + "\n"), "holds no scores"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, spoil: object, message: str) -> None:
    write_scores(tmp_path / "a.csv", "A")
    spoil(write_scores(tmp_path / "b.csv", "B"))  # type: ignore[operator]
    done = compare(tmp_path, "a.csv", "b.csv")
    assert done.returncode == 3
    assert message in done.stderr
    assert "b.csv" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "comparison").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--name", "X", "--name", "X"), "names must differ, got X, X"),
        (("--metric", "dice,dice"), "metrics must differ"),
        (("--structures", "bladder,bladder"), "structures must differ"),
    ],
)
def test_what_is_given_twice_is_refused(tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    write_scores(tmp_path / "a.csv", "A")
    write_scores(tmp_path / "b.csv", "B", 0.05)
    done = compare(tmp_path, "a.csv", "b.csv", *options)
    assert done.returncode == 3
    assert message in done.stderr


def test_the_same_file_twice_shows_no_difference(tmp_path: Path) -> None:
    write_scores(tmp_path / "a.csv", "A")
    done = compare(tmp_path, "a.csv", "a.csv")
    assert done.returncode == 0
    assert done.stdout.count("no difference shown") == 4
