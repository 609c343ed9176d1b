"""Which process of how many this is: from torchrun's variables, from srun's, or alone. Free of torch.

torchrun   RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, GROUP_RANK, MASTER_ADDR, MASTER_PORT
srun       SLURM_PROCID, SLURM_LOCALID, SLURM_NODEID and the step's SLURM_STEP_NUM_TASKS, _TASKS_PER_NODE, _NODELIST
"""

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, final

# Of the control channel between processes of a job that srun started; below the range that systems give out by chance.
FIRST_PORT, NUM_PORTS = 15_000, 10_000


@final
@dataclass(frozen=True)
class World:
    """The place of this process in its job. `address`, `port`: where process 0 listens; empty and 0 alone."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    node: int = 0
    num_nodes: int = 1
    launcher: Literal["none", "torchrun", "srun"] = "none"
    address: str = ""
    port: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def name(self) -> str:
        """How messages call this process."""
        return f"process {self.rank} of {self.size} on {os.environ.get('SLURMD_NODENAME') or socket.gethostname()}"


def world_of_environment(environment: Mapping[str, str] | None = None) -> World:
    """The place that a launcher gave this process.

    torchrun goes before srun, since it may run below it. A batch script of Slurm that calls medpipe without srun is one
    process, whatever it asked for. Raises ValueError: variables that contradict each other.
    """
    values = os.environ if environment is None else environment
    if "RANK" in values and "WORLD_SIZE" in values:
        return _checked(_of_torchrun(values))
    if "SLURM_STEP_ID" in values and "SLURM_PROCID" in values:
        size = _number(values, "SLURM_STEP_NUM_TASKS", 1)
        return _checked(_of_srun(values, size)) if size > 1 else World()
    return World()


def _of_torchrun(values: Mapping[str, str]) -> World:
    size, local_size = _number(values, "WORLD_SIZE"), _number(values, "LOCAL_WORLD_SIZE", 1)
    if size == 1:
        return World()
    return World(
        rank=_number(values, "RANK"),
        size=size,
        local_rank=_number(values, "LOCAL_RANK", 0),
        local_size=local_size,
        node=_number(values, "GROUP_RANK", 0),
        num_nodes=_number(values, "GROUP_WORLD_SIZE", max(1, size // local_size)),
        launcher="torchrun",
        address=values.get("MASTER_ADDR", "127.0.0.1"),
        port=_number(values, "MASTER_PORT", 29_500),
    )


def _of_srun(values: Mapping[str, str], size: int) -> World:
    node = _number(values, "SLURM_NODEID", 0)
    per_node = tasks_per_node(values.get("SLURM_STEP_TASKS_PER_NODE", str(size)))
    job = _number(values, "SLURM_JOB_ID", 0) * 10 + _number(values, "SLURM_STEP_ID", 0)
    return World(
        rank=_number(values, "SLURM_PROCID"),
        size=size,
        local_rank=_number(values, "SLURM_LOCALID", 0),
        local_size=per_node[node] if node < len(per_node) else 1,
        node=node,
        num_nodes=_number(values, "SLURM_STEP_NUM_NODES", len(per_node)),
        launcher="srun",
        address=values.get("MASTER_ADDR") or _first_host(values),
        port=_number(values, "MASTER_PORT", FIRST_PORT + job % NUM_PORTS),
    )


def tasks_per_node(text: str) -> list[int]:
    """Slurm's list of tasks a node, for instance "4(x2),3": [4, 4, 3]."""
    counts: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part.strip())
        if found is None:
            raise ValueError(f"SLURM_STEP_TASKS_PER_NODE is {text!r}, expected for instance 4(x2),3")
        counts += [int(found[1])] * int(found[2] or 1)
    return counts


def first_of_node_list(text: str) -> str:
    """The first host of Slurm's list, for instance "gpu-[03-05,9],login": gpu-03."""
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", _first_entry(text))


def _first_entry(text: str) -> str:
    """The list up to the first comma outside brackets."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "[") - (letter == "]")
        if letter == "," and depth == 0:
            return text[:place]
    return text


def _first_host(values: Mapping[str, str]) -> str:
    """The step's first host; where its name means nothing here, the address that srun was called from."""
    host = first_of_node_list(values.get("SLURM_STEP_NODELIST", "127.0.0.1"))
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return values.get("SLURM_LAUNCH_NODE_IPADDR", host)
    return host


def _number(values: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = values.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isdecimal():
        raise ValueError(f"environment variable {name} is {text!r}, expected a whole number; start by torchrun or srun")
    return int(text)


def _checked(world: World) -> World:
    if not (0 <= world.rank < world.size and 0 <= world.local_rank < world.local_size <= world.size):
        raise ValueError(
            f"the launcher's variables contradict each other: rank {world.rank} of {world.size}, on its node "
            f"{world.local_rank} of {world.local_size}; start all processes by one torchrun or one srun"
        )
    return world


def batch_problem(batch_size: int, num_processes: int) -> str | None:
    """Why so many processes cannot share a global batch, with the numbers that could; None where they can."""
    if batch_size % num_processes == 0:
        return None
    fitting = [count for count in range(1, batch_size + 1) if batch_size % count == 0]
    nearest = -(-batch_size // num_processes) * num_processes
    return (
        f"batch_size {batch_size} is the batch of all processes together and does not divide by {num_processes} "
        f"processes; start {', '.join(map(str, fitting))} of them, or set batch_size to {nearest}"
    )


def place_in_array(count: int, environment: Mapping[str, str] | None = None) -> int:
    """Where in `count` items this job of an array of Slurm begins, so that its jobs begin apart; 0 outside of one."""
    values = os.environ if environment is None else environment
    if "SLURM_ARRAY_TASK_ID" not in values:
        return 0
    place = _number(values, "SLURM_ARRAY_TASK_ID") - _number(values, "SLURM_ARRAY_TASK_MIN", 0)
    return count * place // max(1, _number(values, "SLURM_ARRAY_TASK_COUNT", 1)) % max(1, count)
