"""What is kept of a run so that any number in its report can be traced: versions, revision, host, hours, memory."""

import importlib.metadata
import os
import platform
import resource
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medpipe.version import __version__

PACKAGES = (
    "torch", "pytorch-lightning", "monai", "numpy", "scipy", "pandas", "nibabel", "SimpleITK", "pydicom", "pydantic",
    "safetensors", "scikit-image", "matplotlib", "triton",
)  # fmt: skip


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Versions of medpipe, Python and what results depend on, without importing any of it."""
    found = {"medpipe": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def revision() -> str | None:
    """The commit of the checkout that medpipe runs from, '+changes' where files differ from it; None in a wheel."""
    folder = Path(__file__).resolve().parent.parent.parent
    if not (folder / ".git").exists():
        return None
    try:
        git = ["git", "-C", str(folder)]
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True)
        changes = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return commit.stdout.strip() + ("+changes" if changes.stdout.strip() else "")


def host() -> dict[str, Any]:
    """The machine: name, system, cores that this process may use, memory; the GPU is added by stages that use one."""
    pages, page_size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "name": socket.gethostname(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(pages * page_size / 2**30, 1),
    }


def job_facts() -> dict[str, Any]:
    """The scheduler's job that this process works in: id, how often it was restarted, node; empty outside of one."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return {}
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}"
    restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    return {"job": job, "restarts": restarts, "node": os.environ.get("SLURMD_NODENAME", socket.gethostname())}


def peak_memory_mib() -> int:
    """The largest resident size of this process and of its largest child so far, in MiB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    of_self = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    of_children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return max(of_self, of_children) // unit
