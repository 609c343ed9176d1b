"""What temporal networks cost: a 3-hour video at once, and frame by frame against the offline causal form.

    python benchmarks/temporal_cost.py [--threads 2] [--steps 54000]

Every network has its published size, 2048 inputs, random weights. A 3-hour video has 54,000 steps at 5 Hz. Memory is
the peak of a process of its own, above what it holds with the input ready. Bars: under 1 GB and 30 s (ASFormer's time
is stated); a stream within 1e-5 of the offline form, constant memory, median under 2 ms a step on one core.
"""

import argparse
import json
import multiprocessing
import os
import platform
import resource
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch

from medpipe.backbones.temporal_options import (
    AsFormerOptions,
    ColonTcnOptions,
    FramewiseOptions,
    MsTcnOptions,
    TecnoOptions,
    TemporalTransformerOptions,
)
from medpipe.backbones.temporal_registry import build_temporal_backbone
from medpipe.version import __version__

RESULTS = Path(__file__).parent / "results" / "temporal_cost.json"
DIM, PHASES = 2048, 9
NETWORKS = {
    "colon_tcn": ColonTcnOptions(),
    "colon_tcn, 13 blocks": ColonTcnOptions(blocks=13),
    "ms_tcn": MsTcnOptions(),
    "tecno": TecnoOptions(),
    "temporal_transformer": TemporalTransformerOptions(),
    "asformer": AsFormerOptions(),
}
LIVE = {
    "colon_tcn, causal": ColonTcnOptions(causal=True),
    "colon_tcn, 13 blocks, causal": ColonTcnOptions(blocks=13, causal=True),
    "tecno": TecnoOptions(),
    "temporal_transformer, causal": TemporalTransformerOptions(causal=True),
    "framewise": FramewiseOptions(),
}


def resident_mib() -> float:
    """Memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def at_once(name: str, steps: int, threads: int) -> dict[str, Any]:
    """Seconds and MiB above the input of one forward pass."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network = build_temporal_backbone(NETWORKS[name], input_dim=DIM, num_phases=PHASES).eval()
    frames, is_frame = torch.rand(1, steps, DIM), torch.ones(1, steps, dtype=torch.bool)
    with torch.inference_mode():
        network(frames[:, :300], is_frame[:, :300])
        before, began = resident_mib(), time.perf_counter()
        logits = network(frames, is_frame)[-1]
        seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "seconds": round(seconds, 2),
        "mib_above_input": round(peak - before),
        "finite": bool(logits.isfinite().all()),
    }


def frame_by_frame(name: str, steps: int) -> dict[str, Any]:
    """The stream beside the offline form: largest difference, time a step, memory before and after."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = build_temporal_backbone(LIVE[name], input_dim=DIM, num_phases=PHASES).eval()
    frames = np.random.default_rng(0).random((steps, DIM), dtype=np.float32)
    stream = network.stream()
    for frame in frames[:200]:
        stream.step(frame)
    stream.reset()
    before = resident_mib()
    spent, streamed = np.empty(steps), np.empty((steps, PHASES), dtype=np.float32)
    for number, frame in enumerate(frames):
        began = time.perf_counter()
        logits = stream.step(frame)
        spent[number] = time.perf_counter() - began
        streamed[number] = logits
    grown = resident_mib() - before - streamed.nbytes / 2**20 - spent.nbytes / 2**20
    with torch.inference_mode():
        offline = network(torch.from_numpy(frames)[None], torch.ones(1, steps, dtype=torch.bool))[-1][0].numpy()
    return {
        "largest_difference": float(np.abs(streamed - offline).max()),
        "median_ms": round(1000 * float(np.median(spent)), 3),
        "p99_ms": round(1000 * float(np.quantile(spent, 0.99)), 3),
        "state_mib": round(stream.num_bytes / 2**20, 2),
        "memory_grown_mib": round(grown, 1),
    }


def in_a_process(work: Any, *arguments: Any) -> Any:
    """The result of a call in a fresh process: its peak memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=54_000)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    result: dict[str, Any] = {"steps": options.steps, "threads": options.threads, "load_before": round(load, 1)}
    result["at_once"] = {}
    for name in NETWORKS:
        result["at_once"][name] = in_a_process(at_once, name, options.steps, options.threads)
        print(name, result["at_once"][name], flush=True)
    result["frame_by_frame"] = {}
    for name in LIVE:
        result["frame_by_frame"][name] = in_a_process(frame_by_frame, name, options.steps)
        print(name, result["frame_by_frame"][name], flush=True)
    result["device"] = platform.processor() or platform.machine()
    result["versions"] = {"medpipe": __version__, "torch": torch.__version__, "numpy": np.__version__}
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
