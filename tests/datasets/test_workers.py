"""Real worker processes, really killed. Functions come from the standard library, so that a worker can import them."""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medpipe.datasets.workers import StopRequested, WorkerDied, work_through
from medpipe.geometry.faults import DataFault
from medpipe.geometry.nifti import read_volume

GIB = 1024**3


def names(count: int) -> list[str]:
    return [f"case_{index}" for index in range(count)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_the_order_of_the_items(jobs: int) -> None:
    seen: list[int] = []
    results = work_through(abs, [-3, 2, -1, 0, 7], names=names(5), jobs=jobs, on_result=lambda i, r: seen.append(i))
    assert results == [3, 2, 1, 0, 7]
    assert sorted(seen) == [0, 1, 2, 3, 4]


def test_a_killed_worker_is_named_with_its_case_signal_and_estimate() -> None:
    with pytest.raises(WorkerDied, match=r"case_1 was killed by signal 9 \(SIGKILL\).*ran out of memory.*64 MiB") as e:
        work_through(
            signal.raise_signal,
            [signal.SIGCONT, signal.SIGKILL],
            names=names(2),
            jobs=2,
            bytes_per_item=[1024**2, 64 * 1024**2],
        )
    assert "case_0" not in str(e.value)


def test_a_worker_that_exits_is_named_with_its_exit_code() -> None:
    with pytest.raises(WorkerDied, match=r"case_\d ended without an answer, with exit code 3"):
        work_through(os._exit, [3, 3], names=names(2), jobs=2)


def test_an_exception_keeps_its_type_and_gains_the_case_and_the_workers_traceback(tmp_path: Path) -> None:
    with pytest.raises(DataFault) as caught:
        work_through(read_volume, [tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"], names=names(2), jobs=2)
    notes = "\n".join(caught.value.__notes__)
    assert "while working on case_" in notes
    assert "in read_volume" in notes


def test_an_exception_in_this_process_names_the_case(tmp_path: Path) -> None:
    with pytest.raises(DataFault) as caught:
        work_through(read_volume, [tmp_path / "a.nii.gz"], names=["gyn_017"], jobs=1)
    assert caught.value.__notes__ == ["while working on gyn_017"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_request_to_stop_ends_the_work_within_a_second(jobs: int) -> None:
    seen: list[int] = []
    start = time.monotonic()
    with pytest.raises(StopRequested):
        work_through(
            time.sleep,
            [0.01, 0.01, *([20.0] * 4)] if jobs == 2 else [0.01] * 6,
            names=names(6),
            jobs=jobs,
            should_stop=lambda: len(seen) >= 2,
            on_result=lambda index, result: seen.append(index),
        )
    # Starting two interpreters takes a few seconds on a busy machine; waiting for the sleepers would take 20 or more.
    assert time.monotonic() - start < 18
    assert len(seen) < 6


def test_jobs_that_would_not_fit_into_memory_are_not_started_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert work_through(abs, [-1, -2], names=names(2), jobs=2, bytes_per_item=[GIB, 10**6 * GIB]) == [1, 2]
    assert "cases: the largest case may take 1000000.0 GiB" in caplog.text


def test_a_program_without_a_guard_is_not_run_again_by_its_workers(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "print('started', flush=True)\n"
        "from medpipe.datasets.workers import work_through\n"
        "print(work_through(abs, [-1, -2], names=['a', 'b'], jobs=2), flush=True)\n"
    )
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run(
        [sys.executable, program],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert run.stdout.split("\n") == ["started", "[1, 2]", ""], run.stderr


def test_workers_end_with_a_killed_parent() -> None:
    program = (
        "import time, multiprocessing as m\n"
        "from medpipe.datasets.workers import work_through\n"
        "if __name__ == '__main__':\n"
        "    work_through(abs, [1, 2], names=['a', 'b'], jobs=2, on_result=lambda i, r: print(\n"
        "        *[p.pid for p in m.active_children()], flush=True) or time.sleep(60))\n"
    )
    root = Path(__file__).resolve().parents[2]
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=root)
    assert parent.stdout is not None
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert len(workers) == 2
    deadline = time.monotonic() + 10
    while any(is_running(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(is_running(pid) for pid in workers)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
