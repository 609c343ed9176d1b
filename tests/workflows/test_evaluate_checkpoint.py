"""`medpipe evaluate` of what a run trained: the run's own scores, stopped and gone on, refusals."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

pytestmark = pytest.mark.long

WORKFLOW = "gynecologic_brachytherapy"


@pytest.fixture(scope="module")
def run_folder(smoke_run) -> Path:
    """A finished smoke run of pretraining, organs and brachytherapy."""
    workflow, folder, _, _ = smoke_run(WORKFLOW)
    return folder / "runs" / workflow / "smoke"


def evaluate(run: Path, stage: str, *arguments: str) -> list[str]:
    return ["evaluate", str(run / stage), "--manifest", WORKFLOW, *arguments]


def test_the_scores_are_those_of_the_run(run_folder: Path, tmp_path: Path, medpipe) -> None:
    done = medpipe(tmp_path, *evaluate(run_folder, "brachytherapy", "--part", "test", "--json"))
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["record"]["checkpoint"] == str(run_folder / "brachytherapy")
    assert any("generated phantoms" in note for note in document["notes"])
    assert not any("were in the training" in note for note in document["notes"])
    found = pd.read_csv(tmp_path / "evaluation" / "scores.csv")
    kept = pd.read_csv(run_folder / "evaluate" / "scores.csv")
    kept = kept.loc[kept["model"] == found["model"].iloc[0]].reset_index(drop=True)
    assert len(found) > 0
    pd.testing.assert_frame_equal(found, kept)
    assert "<figure" in (tmp_path / "evaluation" / "report.html").read_text()
    again = medpipe(tmp_path, *evaluate(run_folder, "brachytherapy", "--part", "test"))
    assert again.returncode == 2
    assert "holds results already" in again.stderr


def test_patients_of_the_training_are_counted_and_structures_chosen(run_folder: Path, tmp_path: Path, medpipe) -> None:
    done = medpipe(tmp_path, *evaluate(run_folder, "brachytherapy", "--structures", "rectum"))
    assert done.returncode == 0, done.stderr
    assert "patients were in the training of this checkpoint" in done.stdout
    assert set(pd.read_csv(tmp_path / "evaluation" / "scores.csv")["structure"]) == {"rectum"}


def test_a_stopped_evaluation_goes_on_with_what_it_has(run_folder: Path, tmp_path: Path, medpipe) -> None:
    command = [sys.executable, "-m", "medpipe.cli", *evaluate(run_folder, "brachytherapy")]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    folder = tmp_path / "evaluation" / "predictions" / "checkpoint"
    deadline = time.monotonic() + 120
    while not any(path for path in folder.glob("*") if not path.name.startswith(".")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 75, printed + errors
    assert "goes on from there" in errors
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if not path.name.startswith(".")}
    assert 1 <= len(before) < 4
    assert not (tmp_path / "evaluation" / "scores.csv").exists()
    done = medpipe(tmp_path, *evaluate(run_folder, "brachytherapy"))
    assert done.returncode == 0, done.stderr
    after = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(after) == 4
    assert {name: after[name] for name in before} == before
    other = medpipe(tmp_path, *evaluate(run_folder, "scratch", "--output", "evaluation"))
    assert other.returncode == 2  # results, and of other weights
    (tmp_path / "evaluation" / "scores.csv").unlink()
    other = medpipe(tmp_path, *evaluate(run_folder, "scratch", "--output", "evaluation"))
    assert other.returncode == 2
    assert "predictions of other weights or cases" in other.stderr


def test_a_pretraining_is_scored_by_its_reconstructions(run_folder: Path, tmp_path: Path, medpipe) -> None:
    command = ["evaluate", str(run_folder / "pretrain"), "--manifest", "ct_unlabelled"]
    done = medpipe(tmp_path, *command)
    assert done.returncode == 0, done.stderr
    scores = pd.read_csv(tmp_path / "evaluation" / "scores.csv")
    assert len(scores) == 4
    assert (scores["num_blocks"] > 0).all()
    assert scores["block_mean_loss"].to_numpy() == pytest.approx(1.0, abs=0.05)  # a block less its mean over its SD
    assert "mean of patients" in done.stdout
    assert "explains" in (tmp_path / "evaluation" / "report.html").read_text()
    moved = shutil.copytree(run_folder / "pretrain", tmp_path / "pretrain", ignore=shutil.ignore_patterns("*.ckpt"))
    command[1] = str(moved)
    alone = medpipe(tmp_path, *command, "--data-root", str(tmp_path), "--output", "other")
    assert alone.returncode == 3  # no data there


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("brachytherapy",), "give --manifest"),
        (("brachytherapy", "references", "--manifest", WORKFLOW), "REFERENCES: for folders of predictions"),
        (("brachytherapy", "--manifest", "nope"), "neither a path nor one of"),
        (("organs", "--manifest", "ct_unlabelled"), "names none of them"),
        (("pretrain", "--manifest", WORKFLOW, "--structures", "rectum"), "knows no structures"),
        (("", "--manifest", WORKFLOW), "is a run with several checkpoints; name one:"),
        (("evaluate",), "is no checkpoint"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_at_the_door(
    run_folder: Path, tmp_path: Path, medpipe, arguments: tuple[str, ...], message: str
) -> None:
    done = medpipe(tmp_path, "evaluate", str(run_folder / arguments[0]), *arguments[1:])
    assert done.returncode == 2, done.stderr
    assert message in " ".join(done.stderr.split())
    assert not (tmp_path / "evaluation").exists()
