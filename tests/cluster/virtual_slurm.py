"""A real Slurm of several virtual nodes on this machine, with a munge of its own, all of it below one folder.

One slurmctld and one `slurmd -N` a node, unprivileged ports on loopback. No cgroups, no accounting database: Slurm
schedules by cores and memory, nothing enforces the memory.
"""

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")

CONFIG = """\
ClusterName=virtual
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.sock,cred_expire=5
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
SlurmctldPort={port}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=5,bf_interval=2,batch_sched_delay=0,sched_min_interval=0
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
KillWait={kill_wait}
SlurmctldTimeout=30
SlurmdTimeout=60
MinJobAge=3600
MessageTimeout=60
"""


class SlurmIsMissing(RuntimeError):
    """What Slurm needs is not installed."""


@contextmanager
def virtual_slurm(folder: Path, *, nodes: int = 2, cpus: int = 8, kill_wait: int = 30) -> Iterator[Path]:
    """Start the cluster below `folder`; its slurm.conf. Takes everything down at the end.

    Partitions `gpu` and `cpu` (both of all nodes; there is no GPU). kill_wait: seconds from SIGTERM to SIGKILL.
    """
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        raise SlurmIsMissing(f"not installed: {', '.join(missing)}; apt-get install slurm-wlm munge")
    for name in ("state", "spool", "log", "run"):
        (folder / name).mkdir(parents=True)
    conf = write_config(folder, nodes, cpus, kill_wait)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        start_munge(folder, processes)
        start(["slurmctld", "-D", "-f", str(conf), "-c"], folder / "log" / "slurmctld.out", processes)
        for number in range(1, nodes + 1):
            words = ["slurmd", "-D", "-f", str(conf), "-N", f"n{number}", "-c"]
            start(words, folder / "log" / f"slurmd-n{number}.out", processes)
        wait_for_nodes(conf, nodes, processes)
        yield conf
    finally:
        end_all(conf, processes)


def write_config(folder: Path, nodes: int, cpus: int, kill_wait: int) -> Path:
    host = socket.gethostname().split(".")[0]
    ports = free_ports(nodes + 1)
    text = CONFIG.format(host=host, user=getpass.getuser(), folder=folder, port=ports[0], kill_wait=kill_wait)
    for number, port in enumerate(ports[1:], start=1):
        (folder / "spool" / f"n{number}").mkdir()
        text += f"NodeName=n{number} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} RealMemory=65536\n"
    for name, is_default in (("cpu", "YES"), ("gpu", "NO")):
        text += f"PartitionName={name} Nodes=n[1-{nodes}] Default={is_default} MaxTime=INFINITE State=UP\n"
    conf = folder / "slurm.conf"
    conf.write_text(text)
    return conf


def free_ports(count: int) -> list[int]:
    """Unprivileged ports that nothing listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def start_munge(folder: Path, processes: list["subprocess.Popen[bytes]"]) -> None:
    """munged with a key of its own."""
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    run = folder / "run"
    words = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={run / 'munge.sock'}"]
    words += [f"--pid-file={run / 'munged.pid'}", f"--log-file={folder / 'log' / 'munged.log'}"]
    words += [f"--seed-file={run / 'munged.seed'}"]
    start(words, folder / "log" / "munged.out", processes)
    until = time.monotonic() + 10
    while not (run / "munge.sock").exists() and time.monotonic() < until:
        time.sleep(0.05)


def start(words: list[str], log: Path, processes: list["subprocess.Popen[bytes]"]) -> None:
    with log.open("wb") as output:
        processes.append(subprocess.Popen(words, stdout=output, stderr=output, start_new_session=True))


def wait_for_nodes(conf: Path, nodes: int, processes: list["subprocess.Popen[bytes]"]) -> None:
    """Until all nodes are idle. RuntimeError, with the logs' ends, where that takes more than a minute."""
    environment = {**os.environ, "SLURM_CONF": str(conf)}
    until = time.monotonic() + 60
    while time.monotonic() < until:
        answer = subprocess.run(
            ["sinfo", "-h", "-p", "cpu", "-t", "idle", "-o", "%D"], capture_output=True, text=True, env=environment
        )
        if answer.stdout.strip() == str(nodes):
            return
        if any(process.poll() is not None for process in processes):
            break
        time.sleep(0.2)
    logs = "\n".join(f"{log.name}: {log.read_text()[-800:]}" for log in sorted((conf.parent / "log").iterdir()))
    raise RuntimeError(f"the virtual Slurm did not come up\n{logs}")


def end_all(conf: Path, processes: list["subprocess.Popen[bytes]"]) -> None:
    """Cancel every job, then end the daemons that were started here."""
    environment = {**os.environ, "SLURM_CONF": str(conf)}
    subprocess.run(
        ["scancel", "--user", getpass.getuser()], env=environment, capture_output=True, timeout=30, check=False
    )
    until = time.monotonic() + 15
    while time.monotonic() < until:
        left = subprocess.run(
            ["squeue", "-h"], env=environment, capture_output=True, text=True, timeout=30, check=False
        )
        if not left.stdout.strip():
            break
        time.sleep(0.3)
    for process in reversed(processes):
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    for process in processes:
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
