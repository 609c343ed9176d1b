"""The same training on one, two and four processes, in turns, in shards; stopped, killed, gone on with by others."""

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

PROGRAM = Path(__file__).with_name("processes_program.py")
KINDS = ("segmentation", "segmentation_sigmoid_batch", "sparse", "teacher", "dense", "phases", "questions")
REQUEUE, FAILED = 75, 1
# Rounding of float32, of sums in another order: what was seen is at most 2e-6 of a loss, 3e-6 of a weight.
LOSS, WEIGHT = 1e-5, 2e-5


class Jobs:
    """Jobs of several processes each, forked from a program that has imported everything."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(PROGRAM.parents[2]), "OMP_NUM_THREADS": "1"}
        self.server = subprocess.Popen(
            [sys.executable, str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, **request: Any) -> list[int]:
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        return json.loads(self.server.stdout.readline())

    def start(self, world: int, folders: dict[str, Path], **values: Any) -> list[int]:
        trainings = [{"kind": kind, "folder": str(folder), "values": values} for kind, folder in folders.items()]
        return self.ask(world=world, trainings=trainings)

    def run(self, world: int, folders: dict[str, Path], **values: Any) -> list[int]:
        return self.ask(wait=self.start(world, folders, **values))


@pytest.fixture(scope="module")
def jobs() -> Iterator[Jobs]:
    jobs = Jobs()
    yield jobs
    assert jobs.server.stdin is not None
    jobs.server.stdin.close()
    jobs.server.wait(30)


def rows(folder: Path) -> list[dict[str, str]]:
    path = folder / "metrics.csv"
    if not path.exists():
        return []
    return list(csv.DictReader(path.read_text().rpartition("\n")[0].splitlines()))


def curve(folder: Path) -> list[float]:
    return [float(row["loss"]) for row in rows(folder)]


def weights(folder: Path) -> torch.Tensor:
    handed_over = torch.load(folder / "handed_over.pt", weights_only=True)
    return torch.cat([tensor.double().flatten() for tensor in handed_over.values()])


def logs(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(folder.parent.glob(f"{folder.name}.*.log")))


def assert_same(folder: Path, expected: Path) -> None:
    assert curve(folder) == pytest.approx(curve(expected), rel=LOSS), folder.name
    torch.testing.assert_close(weights(folder), weights(expected), rtol=0, atol=WEIGHT)
    scores = [[row["seen"] for row in rows(place) if row["seen"]] for place in (folder, expected)]
    assert scores[0] == scores[1] == ["5.0", "5.0"], "each case of a validation is seen once, by one process"


def wait_for_step(folder: Path, step: int) -> None:
    deadline = time.monotonic() + 120
    while len(rows(folder)) < step:
        assert time.monotonic() < deadline, logs(folder)
        time.sleep(0.02)


# One process in turns; two; two in turns; four; two with the weights in shards.
SPLITS: dict[str, tuple[int, dict[str, Any]]] = {
    "two": (2, {}),
    "one_in_turns": (1, {"samples_at_once": 3}),
    "four": (4, {}),
    "two_in_turns": (2, {"samples_at_once": 1}),
    "shards": (2, {"strategy": "fsdp"}),
}


@pytest.fixture(scope="module")
def alone(jobs: Jobs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every kind of training on one process."""
    root = tmp_path_factory.mktemp("alone")
    folders = {kind: root / kind for kind in KINDS}
    assert jobs.run(1, folders) == [0], logs(folders[KINDS[0]])
    return folders


@pytest.mark.long
@pytest.mark.parametrize("split", SPLITS)
def test_the_curve_does_not_depend_on_how_the_batch_is_split(
    split: str, jobs: Jobs, alone: dict[str, Path], tmp_path: Path
) -> None:
    world, values = SPLITS[split]
    folders = {kind: tmp_path / kind for kind in KINDS}
    assert jobs.run(world, folders, **values) == [0] * world, logs(folders[KINDS[0]])
    for kind in KINDS:
        assert_same(folders[kind], alone[kind])
    assert "Warning" not in logs(folders[KINDS[0]])


@pytest.mark.long
def test_two_processes_learn_as_one_and_a_fault_of_one_ends_both(jobs: Jobs, tmp_path: Path) -> None:
    one, two, broken = ({"phases": tmp_path / name / "phases"} for name in ("one", "two", "broken"))
    for folders in (one, two, broken):
        folders["phases"].parent.mkdir()
    assert jobs.run(1, one) == [0], logs(one["phases"])
    assert jobs.run(2, two) == [0, 0], logs(two["phases"])
    assert_same(two["phases"], one["phases"])
    began = time.monotonic()
    assert jobs.run(2, broken, fail_in=1) == [FAILED, FAILED]
    assert time.monotonic() - began < 30
    first = broken["phases"].with_name("phases.0.log").read_text()
    assert "OtherProcessFailed: process 1 of 2" in first
    assert "ValueError: planted" in first


@pytest.mark.long
def test_a_batch_that_does_not_divide_is_refused_with_what_would(jobs: Jobs, tmp_path: Path) -> None:
    folder = tmp_path / "phases"
    assert jobs.run(3, {"phases": folder}) == [FAILED] * 3
    assert "does not divide by 3 processes; start 1, 2, 4 of them, or set batch_size to 6" in logs(folder)


@pytest.mark.slow
def test_a_stop_of_one_process_stops_all_at_a_step_and_others_go_on(jobs: Jobs, tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert jobs.run(1, {"phases": whole}, num_steps=12) == [0], logs(whole)
    # Two processes, one of which is asked to stop; then one; then four that lose one without a word; then two.
    started = jobs.start(2, {"phases": stopped}, num_steps=12, seconds_a_step=0.2)
    wait_for_step(stopped, 2)
    os.kill(started[1], signal.SIGTERM)
    assert jobs.ask(wait=started) == [REQUEUE, REQUEUE], logs(stopped)
    step = torch.load(stopped / "checkpoint.ckpt", weights_only=True)["step"]
    assert 2 <= step < 12
    assert step - 1 <= len(rows(stopped)) <= step  # the row of a step whose validation was cut off comes later

    started = jobs.start(1, {"phases": stopped}, num_steps=12, seconds_a_step=0.2)
    wait_for_step(stopped, step + 2)
    os.kill(started[0], signal.SIGTERM)
    assert jobs.ask(wait=started) == [REQUEUE], logs(stopped)

    started = jobs.start(4, {"phases": stopped}, num_steps=12, seconds_a_step=0.2, save_every_steps=1)
    wait_for_step(stopped, step + 4)
    os.kill(started[3], signal.SIGKILL)
    assert jobs.ask(wait=started) == [REQUEUE] * 3 + [-signal.SIGKILL], logs(stopped)
    assert torch.load(stopped / "checkpoint.ckpt", weights_only=True)["step"] >= step + 3

    assert jobs.run(2, {"phases": stopped}, num_steps=12) == [0, 0], logs(stopped)
    assert curve(stopped) == pytest.approx(curve(whole), rel=LOSS)
    torch.testing.assert_close(weights(stopped), weights(whole), rtol=0, atol=WEIGHT)
