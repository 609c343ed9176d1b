"""What is asked of Slurm: sbatch, squeue, sacct, scontrol, scancel."""

import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from medpipe.engine.cluster.job_list import JobList

# States in which a job still holds or awaits resources.
ALIVE = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED", "SUSPENDED", "RESIZING", "SIGNALING")


class SlurmFault(RuntimeError):
    """A command of Slurm is missing or failed; the text is its own."""


@dataclass(frozen=True)
class JobState:
    """One job or one task of an array."""

    job: str
    state: str
    reason: str = ""
    node: str = ""
    exit_code: str = ""
    elapsed: str = ""

    @property
    def alive(self) -> bool:
        return self.state.startswith(ALIVE)


def call(words: Sequence[str], *, timeout: float = 60) -> str:
    """What a command prints. Raises SlurmFault."""
    if shutil.which(words[0]) is None:
        raise SlurmFault(f"{words[0]} is not on this machine; submit from a login node of the cluster")
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise SlurmFault(f"{words[0]} gave no answer within {timeout:.0f} s") from error
    if done.returncode:
        raise SlurmFault(f"{words[0]}: {(done.stderr or done.stdout).strip() or f'exit code {done.returncode}'}")
    return done.stdout


def sbatch(script: Path, needs: Iterable[str], *, test_only: bool = False) -> str:
    """Submit; the job's id."""
    needed = ":".join(needs)
    after = [f"--dependency=afterok:{needed}"] if needed else []
    answer = call(["sbatch", "--parsable", *(["--test-only"] if test_only else []), *after, str(script)])
    return answer.strip().split(";")[0]


def states(jobs: Iterable[str]) -> dict[str, JobState]:
    """Job id (`12`, or `12_3` for a task of an array) -> its state, from the queue, else from what is kept of it.

    Jobs that Slurm has forgotten are left out. Raises SlurmFault where it does not answer.
    """
    wanted = list(dict.fromkeys(jobs))
    if not wanted:
        return {}
    found = from_accounting(wanted)
    for job in wanted:
        found |= from_controller(job)
    return found


def from_controller(job: str) -> dict[str, JobState]:
    """From `scontrol show job`, which knows jobs for some minutes after their end (MinJobAge)."""
    try:
        lines = call(["scontrol", "show", "job", job, "-o"]).splitlines()
    except SlurmFault as fault:
        if "Invalid job id" in str(fault):
            return {}
        raise
    found = {}
    for line in lines:
        values = dict(re.findall(r"(\w+)=(\S*)", line))
        if "JobState" not in values:
            continue
        task = values.get("ArrayTaskId")
        name = job if task is None else f"{values['ArrayJobId']}_{task}"
        reason = "" if values.get("Reason") == "None" else values.get("Reason", "")
        node = "" if values.get("NodeList") in ("(null)", None) else values["NodeList"]
        found[name] = JobState(
            name, values["JobState"], reason, node, values.get("ExitCode", ""), values.get("RunTime", "")
        )
    return found


def from_accounting(jobs: Sequence[str]) -> dict[str, JobState]:
    """From `sacct`; empty where the cluster keeps no accounts."""
    try:
        text = call(
            ["sacct", "-X", "-n", "-P", "-j", ",".join(jobs), "-o", "JobID,State,Reason,NodeList,ExitCode,Elapsed"]
        )
    except SlurmFault:
        return {}
    rows = [line.split("|") for line in text.splitlines() if line.count("|") == 5]
    return {row[0]: JobState(row[0], row[1].split()[0], *row[2:]) for row in rows}


def scancel(jobs: Sequence[str]) -> None:
    """End jobs, whether they wait or run. Raises SlurmFault."""
    call(["scancel", *jobs])


def refuse_running(listed: JobList, run_folder: Path) -> None:
    """A run's stages are in the queue once. Raises SlurmFault."""
    known = states(job.job for job in listed.latest().values())
    alive = sorted({state.job.split("_")[0] for state in known.values() if state.alive})
    if alive:
        raise SlurmFault(
            f"{run_folder}: its jobs {', '.join(alive)} are still in the queue; wait, or end them by "
            f"medpipe cancel {run_folder}, or choose another --name"
        )
