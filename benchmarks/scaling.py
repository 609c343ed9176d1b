"""How a training scales: measured on 1 and 2 processes here, from there a model of the step at 8, 64 and 512 GPUs.

    python benchmarks/scaling.py [--steps 8]

Measured apart: the step of `fit` on one process and on two (gloo, a thread each), the loader's time a sample, the
all-reduce of gradients alone. Fitted: compute = a + b x FLOP, all-reduce = c + d x bytes, and the share of it that
the backward pass hides. Checked: a backbone, a patch and a batch that the fit has not seen are predicted on both.
Then the same terms with published speeds of GPUs and links; every assumption stands in the result and is printed.
"""

import argparse
import json
import os
import platform
import socket
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from medpipe.backbones.options import StunetOptions
from medpipe.backbones.registry import build_volume_backbone
from medpipe.tasks.options import TrainingConfig
from medpipe.tasks.processes import connect
from medpipe.tasks.segmentation import Segmentation
from medpipe.tasks.segmentation_network import SegmentationNetwork
from medpipe.tasks.training import fit
from medpipe.tasks.world import World
from medpipe.version import __version__

RESULTS = Path(__file__).parent / "results" / "scaling.json"
Size = tuple[int, int, int]
# Name: backbone, patch, global batch. The last three are held out of the fit.
FITTED: dict[str, tuple[StunetOptions, Size, int]] = {
    "width 4": (StunetOptions(size="tiny", tiny_width=4), (32, 32, 64), 2),
    "width 4, large patch": (StunetOptions(size="tiny", tiny_width=4), (64, 64, 64), 2),
    "width 8": (StunetOptions(size="tiny", tiny_width=8), (32, 64, 64), 2),
    "small": (StunetOptions(size="small"), (32, 32, 64), 2),
}
HELD_OUT: dict[str, tuple[StunetOptions, Size, int]] = {
    "other backbone: width 6": (StunetOptions(size="tiny", tiny_width=6), (32, 64, 64), 2),
    "other patch: small": (StunetOptions(size="small"), (32, 64, 64), 2),
    "other batch: width 8": (StunetOptions(size="tiny", tiny_width=8), (32, 32, 64), 4),
}
ASSUMED = {
    "gpu": "NVIDIA H100 SXM, 989 TFLOP/s dense bfloat16 (NVIDIA H100 data sheet)",
    "gpu_flops": 989e12,
    "utilisation": 0.3,
    "utilisation_why": "share of the peak that 3D convolutions reach; assumed, not measured: times scale with it",
    "gpus_a_node": 8,
    "nvlink_bytes_per_s": 450e9,  # 900 GB/s in both directions together: NVIDIA H100 data sheet
    "network_bytes_per_s_a_gpu": 50e9,  # a 400 Gb/s port a GPU: NVIDIA DGX H100 user guide
    "link_efficiency": 0.8,
    "latency_s_a_hop": 10e-6,
    "patch": (128, 128, 128),
    "samples_a_gpu": 2,
    "gradient_bytes": 4,
    "loader_workers_a_gpu": 8,
    "backward_share_of_compute": 2 / 3,
}


class Patches:
    """Samples whose making costs about what a simple augmentation does."""

    def __init__(self, size: Size) -> None:
        self.size = size

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([1, index])
        volume = np.flip(rng.standard_normal((1, *self.size), dtype=np.float32), axis=1) * np.float32(1.1)
        target = (volume[0] > 1).astype(np.int64)
        return {
            "volume": torch.from_numpy(np.ascontiguousarray(volume)),
            "target": torch.from_numpy(target),
            "is_annotated": torch.ones(1, dtype=torch.bool),
        }


def network_of(options: StunetOptions) -> SegmentationNetwork:
    """The network whose step is timed."""
    torch.manual_seed(0)
    return SegmentationNetwork(build_volume_backbone(options), num_structures=1)


def cost_of(options: StunetOptions, size: Size, batch: int) -> tuple[float, int]:
    """FLOP of a step (a forward pass and twice that backwards), and weights; nothing is computed."""
    with torch.device("meta"):
        network = network_of(options)
        volume = torch.empty(1, 1, *size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.supervised(volume)
    return 3.0 * counter.get_total_flops() * batch, sum(weight.numel() for weight in network.parameters())


def in_processes(work: Callable[[Any], Any], count: int) -> Any:
    """What `work(processes)` gives in the first of `count` forked processes."""
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        children = []
        for rank in range(count):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    torch.set_num_threads(1)
                    processes = connect(World(rank, count, rank, count, 0, 1, "srun", "127.0.0.1", port))
                    result = work(processes)
                    if rank == 0:
                        Path(folder, "result.json").write_text(json.dumps(result))
                    processes.wait()
                    processes.close()
                    code = 0
                finally:
                    os._exit(code)
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        assert not any(codes), codes
        return json.loads(Path(folder, "result.json").read_text())


def step_seconds(options: StunetOptions, size: Size, batch: int, steps: int, count: int) -> float:
    """Median time of a step of `fit`, loading left out by keeping the samples."""
    kept = [Patches(size)[index] for index in range(batch)]

    class Kept:
        def __getitem__(self, index: int) -> dict[str, Tensor]:
            return kept[index % batch]

    def work(processes: Any) -> float:
        times: list[float] = []
        config = TrainingConfig(
            num_steps=steps + 2, batch_size=batch, num_workers=0, accelerator="cpu", save_every_minutes=None
        )
        with tempfile.TemporaryDirectory() as folder:
            fit(
                Segmentation(network_of(options)), Kept(), config, Path(processes.of_first(folder)), seed=0,
                should_stop=lambda: False, on_step=lambda step, figures: times.append(time.perf_counter()),
                processes=processes,
            )  # fmt: skip
            processes.wait()
        return float(np.median([after - before for before, after in pairwise(times[1:])] or [0.0]))

    return in_processes(work, count)


def all_reduce_seconds(num_bytes: int, repeats: int) -> float:
    """Median time of an all-reduce of float32 between two processes."""

    def work(processes: Any) -> float:
        import torch.distributed as dist

        values, times = torch.zeros(num_bytes // 4), []
        for _ in range(repeats):
            processes.wait()
            began = time.perf_counter()
            dist.all_reduce(values)
            times.append(time.perf_counter() - began)
        return float(np.median(times))

    return in_processes(work, 2)


def loader_seconds(size: Size) -> float:
    """Time of one sample in one worker."""
    data, began = Patches(size), time.perf_counter()
    for index in range(5):
        data[index]
    return (time.perf_counter() - began) / 5


def line(xs: list[float], ys: list[float]) -> tuple[float, float]:
    """Offset and slope, both at least 0, of least squares of the relative error."""
    weights = 1 / np.array(ys)
    design = np.stack([weights, np.array(xs) * weights], axis=1)
    from scipy.optimize import nnls

    offset, slope = nnls(design, np.ones(len(xs)))[0]
    return float(offset), float(slope)


def measure(steps: int) -> dict[str, Any]:
    """Every configuration on one and two processes, and the parts of a step."""
    rows = {}
    for name, (options, size, batch) in {**FITTED, **HELD_OUT}.items():
        flop, weights = cost_of(options, size, batch)
        seconds = {count: step_seconds(options, size, batch, steps, count) for count in (1, 2)}
        alone = all_reduce_seconds(4 * weights, 10)
        rows[name] = {
            "held_out": name in HELD_OUT, "flop": flop, "weights": weights, "seconds_1": seconds[1],
            "seconds_2": seconds[2], "all_reduce_alone": alone, "loader_a_sample": loader_seconds(size),
            "voxels": int(np.prod(size)), "batch": batch,
        }  # fmt: skip
        print(f"{name:26s} 1 process {seconds[1]:.3f} s, 2 processes {seconds[2]:.3f} s, all-reduce {alone:.4f} s,"
              f" loader {rows[name]['loader_a_sample']:.4f} s a sample", flush=True)  # fmt: skip
    return rows


def fitted(rows: dict[str, Any]) -> dict[str, float]:
    """The model of this machine, from the configurations that are not held out."""
    seen = [row for row in rows.values() if not row["held_out"]]
    offset, per_flop = line([row["flop"] for row in seen], [row["seconds_1"] for row in seen])
    start, per_byte = line([4.0 * row["weights"] for row in seen], [row["all_reduce_alone"] for row in seen])
    # What two processes on one machine lose to each other (memory, caches), a factor on the compute.
    shared = float(np.median([
        (row["seconds_2"] - row["all_reduce_alone"]) / (offset + per_flop * row["flop"] / 2) for row in seen
    ]))  # fmt: skip
    per_voxel = float(np.median([row["loader_a_sample"] / row["voxels"] for row in seen]))
    return {"compute_offset_s": offset, "compute_s_per_flop": per_flop, "all_reduce_offset_s": start,
            "all_reduce_s_per_byte": per_byte, "sharing_factor": shared, "loader_s_per_voxel": per_voxel}  # fmt: skip


def predicted(model: dict[str, float], row: dict[str, Any], count: int) -> float:
    """The step of a configuration on this machine by the model."""
    compute = model["compute_offset_s"] + model["compute_s_per_flop"] * row["flop"] / count
    if count == 1:
        return compute
    reduce = model["all_reduce_offset_s"] + model["all_reduce_s_per_byte"] * 4 * row["weights"]
    return compute * model["sharing_factor"] + reduce


def on_gpus(options: StunetOptions, strategy: str, gpus: int, model: dict[str, float]) -> dict[str, float]:
    """The parts of a step on so many GPUs, in seconds."""
    a = ASSUMED
    flop, weights = cost_of(options, a["patch"], a["samples_a_gpu"])
    compute = flop / (a["gpu_flops"] * a["utilisation"])
    nodes, within = max(1, gpus // a["gpus_a_node"]), min(gpus, a["gpus_a_node"])
    size = weights * a["gradient_bytes"]
    # A pass over all weights: within the node, then each GPU's part of them between the nodes.
    one_way = size * (within - 1) / within / (a["nvlink_bytes_per_s"] * a["link_efficiency"])
    one_way += (size / within) * (nodes - 1) / nodes / (a["network_bytes_per_s_a_gpu"] * a["link_efficiency"])
    passes = 2 if strategy == "ddp" else 3  # reduce and gather; FSDP gathers once more, for the forward pass
    latency = passes * a["latency_s_a_hop"] * np.log2(gpus)
    communication = passes * one_way + latency
    hidden = compute * (a["backward_share_of_compute"] if strategy == "ddp" else 1.0)
    loader = model["loader_s_per_voxel"] * float(np.prod(a["patch"])) * a["samples_a_gpu"] / a["loader_workers_a_gpu"]
    exposed = max(communication - hidden, latency)
    state = weights * 16 / (1 if strategy == "ddp" else gpus)  # weights, gradient, two moments, float32
    return {"compute": compute, "communication": communication, "exposed_communication": exposed, "loader": loader,
            "step": max(compute + exposed, loader), "efficiency": compute / max(compute + exposed, loader),
            "state_gb_a_gpu": state / 1e9}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=8)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    rows = measure(options.steps)
    model = fitted(rows)
    for name, row in rows.items():
        for count in (1, 2):
            guess = predicted(model, row, count)
            row[f"predicted_{count}"], row[f"error_{count}"] = guess, guess / row[f"seconds_{count}"] - 1
        row["shares_2"] = {
            "communication": row["all_reduce_alone"] / row["seconds_2"],
            "loader_if_not_ahead": row["loader_a_sample"] * row["batch"] / 2 / row["seconds_2"],
        }
        print(f"{name:26s} {'held out' if row['held_out'] else 'fitted  '} predicted {row['predicted_1']:.3f} s "
              f"({row['error_1']:+.0%}), on two {row['predicted_2']:.3f} s ({row['error_2']:+.0%})")  # fmt: skip
    print("\nassumed for GPUs:")
    for name, value in ASSUMED.items():
        print(f"  {name}: {value}")
    print(
        f"\n{'backbone':9s} {'':5s} GPUs  compute  communication  exposed  loader  step s  efficiency  state GB a GPU"
    )
    table = {}
    for size in ("base", "huge"):
        for strategy in ("ddp", "fsdp"):
            for gpus in (8, 64, 512):
                part = on_gpus(StunetOptions(size=size), strategy, gpus, model)
                table[f"{size} {strategy} {gpus}"] = part
                print(f"{size:9s} {strategy:5s} {gpus:4d}  {part['compute']:7.3f}  {part['communication']:13.4f}  "
                      f"{part['exposed_communication']:7.4f}  {part['loader']:6.3f}  {part['step']:6.3f}  "
                      f"{part['efficiency']:10.0%}  {part['state_gb_a_gpu']:14.1f}")  # fmt: skip
    result = {
        "steps": options.steps, "load_before": round(load, 1), "measured": rows, "model": model, "assumed": ASSUMED,
        "gpus": table, "device": platform.processor() or platform.machine(), "cores": os.cpu_count(),
        "versions": {"medpipe": __version__, "torch": torch.__version__, "numpy": np.__version__},
    }  # fmt: skip
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
