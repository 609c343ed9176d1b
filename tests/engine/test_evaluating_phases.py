"""`medpipe evaluate` on tables of phases as people leave them: every form, every fault with its file."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medpipe.config.errors import ConfigError
from medpipe.engine.evaluating import evaluate_command
from medpipe.engine.evaluation import EvaluateOptions
from medpipe.geometry.faults import DataFault, DataFaults
from medpipe.metrics.phase_scores import VideoPhases, video_row
from medpipe.metrics.phases import IGNORED, PHASES, phase_name

RATE_HZ = 2.0
VIDEOS = ("001-001", "002-001", "003-001")


def course(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.repeat([0, 1, 2, 4, 5, 6, 7, 8, 0], rng.integers(12, 40, 9)).astype(np.int64)


def moved(labels: np.ndarray, by: int = 4) -> np.ndarray:
    return np.concatenate([labels[:1].repeat(by), labels[:-by]])


def times(labels: np.ndarray) -> np.ndarray:
    return np.arange(len(labels)) / RATE_HZ


def write_axis(path: Path, labels: np.ndarray, *, confidence: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        f"{time:.3f},{phase_name(label)}{',0.8' * confidence}"
        for time, label in zip(times(labels), labels, strict=True)
    ]
    path.write_text("\n".join(["time_s,phase" + ",confidence" * confidence, *rows]) + "\n")


def write_frames(path: Path, labels: np.ndarray, *, first: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"x_{first + number}.jpg,{phase_name(label)}" for number, label in enumerate(labels)]
    path.write_text("\n".join(["frame_filename,GT", *rows]) + "\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate(VIDEOS):
        labels = course(seed)
        write_axis(tmp_path / "pred" / f"{name}.csv", moved(labels), confidence=True)
        labels[20:24] = IGNORED
        write_axis(tmp_path / "ref" / f"{name}.csv", labels)
    return tmp_path


def evaluate(folder: Path, pred: str = "pred", ref: str | None = "ref", **options: object) -> int:
    return evaluate_command(
        folder / pred,
        None if ref is None else folder / ref,
        EvaluateOptions(**options),  # type: ignore[arg-type]
        output=folder / "out",
        as_json=False,
        command=["evaluate"],
    )


def faults_of(call: Callable[[], object]) -> str:
    with pytest.raises((DataFault, DataFaults)) as caught:
        call()
    return str(caught.value)


def test_a_folder_of_predictions_ends_in_scores_summary_confusion_and_report(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(folder) == 0
    scores = pd.read_csv(folder / "out" / "scores.csv").set_index("video_id")
    for seed, name in enumerate(VIDEOS):
        ref = course(seed)
        ref[20:24] = IGNORED
        pred = moved(course(seed))
        expected = video_row(VideoPhases(name, times(pred), ref, pred, np.full(len(pred), 0.8)))
        for column in ("frames", "accuracy", "macro_f1", "edit", "f1_at_25", "withdrawal_error_s", "calibration_error"):
            assert scores.loc[name, column] == pytest.approx(expected[column]), column
    assert set(scores["definition"]) == {"medpipe-phases-1"}
    summary = json.loads((folder / "out" / "summary.json").read_text())
    assert summary["scores"]["pred"]["pooled"]["videos"] == 3
    assert np.sum(json.loads((folder / "out" / "confusion.json").read_text())["arms"]["pred"]) == scores["frames"].sum()
    page = (folder / "out" / "report.html").read_text()
    assert "Evaluation of pred" in page
    assert "Definitions" in page
    assert "pred" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="holds results already"):
        evaluate(folder)
    assert evaluate(folder, force=True) == 0


def test_the_three_forms_of_tables_give_the_same_scores(folder: Path) -> None:
    assert evaluate(folder) == 0
    plain = pd.read_csv(folder / "out" / "scores.csv")
    for name, seed in zip(VIDEOS, range(3), strict=True):
        labels = course(seed)
        labels[20:24] = IGNORED
        write_frames(folder / "frames" / "labels" / f"{name}.csv", labels, first=7)
        write_frames(folder / "frames_pred" / f"{name}.csv", moved(course(seed)), first=7)
        starts = [0, *(np.flatnonzero(np.diff(labels)) + 1)]
        rows = [f"{times(labels)[start]},{phase_name(labels[start])}" for start in starts]
        path = folder / "segments" / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(["start_s,phase", *rows]) + "\n")
    same = ["video_id", "frames", "accuracy", "macro_f1", "edit", "f1_at_25", "withdrawal_s", "withdrawal_s_ref"]
    for pred, ref in (("pred", "frames"), ("pred", "segments"), ("frames_pred", "frames"), ("frames_pred", "ref")):
        assert evaluate(folder, pred, ref, fps=RATE_HZ, force=True) == 0
        pd.testing.assert_frame_equal(pd.read_csv(folder / "out" / "scores.csv")[same], plain[same], rtol=1e-9)
    said = faults_of(lambda: evaluate(folder, "frames_pred", "frames", force=True))
    assert "001-001.csv: a row a frame, and nothing says how many frames a second there are; give --fps" in said
    said = faults_of(lambda: evaluate(folder, "segments", "segments", force=True))
    assert "neither table says how long the video is" in said


def test_frames_a_second_come_from_the_published_table(folder: Path) -> None:
    for name, seed in zip(VIDEOS, range(3), strict=True):
        write_frames(folder / "rc" / "labels" / f"{name}.csv", course(seed))
    rows = [f"{name},{RATE_HZ},100,0" for name in VIDEOS]
    table = "\n".join(["unique_video_name,fps,num_frames,num_lesions", *rows])
    (folder / "rc" / "video_info.csv").write_text(table + "\n")
    assert evaluate(folder, "pred", "rc") == 0


def test_several_models_in_folders_of_their_own(folder: Path) -> None:
    for seed, name in enumerate(VIDEOS):
        write_axis(folder / "models" / "late" / f"{name}.csv", moved(course(seed), 9))
        write_axis(folder / "models" / "early" / f"{name}.csv", moved(course(seed), 2))
    assert evaluate(folder, "models") == 0
    scores = pd.read_csv(folder / "out" / "scores.csv")
    accuracy = scores.groupby("model")["accuracy"].mean()
    assert accuracy["early"] > accuracy["late"]
    assert math.isnan(scores["calibration_error"].iloc[0])


def test_every_fault_is_named_with_its_file_and_nothing_is_written(folder: Path) -> None:
    labels = course(1)
    (folder / "pred" / "001-001.csv").unlink()
    write_axis(folder / "pred" / "002-001.csv", labels[:-3])
    write_axis(folder / "pred" / "004-009.csv", labels)
    broken = folder / "pred" / "003-001.csv"
    broken.write_text(broken.read_text().replace("insertion", "stomach", 1))
    (folder / "pred" / "notes.txt").write_text("mine")
    said = faults_of(lambda: evaluate(folder))
    assert "pred/001-001.csv: no such file: the video 001-001 has labels" in said
    assert "pred/002-001.csv: prediction and reference are not on one time axis" in said
    assert "pred/004-009.csv: no labels of this video" in said
    assert re.search(r"pred/003-001\.csv: row \d+: unknown phase 'stomach'", said)
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time_s,phase\n0,caecum\n0,caecum\n", "row 2: the times do not rise"),
        ("time_s,phase\n0,caecum\nx,caecum\n", "row 2: could not convert"),
        ("time_s,phase\n", "no row in it"),
        ("time_s,phase,confidence\n0,caecum,1.4\n", "row 1: confidence 1.4 is no probability"),
        ("time_s,phase\n0,\n", "row 1: no phase"),
    ],
)
def test_a_broken_table_is_refused_by_row(folder: Path, text: str, message: str) -> None:
    (folder / "pred" / "001-001.csv").write_text(text)
    assert f"pred/001-001.csv: {message}" in faults_of(lambda: evaluate(folder))


def test_a_prediction_that_names_no_phase_somewhere_is_refused(folder: Path) -> None:
    path = folder / "pred" / "001-001.csv"
    path.write_text(path.read_text().replace("insertion", "n.a.", 1))
    assert "pred/001-001.csv: no phase is named at" in faults_of(lambda: evaluate(folder))


def test_frames_are_joined_by_number_never_by_place(folder: Path) -> None:
    for name, seed in zip(VIDEOS, range(3), strict=True):
        write_frames(folder / "a" / f"{name}.csv", course(seed))
        write_frames(folder / "b" / f"{name}.csv", course(seed))
    path = folder / "a" / "002-001.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    assert evaluate(folder, "a", "b", fps=RATE_HZ) == 0
    assert (pd.read_csv(folder / "out" / "scores.csv")["accuracy"] == 1).all()
    path.write_text("\n".join(lines[:-2]) + "\n")
    said = faults_of(lambda: evaluate(folder, "a", "b", fps=RATE_HZ, force=True))
    assert "a/002-001.csv: 2 frames of the reference have no prediction" in said


def test_a_single_table_against_a_single_table(folder: Path) -> None:
    (folder / "ref" / "002-001.csv").rename(folder / "truth.csv")
    assert evaluate(folder, "pred/002-001.csv", "truth.csv") == 0
    assert list(pd.read_csv(folder / "out" / "scores.csv")["video_id"]) == ["002-001"]


def test_videos_without_any_name_are_counted_and_all_of_them_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = np.full(len(course(0)), IGNORED)
    write_axis(folder / "ref" / "001-001.csv", nothing)
    assert evaluate(folder) == 0
    assert "1 videos have no named frame and are in no score: 001-001" in capsys.readouterr().out
    for seed, name in enumerate(VIDEOS):
        write_axis(folder / "ref" / f"{name}.csv", np.full(len(course(seed)), IGNORED))
    assert "no frame of any video is named" in faults_of(lambda: evaluate(folder, force=True))


def test_videos_of_one_patient_are_averaged_when_models_are_compared(folder: Path) -> None:
    from medpipe.stages.score_files import read_arms

    (folder / "p.csv").write_text("video_id,patient_id\n001-001,a\n002-001,a\n003-001,b\n")
    assert evaluate(folder, patients=folder / "p.csv") == 0
    scores = pd.read_csv(folder / "out" / "scores.csv", dtype={"video_id": str}).set_index("video_id")
    kind, arms = read_arms([folder / "out"], ["one"])
    assert kind.what == "phases"
    of_patients = arms["one"].set_index("patient_id")["macro_f1"]
    assert of_patients["a"] == pytest.approx(scores.loc[["001-001", "002-001"], "macro_f1"].mean())
    (folder / "p.csv").write_text("video_id,patient_id\n001-001,a\n")
    assert "no patient of 2 videos" in faults_of(lambda: evaluate(folder, patients=folder / "p.csv", force=True))


def test_an_aborted_procedure_and_a_scope_taken_out_twice(folder: Path) -> None:
    aborted = np.repeat([0, 1, 0], 60).astype(np.int64)
    twice = np.repeat([0, 1, 0, 1, 2, 4, 0, 4, 5, 8], 30).astype(np.int64)
    for video, labels in (("001-001", aborted), ("002-001", twice)):
        for side in ("pred", "ref"):
            write_axis(folder / side / f"{video}.csv", labels)
    assert evaluate(folder) == 0
    scores = pd.read_csv(folder / "out" / "scores.csv").set_index("video_id")
    assert not scores.loc["001-001", "caecum_reached"]
    assert math.isnan(scores.loc["001-001", "withdrawal_s"])
    assert math.isnan(scores.loc["001-001", "published_withdrawal_error"])
    assert scores.loc["002-001", "withdrawal_s"] == pytest.approx(6 * 30 / RATE_HZ)
    assert scores.loc["002-001", "withdrawal_net_s"] == pytest.approx(5 * 30 / RATE_HZ)
    pooled = json.loads((folder / "out" / "summary.json").read_text())["scores"]["pred"]["pooled"]
    assert pooled["withdrawal_undefined"] == 1
    assert "not reached" in (folder / "out" / "report.html").read_text()


def test_options_of_other_forms_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="--structures, --part: means nothing for predicted phases"):
        evaluate(folder, structures=("rectum",), part="test")
    with pytest.raises(ConfigError, match="a folder of REFERENCES is needed"):
        evaluate(folder, ref=None)


def test_phases_are_named_as_everywhere(folder: Path) -> None:
    path = folder / "ref" / "001-001.csv"
    path.write_text(path.read_text().replace("caecum", "Ceacum "))
    assert evaluate(folder) == 0
    assert pd.read_csv(folder / "out" / "scores.csv")["f1_caecum"].notna().all()
    assert len(PHASES) == 9
