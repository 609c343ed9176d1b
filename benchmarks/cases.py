"""What `check`, preprocessing, evaluation and the report cost against the number of cases: linear time, flat memory?

    python benchmarks/cases.py [--cases 10 100 1000] [--rows 100000] [--jobs 2]

Cases: 24^3 voxels of air with a few balls of tissue in it, five structures: what a case costs by itself is small, and
what grows faster than their number shows. Each step is the command a user runs, in a process of its own; memory is
the largest resident size of any process. Then a table of cases of many rows (all of one file) is read and split.
Bars: the cost of a further case at the largest step at most 1.5 times that at the smaller; memory at most 1.3 times
that of the fewest cases; the table within 10 s.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from medpipe.geometry.nifti import write_label_map, write_volume
from medpipe.geometry.volume import LabelMap, Volume
from medpipe.version import __version__

SIZE = 24
AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
STRUCTURES = ("ctv_high_risk", "bladder", "rectum", "sigmoid_colon", "uterus")
MANIFEST = """\
manifest: tiny
layout: table
folder: .
if_absent: absent
structures:
  ctv_high_risk: {label: 1}
  bladder: {label: 2}
  rectum: {label: 3}
  sigmoid_colon: {label: 4}
  uterus: {label: 5}
"""
WORKFLOW = """\
workflow: tiny
data: {root: data, cache: cache}
stages:
  intensity: {stage: intensity_statistics, cases: {manifest: ./tiny.yaml}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)  # a step by itself, see `steps`
    options = parser.parse_args()
    if options.prepare is not None:
        prepare(options.prepare, options.jobs)
        return
    rows = [measured(count, options.jobs) for count in options.cases]
    seconds = table_seconds(options.rows)
    result = {
        "rows": rows,
        "growth": growth(rows),
        "table": {"rows": options.rows, "seconds": round(seconds, 2), "bar_10_s_met": seconds < 10},
        "device": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"medpipe": __version__, "python": platform.python_version(), "numpy": np.__version__},
    }
    path = Path(__file__).parent / "results" / "cases.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for row in rows:
        print(
            f"{row['cases']:>6} cases  "
            + "  ".join(
                f"{name} {row[name]['wall_s']:.1f} s {row[name]['peak_mib']} MiB" for name in row if name != "cases"
            )
        )
    print(json.dumps(result["growth"], indent=2))
    print(f"a table of {options.rows} rows is read and split in {seconds:.1f} s")


def measured(count: int, jobs: int) -> dict[str, Any]:
    """Every step on so many cases."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        generate(folder, count)
        row: dict[str, Any] = {"cases": count}
        for name, command in steps(folder, jobs).items():
            row[name] = run(command, folder)
            print(f"{count} cases, {name}: {row[name]}", flush=True)
    return row


def steps(folder: Path, jobs: int) -> dict[str, list[str]]:
    """Name of a step -> its command, run in `folder`, in this order."""
    medpipe = [sys.executable, "-m", "medpipe.cli"]
    return {
        "check": [*medpipe, "check", "workflow.yaml", f"--jobs={jobs}"],
        "preprocessing": [sys.executable, str(Path(__file__).resolve()), f"--prepare={folder}", f"--jobs={jobs}"],
        "evaluation": [*medpipe, "evaluate", "predictions", "data/labels", "--manifest=./tiny.yaml", f"--jobs={jobs}"],
        "report": [*medpipe, "report", "evaluation"],
    }


def generate(folder: Path, count: int) -> None:
    """Images, labels, predictions, the table, the manifest, a workflow."""
    for name in ("data/images", "data/labels", "predictions"):
        (folder / name).mkdir(parents=True)
    lines = ["case_id,patient_id,image,labels"]
    for number in range(count):
        rng = np.random.default_rng(number)
        labels, moved = balls(rng), balls(np.random.default_rng(number), shift=1)
        image = np.where(labels > 0, 40, np.where(np.arange(SIZE)[:, None, None] < 4, -1000, 0)).astype(np.float32)
        image += rng.normal(0, 10, image.shape).astype(np.float32)
        name = f"case_{number:05d}"
        write_volume(folder / "data" / "images" / f"{name}.nii.gz", Volume(image.round(), AFFINE))
        write_label_map(folder / "data" / "labels" / f"{name}.nii.gz", LabelMap(labels, AFFINE))
        write_label_map(folder / "predictions" / f"{name}.nii.gz", LabelMap(moved, AFFINE))
        lines.append(f"{name},patient_{number:05d},images/{name}.nii.gz,labels/{name}.nii.gz")
    (folder / "data" / "cases.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "tiny.yaml").write_text(MANIFEST, encoding="utf-8")
    (folder / "workflow.yaml").write_text(WORKFLOW, encoding="utf-8")


def balls(rng: np.random.Generator, shift: int = 0) -> np.ndarray:
    """One ball a structure, side by side."""
    grid = np.stack(np.meshgrid(*[np.arange(SIZE)] * 3, indexing="ij"))
    labels = np.zeros((SIZE,) * 3, dtype=np.uint8)
    for value in range(1, len(STRUCTURES) + 1):
        centre = np.array([12, 4 * value - 1 + shift, rng.integers(6, 18)])
        labels[((grid - centre[:, None, None, None]) ** 2).sum(axis=0) <= 3] = value
    return labels


def prepare(folder: Path, jobs: int) -> None:
    """The step `preprocessing`: what a training stage does before its first step."""
    from medpipe.datasets.cases import CasesConfig, DataConfig, list_cases
    from medpipe.datasets.prepared import prepare_cases
    from medpipe.datasets.preprocessing import Intensity, Preprocessing

    data = DataConfig(root=folder / "data", cache=folder / "cache")
    cases = list_cases(CasesConfig(manifest="./tiny.yaml"), data, folder)
    values = Preprocessing(
        spacing_mm=(3.0, 3.0, 3.0), intensity=Intensity(clip_hu=(-200.0, 300.0), mean_hu=40.0, sd_hu=50.0)
    )
    assert len(prepare_cases(cases, values, data, jobs=jobs)) == len(cases)


def run(command: list[str], folder: Path) -> dict[str, Any]:
    """Seconds on the clock and of CPU, and the largest resident size of any of its processes."""
    began = time.perf_counter()
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{' '.join(command)}: exit status {status}\n{(folder / 'output.txt').read_text()}")
    return {
        "wall_s": round(time.perf_counter() - began, 2),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mib": usage.ru_maxrss // 1024,
    }


def growth(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each step: CPU of a further case between neighbouring numbers of cases, the growth of memory, the bars."""
    found = {}
    for name in (key for key in rows[0] if key != "cases"):
        slopes = [
            (after[name]["cpu_s"] - before[name]["cpu_s"]) / (after["cases"] - before["cases"])
            for before, after in pairwise(rows)
        ]
        memory = rows[-1][name]["peak_mib"] / rows[0][name]["peak_mib"]
        found[name] = {
            "ms_per_further_case": [round(1000 * slope, 2) for slope in slopes],
            "memory_ratio": round(memory, 2),
            "bar_linear_met": len(slopes) < 2 or slopes[-1] <= 1.5 * max(slopes[0], 1e-3),
            "bar_flat_met": memory <= 1.3,
        }
    return found


def table_seconds(rows: int) -> float:
    """Read a table of so many rows as cases, and split them: test part, five folds, a share."""
    from medpipe.datasets.cases import CasesConfig, DataConfig, list_cases
    from medpipe.datasets.splits import labelled_share, split_fold

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "data").mkdir()
        (folder / "data" / "image.nii.gz").write_bytes(b"")
        lines = [f"case_{number:06d},patient_{number // 2:06d},image.nii.gz" for number in range(rows)]
        text = "\n".join(["case_id,patient_id,image", *lines]) + "\n"
        (folder / "data" / "cases.csv").write_text(text, encoding="utf-8")
        (folder / "tiny.yaml").write_text(MANIFEST.split("if_absent")[0] + "test: {share: 0.2}\n", encoding="utf-8")
        data = DataConfig(root=folder / "data", cache=folder / "cache")
        began = time.perf_counter()
        training = list_cases(CasesConfig(manifest="./tiny.yaml", part="train"), data, folder)
        test = list_cases(CasesConfig(manifest="./tiny.yaml", part="test"), data, folder)
        folds = [split_fold(training, fold=fold, num_folds=5, seed=0) for fold in range(5)]
        labelled_share(training, 0.1, seed=0)
        seconds = time.perf_counter() - began
    assert len(training) + len(test) == rows
    assert sum(len(validation) for _, validation in folds) == len(training)
    return seconds


if __name__ == "__main__":
    main()
