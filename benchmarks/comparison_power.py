"""How often does `medpipe compare` find a shift of 0.6 SD in 29 patients, and how often something where nothing is?

    python benchmarks/comparison_power.py [--draws 1000] [--patients 29] [--seed 0]

Scores are drawn as a patient's own level plus noise of each model; the shift is in standard deviations of the paired
difference. Each draw goes through `compare_scores` as the command calls it, without the bootstrap. Bars: the shift is
found in 75 % of draws or more; something found in 3 to 7 % of draws without a shift (two models, one structure).
"""

import argparse
import json
import math
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy
import statsmodels

from medpipe.metrics.comparison import arms_of, compare_scores
from medpipe.version import __version__

PATIENT_SD, MODEL_SD = 0.05, 0.02
SETTINGS = {  # name: models, structures, shift in SD
    "one structure, shifted": (2, 1, 0.6),
    "one structure, no shift": (2, 1, 0.0),
    "five structures, no shift": (2, 5, 0.0),
    "five structures, all shifted": (2, 5, 0.6),
    "three models, five structures, no shift": (3, 5, 0.0),
}


def draw(rng: np.random.Generator, num_patients: int, num_models: int, num_structures: int, shift: float) -> list[Any]:
    """One study: a table of scores a model; the last model is the shifted one."""
    levels = rng.normal(0.8, PATIENT_SD, (num_structures, num_patients))
    tables = []
    for model in range(num_models):
        dice = levels + rng.normal(0, MODEL_SD, levels.shape)
        if model == num_models - 1:
            dice += shift * MODEL_SD * math.sqrt(2)
        patients = [f"p{i}" for i in range(num_patients)] * num_structures
        structures = np.repeat([f"structure_{i}" for i in range(num_structures)], num_patients)
        common = {"model": f"model {model}", "status": "scored", "definition": "medpipe-1"}
        rows = {"case_id": patients, "patient_id": patients, "structure": structures, "dice": dice.ravel(), **common}
        tables.append(pd.DataFrame(rows))
    return tables


def share_found(rng: np.random.Generator, draws: int, num_patients: int, setting: tuple[int, int, float]) -> float:
    """The share of draws in which any adjusted p is 0.05 or less."""
    found = 0
    for _ in range(draws):
        tables = draw(rng, num_patients, *setting)
        arms = {name: rows for table in tables for name, rows in arms_of(table, table["model"][0]).items()}
        tests = compare_scores(arms, metrics=["dice"], num_bootstraps=0).pairs
        found += any(test.p_adjusted <= 0.05 for test in tests)
    return found / draws


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--patients", type=int, default=29)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    began, shares = time.perf_counter(), {}
    for name, setting in SETTINGS.items():
        shares[name] = share_found(rng, options.draws, options.patients, setting)
        print(f"{name:<42} something found in {100 * shares[name]:5.1f} % of {options.draws} draws", flush=True)
    result = {
        "draws": options.draws,
        "patients": options.patients,
        "seed": options.seed,
        "shares": shares,
        "bars_met": {
            "shift of 0.6 SD found in 75 % or more": shares["one structure, shifted"] >= 0.75,
            "something in 3 to 7 % without a shift": 0.03 <= shares["one structure, no shift"] <= 0.07,
        },
        "seconds": round(time.perf_counter() - began, 1),
        "device": platform.processor() or platform.machine(),
        "versions": {"medpipe": __version__, "numpy": np.__version__, "scipy": scipy.__version__,
                     "statsmodels": statsmodels.__version__, "python": platform.python_version()},
    }  # fmt: skip
    path = Path(__file__).parent / "results" / "comparison_power.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"bars met: {result['bars_met']}; written: {path.name}")


if __name__ == "__main__":
    main()
