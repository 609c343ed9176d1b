"""A made-up study that looks like a real one: ellipsoid organs in a noisy volume, two models, missed and false ones."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from medpipe.metrics.comparison import Comparison, arms_of, compare_scores
from medpipe.metrics.definitions import DEFINITION
from medpipe.metrics.scoring import score_masks
from medpipe.reporting.content import CaseView, Reconstruction, ReportContent

SPACING_MM = (3.0, 2.0, 2.0)
SHAPE = (40, 72, 90)

# structure -> centre and radii in mm (superior, anterior, right), HU
ORGANS = {
    "ctv_high_risk": ((56, 62, 90), (18, 16, 20), 55),
    "bladder": ((52, 94, 90), (22, 18, 27), 8),
    "rectum": ((48, 30, 90), (38, 10, 12), 35),
    "sigmoid_colon": ((90, 44, 112), (14, 12, 30), 30),
    "uterus": ((84, 72, 92), (20, 20, 24), 62),
    "bowel": ((96, 96, 62), (16, 16, 26), 25),
}


def organ(centre_mm: tuple, radii_mm: tuple, roughness: np.ndarray) -> np.ndarray:
    axes = np.ogrid[tuple(slice(0, n) for n in SHAPE)]
    parts = [((a * s - c) / r) ** 2 for a, s, c, r in zip(axes, SPACING_MM, centre_mm, radii_mm, strict=True)]
    return np.sqrt(sum(parts)) + roughness < 1


def smooth_noise(rng: np.random.Generator, sigma: float) -> np.ndarray:
    noise = gaussian_filter(rng.standard_normal(SHAPE), sigma)
    return noise / noise.std()


def toy_case(seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A pelvis-like volume in HU and its organs."""
    rng = np.random.default_rng([11, seed])
    body = organ((60, 72, 90), (200, 66, 84), 0.02 * smooth_noise(rng, 5))
    volume = np.where(body, -90.0, -1000.0) + np.where(organ((60, 72, 90), (200, 58, 76), 0.0), 125.0, 0.0)
    for side in (38, 142):
        volume[organ((45, 70, side), (30, 17, 15), 0.05 * smooth_noise(rng, 2))] = 420.0
    masks, roughness = {}, 0.07 * smooth_noise(rng, 3)
    for name, (centre, radii, hu) in ORGANS.items():
        moved = tuple(c + rng.normal(0, 2) for c in centre)
        masks[name] = organ(moved, radii, roughness)
        volume[masks[name]] = hu
    return (volume + 14 * smooth_noise(rng, 0.6)).astype(np.float32), masks


def toy_prediction(masks: dict[str, np.ndarray], seed: int, error: float) -> dict[str, np.ndarray]:
    """The organs, displaced and roughened; in some cases one is missed, in some a bowel is there that is none."""
    rng = np.random.default_rng([12, seed, round(1000 * error)])
    found, roughness = {}, 0.09 * smooth_noise(rng, 2)
    for name, mask in masks.items():
        moved = np.roll(mask, np.rint(rng.normal(0, error / 2, size=3)).astype(int), axis=(0, 1, 2))
        found[name] = gaussian_filter(moved.astype(np.float32), 1) + roughness > 0.5
    if rng.random() < 0.15 * error:
        found["sigmoid_colon"] = np.zeros(SHAPE, dtype=bool)
    return found


def score_rows(model: str, share: float, case: int, reference: dict, prediction: dict) -> list[dict]:
    rows = []
    for name, mask in reference.items():
        score = score_masks(mask, prediction[name], spacing_mm=SPACING_MM, tolerances_mm=[2.0])
        keys = {"model": model, "labelled_share": share, "case_id": f"gyn_{case:03d}", "patient_id": f"p{case:02d}"}
        rows.append(keys | {"structure": name} | score.row())
    return rows


@pytest.fixture(scope="session")
def example_cases() -> dict[str, tuple[np.ndarray, dict, dict]]:
    """case_id -> volume, reference, prediction of the model `full`."""
    cases = {}
    for case in range(5):
        volume, reference = toy_case(case)
        cases[f"gyn_{case:03d}"] = volume, reference, toy_prediction(reference, case, error=1.0)
        if case in (2, 4):  # the bowel is in neither mask, or in the prediction only
            reference["bowel"] = np.zeros(SHAPE, dtype=bool)
        if case == 2:
            cases["gyn_002"][2]["bowel"] = np.zeros(SHAPE, dtype=bool)
    return cases


@pytest.fixture(scope="session")
def example_scores(example_cases: dict) -> pd.DataFrame:
    """Two models on all labelled cases."""
    rows = []
    for case, (_, reference, prediction) in enumerate(example_cases.values()):
        rows += score_rows("full", 1.0, case, reference, prediction)
        rows += score_rows("scratch", 1.0, case, reference, toy_prediction(reference, case, error=2.5))
    return pd.DataFrame(rows)


def made_up_scores(models: tuple[str, ...], shares: tuple[float, ...], num_cases: int) -> pd.DataFrame:
    """Drawn scores, for tables larger than real masks would be quick to score."""
    rng = np.random.default_rng(5)
    rows = []
    for m, model in enumerate(models):
        for share in shares:
            for case in range(num_cases):
                for s, structure in enumerate(ORGANS):
                    dice = float(np.clip(rng.normal(0.9 - 0.05 * s - 0.02 * m + 0.08 * math.log10(share), 0.05), 0, 1))
                    status = "missed" if rng.random() < 0.02 else "scored"
                    far = math.inf if status == "missed" else 40 * (1 - dice) * float(rng.uniform(0.5, 2))
                    dice = 0.0 if status == "missed" else dice
                    keys = {"model": model, "labelled_share": share, "case_id": f"c{case}", "patient_id": f"p{case}"}
                    distances = {"hd95_mm": far, "assd_mm": far / 4, "asd_mm": far / 4.5}
                    rows.append(
                        keys
                        | {"structure": structure, "status": status, "dice": dice, "iou": dice / (2 - dice)}
                        | distances
                        | {"nsd_2mm": dice, "volume_ref_ml": 50.0, "volume_pred_ml": 48.0}
                    )
    return pd.DataFrame(rows)


def toy_curve(num_steps: int, *, with_validation: bool) -> pd.DataFrame:
    rng = np.random.default_rng(num_steps)
    steps = np.arange(1, num_steps + 1)
    loss = 0.3 + 1.4 * np.exp(-steps / (num_steps / 5)) + rng.normal(0, 0.06, num_steps)
    curve = pd.DataFrame({"step": steps, "loss": loss, "learning_rate": 1e-3})
    if with_validation:
        dice = 0.9 * (1 - np.exp(-steps / (num_steps / 4)))
        curve["validation_dice"] = np.where(steps % (num_steps // 10) == 0, dice, np.nan)
    return curve


@pytest.fixture(scope="session")
def example_comparison(example_scores: pd.DataFrame) -> Comparison:
    full = example_scores[example_scores["labelled_share"] == 1.0].assign(definition=DEFINITION)
    return compare_scores(arms_of(full, "full"), num_bootstraps=200)


@pytest.fixture(scope="session")
def example_content(example_cases: dict, example_scores: pd.DataFrame, example_comparison: Comparison) -> ReportContent:
    from medpipe.metrics.aggregation import notable_cases

    views = []
    full = example_scores[example_scores["model"] == "full"]
    for role, case_id in notable_cases(example_scores, model="full"):
        volume, reference, prediction = example_cases[case_id]
        dice = full[full["case_id"] == case_id].set_index("structure")["dice"].to_dict()
        views.append((role, CaseView(case_id, volume, SPACING_MM, reference, prediction, dice, model="full")))
    volume = example_cases["gyn_000"][0][4:36, 4:68, 13:77]
    hidden = np.random.default_rng(3).random((4, 8, 8)) < 0.6
    hidden = np.kron(hidden, np.ones((8, 8, 8))).astype(bool)
    blurred = np.where(hidden, gaussian_filter(volume, 3), volume)
    return ReportContent(
        title="Gynaecologic brachytherapy",
        run="demo",
        date="2026-11-23 14:05",
        summary="Three stages on generated phantoms: masked pretraining, six organs, brachytherapy.",
        notes=("gyn_003: the prediction was brought to the grid of the reference.",),
        scores=example_scores,
        comparisons=[("", example_comparison)],
        curves={
            "pretrain": toy_curve(900, with_validation=False),
            "organs": toy_curve(150, with_validation=True),
            "brachytherapy": toy_curve(300, with_validation=True),
        },
        cases=views,
        reconstruction=Reconstruction(
            "gyn_000", volume, np.where(hidden, np.nan, volume), blurred.astype(np.float32), SPACING_MM
        ),
        transfers={
            "organs": {
                "source": "pretrain",
                "loaded": 128,
                "not_loaded": ["decoder.0.weight"],
                "fresh": ["head.weight", "head.bias"],
            },
            "brachytherapy": {
                "source": "organs",
                "loaded": 186,
                "not_loaded": ["head.weight", "head.bias"],
                "fresh": ["head.weight", "head.bias"],
            },
        },
        record={
            "command": "medpipe run gynecologic_brachytherapy --overlay demo",
            "seed": 0,
            "revision": "0f3c2a9",
            "host": "node-17, 2 cores, no GPU",
            "hours": 0.12,
            "peak_memory_gb": 2.4,
            "versions": {"medpipe": "0.1.0", "torch": "2.13.0"},
        },
        workflow="workflow: gynecologic_brachytherapy\nstages:\n  pretrain:\n    mask_ratio: 0.6\n",
    )


@pytest.fixture(scope="session")
def make_scores() -> Callable[..., pd.DataFrame]:
    return made_up_scores
