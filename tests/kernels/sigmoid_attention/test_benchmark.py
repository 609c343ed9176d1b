"""What benchmarks/attention.py counts and decides without a device."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def attention_forms() -> ModuleType:
    return load("attention_forms")


@pytest.fixture(scope="module")
def attention_plan() -> ModuleType:
    return load("attention_plan")


def test_operations_are_those_that_the_field_counts(attention_forms: ModuleType) -> None:
    forward, backward = attention_forms.Case.parse("1x32x16384x64").operations()
    assert forward == 4 * 32 * 16384**2 * 64
    assert backward == 2.5 * forward
    assert attention_forms.Case.parse("1x32x16384x64+causal").operations() == (forward / 2, backward / 2)
    with pytest.raises(ValueError, match="BATCHxHEADS"):
        attention_forms.Case.parse("1x2x3x4+mask")


def test_shifted_windows_have_the_regions_of_swin(attention_forms: ModuleType) -> None:
    ids = attention_forms.region_ids(attention_forms.Case.parse("8x1x343x16+regions"), "cpu")
    assert [len(window.unique()) for window in ids] == [1, 2, 2, 4, 2, 4, 4, 8]


def test_bars_come_first_and_every_case_once(attention_forms: ModuleType, attention_plan: ModuleType) -> None:
    items = attention_plan.plan()
    assert [item.text for item in items[:8]] == [item.text for item in attention_plan.plan(quick=True)]
    assert len(set(items)) == len(items)
    grid = [attention_forms.Case.parse(item.text) for item in items if item.text in attention_plan.GRID]
    assert {case.batch * case.tokens for case in grid} == {16384}
    assert {case.heads * case.width for case in grid} == {2048}
    for item in items:
        attention_forms.Case.parse(item.text)


def test_bars_are_judged_by_what_was_run(attention_plan: ModuleType) -> None:
    rates = {"forward_tflops": 460.0, "backward_tflops": 300.0}
    causal = {"forward_tflops": 400.0, "backward_tflops": 240.0}
    short = {"sigmoid": {"graph_forward_s": 2e-6}, "softmax": {}, "softmax_cudnn": {"graph_forward_s": 3e-6}}
    bars = attention_plan.judge(
        {
            "1x32x16384x64": {"forms": {"sigmoid": rates}},
            "1x32x16384x64+causal": {"forms": {"sigmoid": causal}},
            "2x12x216x64": {"forms": short},
        }
    )
    met = {name: bar["met"] for name, bar in bars.items() if bar["value"] is not None}
    assert met == {
        "forward, full, 1x32x16384x64: TFLOP/s": True,
        "forward, 1x32x16384x64: rate of causal over that of full": True,
        "backward, full, 1x32x16384x64: TFLOP/s": False,
        "backward, 1x32x16384x64: rate of causal over that of full": False,
        "forward, 2x12x216x64: times as fast as the fastest softmax, CUDA graphs": True,
    }
    assert bars["forward, 2x12x216x64: times as fast as the fastest softmax, CUDA graphs"]["fastest"] == "softmax_cudnn"
    assert all(bar["met"] is None for name, bar in bars.items() if name not in met)
