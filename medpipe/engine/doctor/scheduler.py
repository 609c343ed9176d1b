"""Slurm as seen from a login or compute node: its commands, munge, its controller, its nodes."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from medpipe.engine.doctor.finding import Finding

COMMANDS = ("sbatch", "srun", "squeue", "scontrol", "scancel")


def scheduler_findings() -> Iterator[Finding]:
    """Each part in the order in which one is needed by the next."""
    missing = [command for command in COMMANDS if shutil.which(command) is None]
    if missing:
        text = f"not found: {', '.join(missing)}"
        yield Finding("Slurm's commands", "fault", text, "module load slurm, or go to a login node of the cluster")
    else:
        yield Finding("Slurm's commands", "ok", answer(["sbatch", "--version"])[1])
    yield from munge()
    if not missing:
        yield from controller()


def munge() -> Iterator[Finding]:
    """munge signs what Slurm's commands say; without it they fail with 'Protocol authentication error'."""
    if shutil.which("munge") is None:
        remedy = "have munge installed on this node (apt-get install munge), with the cluster's key"
        yield Finding("munge", "fault", "the command munge is not installed", remedy)
        return
    socket = munge_socket()
    words = ["munge", "-n", *([f"--socket={socket}"] if socket else [])]
    good, text = answer(words)
    if good:
        yield Finding("munge", "ok", "signs")
    else:
        yield Finding("munge", "fault", f"munged does not answer: {text}", "have munged started on this node")


def munge_socket() -> str | None:
    """The socket that slurm.conf names, where it names one."""
    try:
        text = Path(os.environ.get("SLURM_CONF", "/etc/slurm/slurm.conf")).read_text(encoding="utf-8")
    except OSError:
        return None
    for part in text.replace(",", "\n").splitlines():
        if "socket=" in part:
            return part.split("socket=")[1].strip()
    return None


def controller() -> Iterator[Finding]:
    """slurmctld answers, and has nodes that work."""
    good, text = answer(["scontrol", "ping"])
    if not good or "UP" not in text:
        yield Finding("slurmctld", "fault", text or "no answer", "check SLURM_CONF and munge; tell the administrators")
        return
    yield Finding("slurmctld", "ok", text.splitlines()[0])
    good, text = answer(["sinfo", "-h", "-o", "%P %D %t %G"])
    if good:
        partitions = [line.split() for line in text.splitlines()]
        usable = [row for row in partitions if row[2].rstrip("*~#$@+-") in ("idle", "mix", "alloc", "comp", "plnd")]
        shown = "; ".join(
            f"{row[0]} {row[1]} {row[2]}" + (f" {row[3]}" if row[3] != "(null)" else "") for row in partitions
        )
        remedy = "" if usable else "every node is down or drained: sinfo -R says why"
        yield Finding("nodes", "ok" if usable else "fault", shown or "none", remedy)
    good, text = answer(["sacct", "-n", "-X", "-S", "now"])
    if not good:
        yield Finding("accounting", "warning", f"sacct: {text}", "states of jobs are known for MinJobAge only")


def answer(words: Sequence[str]) -> tuple[bool, str]:
    """Whether a command went well, and its words."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, str(error)
    text = (done.stdout if done.returncode == 0 else done.stderr or done.stdout).strip()
    return done.returncode == 0, text.splitlines()[0] if text and done.returncode else text
