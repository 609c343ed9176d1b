"""Does a small vision transformer learn as well by sigmoid attention as by softmax?

    python benchmarks/attention_training.py [--seeds 0 1 2] [--steps 300] [--threads 2]

The stage `organs_transformer` of `multi_organ_segmentation` at the demo's size, on generated phantoms: seven organs,
patches of 32 x 64 x 64 voxels as 512 tokens, batches of 2, AdamW 1e-3 with a cosine. Both kinds get the same data, the
same first weights and the same draws for each seed; nothing but `attention.kind` differs. Figures are the losses of the
training itself, in means of 20 steps: no held-out score. Written after every run; runs that are there are not repeated.
"""

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
KINDS = ("sigmoid", "softmax")
WINDOW = 20  # steps of a mean


def train(kind: str, seed: int, steps: int, threads: int) -> list[float]:
    """The loss of each step."""
    stage = "organs_transformer"
    values = {
        "seed": seed,
        f"{stage}.backbone.size": "tiny",
        f"{stage}.backbone.patch": "[4,8,8]",
        f"{stage}.backbone.attention.kind": kind,
        f"{stage}.training.num_steps": steps,
        f"{stage}.training.learning_rate": 1e-3,
    }
    cache = Path(tempfile.gettempdir()) / "medpipe-attention-training"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "medpipe.cli", "run", "multi_organ_segmentation", "--overlay", "demo"]
        command += ["--until", stage, "--runs", folder, f"data.cache={cache}"]
        command += [f"{name}={value}" for name, value in values.items()]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
        (path,) = Path(folder).rglob("metrics.csv")
        with path.open() as file:
            return [float(row["loss"]) for row in csv.DictReader(file)]


def means(losses: list[float]) -> list[float]:
    return [statistics.fmean(losses[at : at + WINDOW]) for at in range(0, len(losses) - WINDOW + 1, WINDOW)]


def gap(runs: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """Loss by sigmoid less loss by softmax over the last window, seed by seed."""
    seeds = sorted(set(runs["sigmoid"]) & set(runs["softmax"]))
    each = [means(runs["sigmoid"][seed])[-1] - means(runs["softmax"][seed])[-1] for seed in seeds]
    return {"seeds": seeds, "each": [round(x, 4) for x in each], "mean": round(statistics.fmean(each), 4)}


def draw(runs: dict[str, dict[str, list[float]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for kind, colour in zip(KINDS, ("#0072B2", "#D55E00"), strict=True):
        for number, losses in enumerate(runs[kind].values()):
            curve = means(losses)
            steps = [WINDOW * (i + 0.5) for i in range(len(curve))]
            axes.plot(steps, curve, color=colour, linewidth=1.3, alpha=0.8, label=None if number else kind)
    axes.set_xlabel("step")
    axes.set_ylabel(f"training loss, means of {WINDOW} steps")
    axes.set_title("Small vision transformer on phantoms, the same seeds by both")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    path = RESULTS / "attention_training.json"
    result: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    if result.get("steps") != options.steps:
        result = {"steps": options.steps, "runs": {kind: {} for kind in KINDS}}
    for seed in options.seeds:
        for kind in KINDS:
            if str(seed) in result["runs"][kind]:
                continue
            losses = train(kind, seed, options.steps, options.threads)
            result["runs"][kind][str(seed)] = [round(loss, 5) for loss in losses]
            print(f"seed {seed}, {kind}: last {WINDOW} steps {means(losses)[-1]:.4f}", flush=True)
            result |= environment()
            path.write_text(json.dumps(result) + "\n", encoding="utf-8")
    result["gap"] = gap(result["runs"])
    path.write_text(json.dumps(result) + "\n", encoding="utf-8")
    draw(result["runs"], path.with_suffix(".png"))
    print(f"sigmoid less softmax: {result['gap']}; written: {path.name}, {path.with_suffix('.png').name}")


def environment() -> dict[str, str]:
    import torch

    from medpipe.version import __version__

    return {"device": f"{platform.machine()} CPU", "torch": torch.__version__, "medpipe": __version__}


if __name__ == "__main__":
    main()
