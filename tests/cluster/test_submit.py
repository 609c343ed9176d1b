"""`medpipe submit`, `status` and `cancel` on a real Slurm of two virtual nodes."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.numpy import load_file

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

OVERLAY = str(Path(__file__).parent / "virtual.yaml")
VALUES = [
    "brachytherapy.folds={count: 3, run: [0, 1, 2]}", "organs.training.batch_size=2", "predict.prediction.overlap=0.5",
]  # fmt: skip
TWO_TASKS = "cluster.stages={organs: {nodes: 2}}"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "medpipe"]
NAME = 'it\'s "a" $(touch spoilt) 100%j'  # to shells, to directives of sbatch, and to Slurm's patterns


def events_of(run: Path) -> list[dict[str, Any]]:
    """What the wrappers of all jobs told, in order."""
    lines = [line for path in (run / "cluster" / "events").iterdir() for line in path.read_text().splitlines()]
    return sorted((json.loads(line) for line in lines), key=lambda event: event["time"])


def started_and_done(run: Path) -> dict[str, tuple[str, str]]:
    """Job of a stage -> when it first started, when its last part was done."""
    times = {}
    for job in json.loads((run / "cluster" / "jobs.json").read_text())["jobs"]:
        paths = (run / "cluster" / "events").glob(f"{job['job']}[._]*")
        events = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
        times[job["name"]] = (
            min(event["time"] for event in events if event["event"] == "start"),
            max(event["time"] for event in events if event["event"] == "done"),
        )
    return times


def test_demo_workflow_runs_through_with_the_scores_of_a_local_run(
    tmp_path: Path, cache: Path, cluster: dict[str, str], medpipe: Callable, wait_for_jobs: Callable
) -> None:
    values = [*VALUES, f"data.cache={cache}"]
    to_submit = ["submit", "gynecologic_brachytherapy", "-o", "smoke", "-o", OVERLAY, "-n", NAME, *values, TWO_TASKS]
    submitted = medpipe(tmp_path, *to_submit)
    assert submitted.returncode == 0, submitted.stderr
    run = tmp_path / "runs" / "gynecologic_brachytherapy" / NAME
    again = medpipe(tmp_path, *to_submit)
    assert again.returncode == 1
    assert "still in the queue" in again.stderr
    wait_for_jobs(run)

    status = json.loads(medpipe(tmp_path, "status", str(run), "--json").stdout)
    assert [stage["ledger"] for stage in status["stages"]] == ["", *["done"] * 8], status
    assert not (tmp_path / "spoilt").exists()
    assert (run / "report.html").is_file()

    times = started_and_done(run)
    for job in json.loads((run / "cluster" / "jobs.json").read_text())["jobs"]:
        for needed in job["needs"]:
            assert times[needed][1] <= times[job["name"]][0], f"{job['name']} started before {needed} was done"
    assert {event["node"] for event in events_of(run)} == {"n1", "n2"}
    parts = json.loads((run / "brachytherapy" / "done.json").read_text())
    assert {start["part"] for start in parts["starts"] if "part" in start} == {f"part {n} of 3" for n in (1, 2, 3)}

    record = json.loads((run / "record.json").read_text())
    sizes = {
        name: (session["processes"], session["nodes"]) for session in record["sessions"] for name in session["stages"]
    }
    assert sizes["organs"] == (2, 2)
    assert sizes["pretrain"] == (1, 1)

    local = ["gynecologic_brachytherapy", "-o", "smoke", "-n", "local", *values]
    for words in (["run", *local, "--until", "pretrain"], ["run", *local]):
        done = medpipe(tmp_path, *words)
        assert done.returncode == 0, done.stderr
        if "--until" in words:
            subprocess.run([*TORCHRUN, "run", *local, "--only", "organs"], cwd=tmp_path, env=cluster, check=True)
    beside = run.parent / "local"
    scores = "evaluate/scores.csv"
    assert (run / scores).read_bytes() == (beside / scores).read_bytes()

    nothing = medpipe(tmp_path, *to_submit)
    assert nothing.returncode == 0
    assert "all 8 stages are finished" in nothing.stdout


STEPS = 24
TRAINING = [
    "-o", "smoke", "-o", OVERLAY, "--until", "organs", f"organs.training.num_steps={STEPS}",
    "organs.training.save_every_steps=4", "organs.training.batch_size=2", TWO_TASKS,
]  # fmt: skip


def plain(values: list[str]) -> list[str]:
    """The values that a run without a cluster takes too."""
    return [value for value in values if value not in ("-o", OVERLAY, "smoke", "--until", "organs", TWO_TASKS)]


def rows(run: Path) -> int:
    """Steps whose figures are on disk."""
    path = run / "organs" / "metrics.csv"
    return max(0, len(path.read_text().splitlines()) - 1) if path.is_file() else 0


def wait_for_rows(run: Path, count: int, *, timeout: float = 240) -> None:
    until = time.monotonic() + timeout
    while rows(run) < count:
        assert time.monotonic() < until, f"only {rows(run)} of {count} steps; {events_of(run)}"
        time.sleep(0.1)


def processes_of(run: Path, part_of_command: str) -> dict[int, psutil.Process]:
    """Rank -> its process, of a stage under way; the loaders' processes are left out."""
    found = {}
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if part_of_command in words and words[0] == sys.executable and process_cwd(process) == str(run.parents[2]):
            rank = int(process.environ()["SLURM_PROCID"])
            found[rank] = min(found.get(rank, process), process, key=lambda one: one.create_time())
    return found


def process_cwd(process: psutil.Process) -> str:
    try:
        return process.cwd()
    except psutil.Error:
        return ""


def test_requeued_stopped_and_killed_it_ends_with_the_undisturbed_weights(
    tmp_path: Path, cache: Path, cluster: dict[str, str], medpipe: Callable, wait_for_jobs: Callable
) -> None:
    values = [*TRAINING, f"data.cache={cache}"]
    submitted = medpipe(tmp_path, "submit", "multi_organ_segmentation", "-n", "disturbed", *values)
    assert submitted.returncode == 0, submitted.stderr
    run = tmp_path / "runs" / "multi_organ_segmentation" / "disturbed"
    job = json.loads((run / "cluster" / "jobs.json").read_text())["jobs"][-1]["job"]

    def slurm(*words: str) -> None:
        subprocess.run(words, env=cluster, check=True, timeout=30)

    wait_for_rows(run, 3)
    slurm("scontrol", "requeue", job)
    time.sleep(3)
    wait_for_rows(run, rows(run) + 3)
    for process in processes_of(run, "--only=organs").values():  # as a preemption with a time of grace does
        process.terminate()
    time.sleep(3)
    wait_for_rows(run, rows(run) + 3)
    processes_of(run, "--only=organs")[1].kill()
    wait_for_jobs(run)

    done = json.loads((run / "organs" / "done.json").read_text())
    outcomes = [start["outcome"] for start in done["starts"]]
    assert outcomes == ["stopped by SIGTERM", "stopped by SIGTERM", "a process was lost", "done"]
    assert {start["job"] for start in done["starts"]} == {job}
    assert [start["restarts"] for start in done["starts"]] == [0, 1, 2, 3]
    told = [event["event"] for event in events_of(run)]
    assert (told.count("ended"), told.count("requeue")) == (1, 2), "the first was put back by scontrol already"
    log = next((run / "cluster" / "logs").glob("02-organs-*.log")).read_text()
    assert log.count("starts on n") == 4, "the log of all four starts is there"
    table = (run / "organs" / "metrics.csv").read_text().splitlines()
    assert [int(row.split(",")[0]) for row in table[1:]] == list(range(1, STEPS + 1)), "each step once"

    local = ["run", "multi_organ_segmentation", "-o", "smoke", "-n", "undisturbed", *plain(values)]
    assert medpipe(tmp_path, *local, "--until", "intensity").returncode == 0
    subprocess.run([*TORCHRUN, *local, "--only", "organs"], cwd=tmp_path, env=cluster, check=True, timeout=300)
    weights, expected = (
        load_file(run.parent / name / "organs" / "weights.safetensors") for name in ("disturbed", "undisturbed")
    )
    assert all((weights[name] == expected[name]).all() for name in expected)


def test_a_time_limit_near_saves_and_requeues_and_the_cap_ends_that(
    tmp_path: Path, cache: Path, medpipe: Callable, wait_for_jobs: Callable
) -> None:
    limits = ["cluster.requeue={grace_seconds: 30, at_most: 1}", "cluster.stages={organs: {hours: 0.0166, nodes: 1}}"]
    values = [*TRAINING, f"data.cache={cache}", *limits, "organs.training.num_steps=4000"]
    submitted = medpipe(tmp_path, "submit", "multi_organ_segmentation", "-n", "limit", *values)
    assert submitted.returncode == 0, submitted.stderr
    run = tmp_path / "runs" / "multi_organ_segmentation" / "limit"
    wait_for_jobs(run)
    starts = json.loads((run / "organs" / "begun.json").read_text())["starts"]
    assert len(starts) == 2
    assert {start["outcome"] for start in starts} <= {"stopped by SIGUSR1", "stopped by the end of the job's time"}
    status = medpipe(tmp_path, "status", str(run)).stdout
    assert "more than requeue.at_most=1 allows" in status
    assert "submit again" in status


def test_wrong_data_end_the_first_job_and_nothing_else_starts(
    tmp_path: Path, cache: Path, medpipe: Callable, wait_for_jobs: Callable
) -> None:
    """A stage that fails tells why; what depends on it is taken out of the queue and says so."""
    values = ["-o", "smoke", "-o", OVERLAY, "--until", "predict", f"data.cache={cache}", "cluster.check_data=false"]
    values += ["cluster.environment={kind: shell, setup: ['false']}"]
    assert medpipe(tmp_path, "submit", "multi_organ_segmentation", "-n", "broken", *values).returncode == 0
    run = tmp_path / "runs" / "multi_organ_segmentation" / "broken"
    wait_for_jobs(run)
    assert [event["event"] for event in events_of(run)] == ["start", "failed"]
    status = medpipe(tmp_path, "status", str(run)).stdout
    assert "the set-up of the environment failed" in status
    assert "ended because organs" in status


def test_cancel_ends_waiting_and_running_jobs_and_nothing_comes_back(
    tmp_path: Path, cache: Path, cluster: dict[str, str], medpipe: Callable, wait_for_jobs: Callable
) -> None:
    values = [*TRAINING, f"data.cache={cache}"]
    assert medpipe(tmp_path, "submit", "multi_organ_segmentation", "-n", "cancelled", *values).returncode == 0
    run = tmp_path / "runs" / "multi_organ_segmentation" / "cancelled"
    wait_for_rows(run, 3)
    cancelled = medpipe(tmp_path, "cancel", str(run))
    assert cancelled.returncode == 0, cancelled.stderr
    wait_for_jobs(run)
    time.sleep(2)
    queue = subprocess.run(["squeue", "-h"], env=cluster, capture_output=True, text=True, timeout=30).stdout
    assert queue == ""
    assert "requeue" not in [event["event"] for event in events_of(run)]
    assert "it was cancelled; submit again" in medpipe(tmp_path, "status", str(run)).stdout
    assert "no job of this run waits or runs" in medpipe(tmp_path, "cancel", str(run)).stdout


CPU_OVERLAYS = ("slurm", "slurm_apptainer")


@pytest.mark.parametrize("overlay", CPU_OVERLAYS)
def test_slurm_takes_every_script_that_asks_for_no_gpu(
    overlay: str, tmp_path: Path, cluster: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from medpipe.config.share import share_folder
    from medpipe.engine.cluster.jobs import plan_jobs
    from medpipe.engine.cluster.submitting import files_of, place_of
    from medpipe.engine.workflow import load_workflow

    monkeypatch.chdir(tmp_path)
    tried = 0
    for path in sorted(share_folder("workflows").glob("*.yaml")):
        place = place_of(load_workflow(str(path), [overlay]), Path("runs"), "default")
        for file, text in files_of(place, plan_jobs(place)):
            if file == "wrapper.sh" or "--gpus-per-node" in text:
                continue
            (tmp_path / file).write_text(text)
            answer = subprocess.run(
                ["sbatch", "--test-only", file], cwd=tmp_path, env=cluster, capture_output=True, text=True, timeout=30
            )
            assert answer.returncode == 0, f"{path.stem} {file}: {answer.stderr}"
            tried += 1
    assert tried >= 20
