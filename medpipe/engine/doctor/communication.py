"""All-reduce across the allocation, right and how fast: by gloo, and by NCCL where every process has a GPU."""

import time
from collections.abc import Iterator
from typing import Any

from medpipe.engine.doctor.finding import Finding

MIB = 2**20
SIZES = (4, 64 * MIB)  # bytes: the latency of a flag; the gradients of 16 M weights
REPEATS = 5
SLOW_GB_S = {"gloo": 0.05, "nccl": 5.0}  # algorithm bandwidth below which something is wrong: TCP instead of InfiniBand


def all_reduce_findings(rank: int, size: int, num_nodes: int) -> Iterator[Finding]:
    """Called by all processes together; the default group is up. The first one tells."""
    import torch

    backends = ["gloo", *(["nccl"] if torch.cuda.is_available() and torch.cuda.device_count() > 0 else [])]
    for backend in backends:
        try:
            latency_s, seconds = (timed(backend, bytes_, rank, size) for bytes_ in SIZES)
        except Exception as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            remedy = (
                "NCCL_DEBUG=INFO shows why; set NCCL_SOCKET_IFNAME (and NCCL_IB_HCA) to the network between the nodes"
                if backend == "nccl"
                else "set GLOO_SOCKET_IFNAME to the network between the nodes, and MASTER_ADDR to its address"
            )
            yield Finding(f"all-reduce: {backend}", "fault", first, remedy)
            continue
        if rank == 0:
            yield judged(backend, latency_s, seconds, size, num_nodes)


def judged(backend: str, latency_s: float, seconds: float, size: int, num_nodes: int) -> Finding:
    """The times as a line."""
    speed = SIZES[1] / seconds / 1e9
    text = f"{size} processes on {num_nodes} nodes: {1e6 * latency_s:.0f} us, 64 MiB at {speed:.2f} GB/s"
    if speed >= SLOW_GB_S[backend]:
        return Finding(f"all-reduce: {backend}", "ok", text)
    remedy = "it may run over the wrong network: set NCCL_SOCKET_IFNAME or GLOO_SOCKET_IFNAME, see NCCL_DEBUG=INFO"
    return Finding(f"all-reduce: {backend}", "warning", text, remedy)


def timed(backend: str, num_bytes: int, rank: int, size: int) -> float:
    """Seconds of one all-reduce (the median). Raises RuntimeError where the sum is wrong."""
    import torch
    import torch.distributed as dist

    device = f"cuda:{torch.cuda.current_device()}" if backend == "nccl" else "cpu"
    group = group_of(backend)
    times = []
    for _ in range(REPEATS):
        values = torch.full((max(1, num_bytes // 4),), float(rank + 1), device=device)
        settle(device)
        began = time.perf_counter()
        dist.all_reduce(values, group=group)
        settle(device)
        times.append(time.perf_counter() - began)
        if not bool((values == size * (size + 1) / 2).all()):
            raise RuntimeError(f"the sum is wrong: {float(values[0])} in place of {size * (size + 1) / 2}")
    return sorted(times)[REPEATS // 2]


_groups: dict[str, Any] = {}


def group_of(backend: str) -> Any:
    """One group of all processes for each backend."""
    import torch.distributed as dist

    if backend not in _groups:
        _groups[backend] = dist.new_group(backend=backend)
    return _groups[backend]


def settle(device: str) -> None:
    """Wait for the GPU."""
    if device != "cpu":
        import torch

        torch.cuda.synchronize()
