"""What a machine gives a training: disk, shared memory, limits of the system, clock, memory."""

import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from medpipe.engine.doctor.finding import Finding

GIB = 2**30
# A prepared case is some 100 MB, a checkpoint of a huge backbone 17 GB.
LOW_DISK_GIB, LITTLE_DISK_GIB = 2, 50
LOW_SHM_GIB, LITTLE_SHM_GIB = 0.25, 4  # eight workers hand over batches of 128^3 in fp32, some prefetched
FILES = 4096  # open files: workers x tensors handed over
PROCESSES = 2048


def machine_findings(folders: dict[str, Path]) -> list[Finding]:
    """All of it; folders: what lies there -> the folder."""
    found = [finding for name, folder in folders.items() for finding in disk(name, folder)]
    return [*found, *shared_memory(), *limits(), memory(), clock()]


def disk(name: str, folder: Path) -> Iterator[Finding]:
    """Whether files can be written there, and how much room is left: by writing, since a quota shows in no table."""
    there = nearest_existing(folder)
    try:
        free = shutil.disk_usage(there).free / GIB
    except OSError as error:
        yield Finding(f"disk: {name}", "fault", f"{folder}: {error}", "mount it, or choose another folder")
        return
    remedy = f"make room in {there}, or put {name} elsewhere (--runs, data.cache, TMPDIR)"
    try:
        write_and_sync(there, 2**20)
    except OSError as error:
        words = "full, or its quota is used up" if error.errno in (28, 122) else "cannot be written to"
        yield Finding(f"disk: {name}", "fault", f"{folder} is {words} ({error.strerror}); {free:.1f} GiB free", remedy)
        return
    level = "fault" if free < LOW_DISK_GIB else "warning" if free < LITTLE_DISK_GIB else "ok"
    yield Finding(f"disk: {name}", level, f"{folder}: {free:.1f} GiB free", "" if level == "ok" else remedy)


def nearest_existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    folder = folder.expanduser().absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def write_and_sync(folder: Path, size: int) -> None:
    """Write a temporary file through to the disk. Raises OSError."""
    handle, name = tempfile.mkstemp(prefix=".medpipe-doctor-", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(os.urandom(size))
            file.flush()
            os.fsync(file.fileno())
    finally:
        os.unlink(name)


def shared_memory(folder: Path = Path("/dev/shm")) -> Iterator[Finding]:
    """Loader workers hand batches over in /dev/shm; a small one ends them with SIGBUS."""
    if not folder.is_dir():
        return
    usage = shutil.disk_usage(folder)
    size, free = usage.total / GIB, usage.free / GIB
    level = "fault" if free < LOW_SHM_GIB else "warning" if size < LITTLE_SHM_GIB else "ok"
    remedy = "start the container with --shm-size=16g (or --ipc=host), or set training.num_workers=0"
    yield Finding(
        "shared memory", level, f"{folder}: {free:.1f} of {size:.1f} GiB free", "" if level == "ok" else remedy
    )


def limits() -> Iterator[Finding]:
    """Open files, processes, locked memory."""
    for name, number, least, flag in (
        ("open files", resource.RLIMIT_NOFILE, FILES, "n"),
        ("processes", resource.RLIMIT_NPROC, PROCESSES, "u"),
    ):
        soft, hard = resource.getrlimit(number)
        if soft == resource.RLIM_INFINITY or soft >= least:
            yield Finding(f"limit: {name}", "ok", "unlimited" if soft == resource.RLIM_INFINITY else str(soft))
            continue
        can = hard == resource.RLIM_INFINITY or hard >= least
        remedy = f"ulimit -{flag} {least} before the job" if can else f"ask for a hard limit of {least} (now {hard})"
        yield Finding(f"limit: {name}", "warning", f"{soft}, {least} are wanted", remedy)
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft != resource.RLIM_INFINITY and Path("/dev/infiniband").is_dir():
        text = f"{soft // 1024} KiB of locked memory: InfiniBand needs it unlimited"
        yield Finding("limit: locked memory", "warning", text, "ulimit -l unlimited, or LimitMEMLOCK of slurmd")


def memory() -> Finding:
    """What this process may use: the smaller of the machine's and its control group's."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    for path in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        try:
            total = min(total, int(path.read_text()) / GIB)
        except (OSError, ValueError):
            continue
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    level = "warning" if total < 8 else "ok"
    remedy = (
        "ask for more memory (memory_gib): a whole CT with its probabilities takes several GiB" if total < 8 else ""
    )
    return Finding("memory and cores", level, f"{total:.1f} GiB, {cores} cores", remedy)


def clock() -> Finding:
    """A clock before medpipe's own files is wrong."""
    newest = Path(sys.modules["medpipe"].__path__[0]).stat().st_mtime
    if time.time() < newest - 86400:
        return Finding("clock", "fault", f"{time.ctime()} lies before medpipe's installation", "set the clock (chrony)")
    return Finding("clock", "ok", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()))
