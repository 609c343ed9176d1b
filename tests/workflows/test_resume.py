"""A run that is stopped or killed ends with the weights of one that was not, for every kind of training stage."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file

pytestmark = pytest.mark.long

COMMAND = [sys.executable, "-m", "medpipe.cli"]
STAGES = {"pretrain": "ct_pretraining", "organs": "multi_organ_segmentation"}  # stage -> a workflow that has it
STEPS = 24


def arguments(stage: str, cache: Path) -> list[str]:
    training = (
        "training.save_every_steps=4",
        "training.num_workers=2",
        "training.batch_size=2",
        "training.ema_decay=0.9",
    )
    values = [f"{stage}.{value}" for value in training]
    return [
        "run",
        STAGES[stage],
        "-o",
        "smoke",
        "--until",
        stage,
        f"data.cache={cache}",
        f"{stage}.training.num_steps={STEPS}",
        *values,
    ]


def interrupt(folder: Path, command: list[str], stage: str, number: signal.Signals, *, after_rows: int) -> int:
    """Start the run, send the signal once so many steps are in its metrics, and give the exit code."""
    metrics = next(iter(folder.glob(f"runs/*/smoke/{stage}/metrics.csv")), None)
    process = subprocess.Popen([*COMMAND, *command], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 280
    while time.monotonic() < until and process.poll() is None:
        metrics = metrics or next(iter(folder.glob(f"runs/*/smoke/{stage}/metrics.csv")), None)
        if metrics is not None and len(metrics.read_text().splitlines()) > after_rows:
            process.send_signal(number)
            break
        time.sleep(0.02)
    return process.wait(timeout=120)


@pytest.mark.parametrize("stage", STAGES)
def test_killed_and_stopped_in_the_middle_ends_with_the_same_weights(
    stage: str, tmp_path: Path, cache: Path, medpipe
) -> None:
    command = arguments(stage, cache)
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    undisturbed.mkdir()
    disturbed.mkdir()
    assert medpipe(undisturbed, *command).returncode == 0

    assert interrupt(disturbed, command, stage, signal.SIGKILL, after_rows=6) == -signal.SIGKILL
    assert interrupt(disturbed, command, stage, signal.SIGTERM, after_rows=10) == 75
    finished = medpipe(disturbed, *command)
    assert finished.returncode == 0, finished.stderr
    assert "going on from step" in finished.stdout

    first, second = (
        load_file(next(folder.glob(f"runs/*/smoke/{stage}/weights.safetensors"))) for folder in (undisturbed, disturbed)
    )
    assert first.keys() == second.keys()
    assert all((first[name] == second[name]).all() for name in first)
    metrics = next(disturbed.glob(f"runs/*/smoke/{stage}/metrics.csv")).read_text().splitlines()
    assert [row.split(",")[0] for row in metrics[1:]] == [str(step) for step in range(1, STEPS + 1)]
