"""Does `medpipe evaluate` keep the cores busy? A folder of generated cases, the whole command, cpu time over wall time.

    python benchmarks/evaluate_folder.py [--cases 20] [--jobs 2]

Cases: 8 organs in 512 x 512 x 150 voxels (`generated_bodies`), label maps as .nii.gz. Bar: above 80 % of `jobs` cores.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from generated_bodies import SPACING_MM, generate_pair

from medpipe.geometry.nifti import write_label_map
from medpipe.geometry.volume import LabelMap
from medpipe.version import __version__


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    affine = np.diag([*SPACING_MM, 1.0])
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for side in ("ref", "pred"):
            (folder / side).mkdir()
        for case in range(options.cases):
            for side, array in zip(("ref", "pred"), generate_pair((150, 512, 512), 8, seed=case), strict=True):
                write_label_map(folder / side / f"case_{case:02d}.nii.gz", LabelMap(array, affine))
        command = [sys.executable, "-m", "medpipe.cli", "evaluate", "pred", "ref", "--jobs", str(options.jobs)]
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        wall_s, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    busy = cpu_s / (wall_s * options.jobs)
    result = {
        "cases": options.cases,
        "jobs": options.jobs,
        "wall_s": round(wall_s, 2),
        "cpu_s": round(cpu_s, 2),
        "share_of_cores": round(busy, 3),
        "bar_above_80_percent_met": busy > 0.8,
        "device": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"medpipe": __version__, "python": platform.python_version(), "numpy": np.__version__},
    }
    path = Path(__file__).parent / "results" / "evaluate_folder.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"{options.cases} cases in {wall_s:.1f} s, {cpu_s:.1f} s of cpu: {100 * busy:.0f} % of {options.jobs} cores")


if __name__ == "__main__":
    main()
