"""The phantoms are no exercise in thresholding: a small form of benchmarks/phantom_difficulty.py."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from medpipe.datasets.phantom.pelvis import BRACHYTHERAPY_STRUCTURES, PelvisConfig

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "phantom_difficulty.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("phantom_difficulty", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_intensity_and_largest_component_do_not_find_the_organs(benchmark: ModuleType) -> None:
    samples = benchmark.load_samples(range(200, 205), PelvisConfig(spacing_mm=(6.0, 4.0, 4.0)))
    table = benchmark.measure(samples[:3], samples[3:], BRACHYTHERAPY_STRUCTURES, images=("raw",))
    assert benchmark.mean_over_structures(table) <= benchmark.LIMIT, table


def test_the_search_finds_an_organ_that_intensity_does_tell_apart(benchmark: ModuleType) -> None:
    rng = np.random.default_rng(0)
    samples = []
    for start in range(3, 9):
        hu = rng.normal(0, 5, size=(20, 20, 20))
        mask = np.zeros(hu.shape, dtype=bool)
        mask[start : start + 8, 5:13, 4:12] = True
        hu[mask] += 60
        # As bright, but not connected and smaller.
        hu[0, :2, :2] += 60
        samples.append(benchmark.Sample({"raw": hu}, {"lump": mask}))
    row = benchmark.measure(samples[:3], samples[3:], ["lump"], images=("raw",))["lump"]
    assert row["test_dice"] > 0.98
    assert {form["form"] for form in row["forms"]} == {"window, raw", "histogram, raw"}
    assert all(form["test_dice"] > 0.98 for form in row["forms"])
