"""`medpipe cancel`: end the jobs of a run."""

import sys
from pathlib import Path

from medpipe.engine.cluster import slurm
from medpipe.engine.cluster.job_list import JobList


def cancel_command(run_folder: Path) -> int:
    """End what waits or runs; what the stages have saved stays, and `medpipe submit` goes on from there."""
    listed = JobList.read(run_folder)
    if not listed.jobs:
        print(f"{run_folder}: no job was submitted for this run", file=sys.stderr)
        return 2
    try:
        known = slurm.states(job.job for job in listed.jobs)
        alive = list(dict.fromkeys(state.job.split("_")[0] for state in known.values() if state.alive))
        if not alive:
            print("no job of this run waits or runs")
            return 0
        slurm.scancel(alive)
    except slurm.SlurmFault as fault:
        print(fault, file=sys.stderr)
        return 1
    names = {job.job: job.name for job in listed.jobs}
    for job in alive:
        print(f"cancelled {job} ({names.get(job, '?')})")
    return 0
