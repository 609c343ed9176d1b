"""How much memory there is for this process, and how many jobs fit into it."""

import logging
from pathlib import Path

logger = logging.getLogger(__name__)

GIB = 1024**3
# What one worker takes before it reads anything: Python, numpy, SimpleITK, nibabel (about 150 MB measured).
WORKER_BYTES = 200 * 1024**2
# Part of the available memory that workers may plan with; the rest is for the parent and for what estimates miss.
PLANNED_SHARE = 0.8


def available_bytes(cgroup_root: Path = Path("/sys/fs/cgroup"), process: Path = Path("/proc/self/cgroup")) -> int:
    """Memory that can still be had: of the machine, and of each memory limit of the container or job we run in."""
    import psutil

    return min([int(psutil.virtual_memory().available), *_cgroup_free(cgroup_root, process)])


def jobs_within_memory(jobs: int, bytes_per_job: int, what: str, *, available: int | None = None) -> int:
    """The number of jobs that fit, at most `jobs`, at least one; what is cut, and what may not fit at all, is said."""
    available = available_bytes() if available is None else available
    fitting = int(available * PLANNED_SHARE // max(1, bytes_per_job + WORKER_BYTES))
    if fitting < 1:
        logger.warning(
            "%s: the largest case may take %s, %s are free; going on with one job, which may run out of memory",
            what,
            gib(bytes_per_job),
            gib(available),
        )
    elif fitting < jobs:
        message = "%s: %d jobs instead of %d, because each may take %s and %s are free"
        logger.warning(message, what, fitting, jobs, gib(bytes_per_job), gib(available))
    return max(1, min(jobs, fitting))


def gib(count: int) -> str:
    """Bytes as text."""
    return f"{count / GIB:.1f} GiB" if count >= 0.1 * GIB else f"{count / 1024**2:.0f} MiB"


def _cgroup_free(root: Path, process: Path) -> list[int]:
    """Free bytes under every limit from the process's own group up to the root, for cgroup v2 and v1."""
    free = []
    for line in _read(process).splitlines():
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0" and not controllers:
            base, limit, usage, reclaimable = root, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            base, limit, usage = root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            reclaimable = "total_inactive_file"
        else:
            continue
        folder = base / group.lstrip("/")
        # Inside a container the group's path is often that of the host; then the mount's root is our own group.
        for place in dict.fromkeys([folder, *folder.parents, base]):
            if place == base or base in place.parents:
                free += _free_of(place, limit, usage, reclaimable)
    return free


def _free_of(folder: Path, limit: str, usage: str, reclaimable: str) -> list[int]:
    most, used = _read(folder / limit).strip(), _read(folder / usage).strip()
    if not most.isdigit() or not used.isdigit():
        return []
    cached = [
        line.split()[1] for line in _read(folder / "memory.stat").splitlines() if line.split()[:1] == [reclaimable]
    ]
    return [max(0, int(most) - int(used) + (int(cached[0]) if cached else 0))]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
