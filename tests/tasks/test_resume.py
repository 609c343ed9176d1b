"""A training that is stopped or killed, and started again, ends with the weights of one that was left alone."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

PROGRAM = Path(__file__).with_name("training_program.py")
NUM_STEPS = 14
REQUEUE = 75


class Trainings:
    """Trainings in processes of their own."""

    def __init__(self) -> None:
        root = PROGRAM.parents[2]
        # Passive: threads that wait actively for each other take ten times as long on a busy machine.
        omp = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}
        environment = {**os.environ, "PYTHONPATH": str(root), **omp}
        self.server = subprocess.Popen(
            [sys.executable, str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, **request: Any) -> int:
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        return int(self.server.stdout.readline())

    def run(self, kind: str, folder: Path, *, kill: signal.Signals | None = None, after_step: int = 0) -> int:
        """The exit code of a training, to which `kill` is sent once `after_step` is in its metrics."""
        process = self.ask(kind=kind, folder=str(folder))
        deadline = time.monotonic() + 60
        while kill is not None and last_step(folder) < after_step:
            assert time.monotonic() < deadline, folder.with_suffix(".log").read_text()
            time.sleep(0.01)
        if kill is not None:
            os.kill(process, kill)
        return self.ask(wait=process)


def last_step(folder: Path) -> int:
    path = folder / "metrics.csv"
    if not path.exists():
        return 0
    whole = path.read_text().rpartition("\n")[0].splitlines()
    return int(whole[-1].split(",")[0]) if len(whole) > 1 else 0


@pytest.fixture(scope="module")
def trainings() -> Iterator[Trainings]:
    trainings = Trainings()
    yield trainings
    assert trainings.server.stdin is not None
    trainings.server.stdin.close()
    trainings.server.wait(30)


def tensors(value: Any, path: str = "") -> dict[str, torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return {path: value}
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {name: tensor for key, entry in entries for name, tensor in tensors(entry, f"{path}/{key}").items()}


def assert_same(folder: Path, expected: Path) -> None:
    for name in ("checkpoint.ckpt", "handed_over.pt"):
        ours, theirs = (torch.load(place / name, weights_only=True) for place in (folder, expected))
        assert tensors(ours).keys() == tensors(theirs).keys()
        for key, tensor in tensors(ours).items():
            assert torch.equal(tensor, tensors(theirs)[key]), key
        assert ours.get("best_score") == theirs.get("best_score")
    rows, expected_rows = (list(csv.DictReader((place / "metrics.csv").open())) for place in (folder, expected))
    assert [int(row["step"]) for row in rows] == list(range(1, NUM_STEPS + 1))
    assert rows == expected_rows
    assert {path.name for path in folder.iterdir()} == {path.name for path in expected.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["segmentation", "sparse", "teacher"])
def test_a_stopped_and_a_killed_training_end_with_the_weights_of_an_uninterrupted_one(
    kind: str, trainings: Trainings, tmp_path: Path
) -> None:
    whole, stopped, killed = (tmp_path / name for name in ("whole", "stopped", "killed"))
    assert trainings.run(kind, whole) == 0, whole.with_suffix(".log").read_text()

    assert trainings.run(kind, stopped, kill=signal.SIGTERM, after_step=5) == REQUEUE
    saved = torch.load(stopped / "checkpoint.ckpt", weights_only=True)
    assert 5 <= saved["step"] < NUM_STEPS
    assert trainings.run(kind, stopped) == 0, stopped.with_suffix(".log").read_text()
    assert_same(stopped, whole)

    # The last saves are from steps 3 and 6 (9): steps in between are done twice.
    assert trainings.run(kind, killed, kill=signal.SIGKILL, after_step=5) == -signal.SIGKILL
    assert trainings.run(kind, killed, kill=signal.SIGKILL, after_step=10) == -signal.SIGKILL
    assert trainings.run(kind, killed) == 0, killed.with_suffix(".log").read_text()
    assert_same(killed, whole)
    # Neither Lightning nor torch says a word (the workers of a killed process may).
    assert whole.with_suffix(".log").read_text() == stopped.with_suffix(".log").read_text() == ""
