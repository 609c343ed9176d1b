"""`medpipe doctor`: is this machine, or this allocation of a cluster, fit for training? Each fault with the way out."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from rich.console import Console

from medpipe.engine.doctor.finding import Finding
from medpipe.engine.doctor.machine import machine_findings
from medpipe.engine.doctor.versions import version_findings
from medpipe.tasks.world import world_of_environment

STYLE = {"ok": "green", "warning": "yellow", "fault": "bold red"}


def doctor_command(*, cluster: bool, runs: Path, cache: Path, as_json: bool) -> int:
    """Look, tell, and give 1 where there is a fault.

    With `cluster`: on a login node Slurm itself; inside an allocation every node of it, started there by srun.
    """
    if cluster and "SLURM_JOB_ID" in os.environ and "SLURM_STEP_ID" not in os.environ and shutil.which("srun"):
        return through_the_allocation()
    world = world_of_environment()
    findings = local_findings(runs, cache)
    if cluster:
        findings += cluster_findings(runs)
    if world.size > 1:
        findings = together(findings, runs)
        if world.rank != 0:
            return 0
    return tell(findings, as_json)


def through_the_allocation() -> int:
    """The same command again, once on each task of the allocation that this shell holds."""
    tasks = os.environ.get("SLURM_NTASKS") or os.environ.get("SLURM_JOB_NUM_NODES", "1")
    words = ["srun", f"--ntasks={tasks}", "--kill-on-bad-exit=1", sys.executable, "-m", "medpipe", *sys.argv[1:]]
    return subprocess.run(words).returncode


def local_findings(runs: Path, cache: Path) -> list[Finding]:
    """What concerns this machine alone."""
    from medpipe.engine.doctor.gpus import gpu_findings

    folders = {"runs": runs, "cache": cache, "temporary files": Path(gettempdir())}
    return [*version_findings(), *gpu_findings(), *machine_findings(folders)]


def cluster_findings(runs: Path) -> list[Finding]:
    """Slurm itself; and how to look at more than this node."""
    from medpipe.engine.doctor.scheduler import scheduler_findings

    findings = list(scheduler_findings())
    if world_of_environment().size == 1:
        text = "only this machine was looked at: no all-reduce, no test of the shared folder"
        remedy = "inside an allocation: srun --nodes=2 --ntasks-per-node=1 medpipe doctor --cluster"
        findings.append(Finding("allocation", "warning", text, remedy))
    return findings


def together(findings: Sequence[Finding], runs: Path) -> list[Finding]:
    """What all processes found, with the tests that need several; the whole list in every process."""
    from medpipe.engine.doctor.communication import all_reduce_findings
    from medpipe.engine.doctor.shared import rename_findings
    from medpipe.tasks.processes import connect

    processes = connect()
    world = processes.world
    own = [*findings, *clocks(processes.gather, world.rank)]
    folder = runs / f".doctor-{os.environ.get('SLURM_JOB_ID', world.port)}"
    own += rename_findings(folder, world.rank, processes.of_first)
    own += all_reduce_findings(world.rank, world.size, world.num_nodes)
    name = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    everything, nodes = processes.gather(own), processes.gather(name)
    if world.is_first:
        shutil.rmtree(folder, ignore_errors=True)
    processes.wait()
    processes.close()
    return merged(everything, nodes)


def clocks(gather: Callable[[Any], list[Any]], rank: int) -> list[Finding]:
    """How far the nodes' clocks lie apart, told by the first process; the gathering itself takes some milliseconds."""
    gather(None)  # all are here
    times = gather(time.time())
    apart = max(times) - min(times)
    if rank != 0:
        return []
    text = f"the nodes' clocks lie at most {apart:.2f} s apart"
    if apart < 1:
        return [Finding("clocks", "ok", text)]
    remedy = "have chrony or ntpd run on all nodes: logs mislead, and munge refuses credentials from 300 s on"
    return [Finding("clocks", "fault" if apart > 240 else "warning", text, remedy)]


def merged(everything: Sequence[Sequence[Finding]], nodes: Sequence[str]) -> list[Finding]:
    """Findings of several nodes as one list: what all say alike once, the rest with the node's name."""
    found: dict[Finding, list[str]] = {}
    for node, findings in zip(nodes, everything, strict=True):
        for finding in findings:
            found.setdefault(finding, []).append(node)
    return [
        finding if len(where) == len(nodes) else replace(finding, node=", ".join(dict.fromkeys(where)))
        for finding, where in found.items()
    ]


def tell(findings: Sequence[Finding], as_json: bool) -> int:
    """Print the lines; 1 where one is a fault."""
    faults = sum(finding.level == "fault" for finding in findings)
    warnings = sum(finding.level == "warning" for finding in findings)
    if as_json:
        print(json.dumps({"faults": faults, "warnings": warnings, "findings": [asdict(f) for f in findings]}, indent=2))
        return 1 if faults else 0
    console = Console(soft_wrap=True)
    for finding in findings:
        where = f" [{finding.node}]" if finding.node else ""
        console.print(f"{finding.level:<8}", style=STYLE[finding.level], end="")
        console.print(f"{finding.check}{where}: {finding.text}", highlight=False, markup=False)
        if finding.remedy:
            console.print(f"        -> {finding.remedy}", highlight=False, markup=False)
    console.print(f"{faults} faults, {warnings} warnings", highlight=False)
    return 1 if faults else 0
