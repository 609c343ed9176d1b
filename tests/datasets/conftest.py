"""Small CTs with labels, written as files in each layout."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from medpipe.datasets.manifest import Manifest
from medpipe.geometry.nifti import write_label_map, write_mask, write_volume
from medpipe.geometry.volume import LabelMap, Volume

SHAPE = (20, 24, 28)


def axes(spacing_mm: tuple[float, float, float] = (3.0, 2.0, 2.0)) -> NDArray[np.float64]:
    """Canonical axes: d to the head, h to the front, w to the right."""
    affine = np.eye(4)
    affine[:3, :3] = [[0, 0, spacing_mm[2]], [0, spacing_mm[1], 0], [spacing_mm[0], 0, 0]]
    affine[:3, 3] = (-20.0, -30.0, 40.0)
    return affine


def toy_volume(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> Volume:
    """Soft tissue with noise, air around it."""
    rng = np.random.default_rng(seed)
    hu = np.full(shape, -1000.0, dtype=np.float32)
    body = tuple(slice(size // 8, size - size // 8) for size in shape)
    hu[body] = 40.0
    hu += rng.normal(0, 20, size=shape).astype(np.float32)
    return Volume(hu.clip(-1024), axes())


def toy_labels(shape: tuple[int, int, int] = SHAPE) -> LabelMap:
    """Bladder (1) and rectum (2), two boxes within the body."""
    array = np.zeros(shape, dtype=np.uint8)
    array[6:12, 12:18, 8:18] = 1
    array[6:12, 5:9, 10:15] = 2
    return LabelMap(array, axes())


@pytest.fixture
def manifest() -> Callable[..., Manifest]:
    """A manifest of bladder (1) and rectum (2) in the nnU-Net layout, with changes."""

    def make(**changes: Any) -> Manifest:
        values: dict[str, Any] = {
            "manifest": "toy",
            "layout": "nnunet",
            "folder": "toy",
            "structures": {"bladder": {"tg263": "Bladder", "label": 1}, "rectum": {"label": 2}},
        }
        return Manifest.model_validate({**values, **changes}, strict=False)

    return make


@pytest.fixture
def write_nnunet() -> Callable[..., Path]:
    """Write cases as imagesTr / labelsTr; returns the folder."""

    def write(folder: Path, ids: tuple[str, ...] = ("p1_a", "p1_b", "p2_a"), labelled: bool = True) -> Path:
        for seed, case_id in enumerate(ids):
            write_volume(folder / "imagesTr" / f"{case_id}_0000.nii.gz", toy_volume(seed))
            if labelled:
                write_label_map(folder / "labelsTr" / f"{case_id}.nii.gz", toy_labels())
        return folder

    return write


@pytest.fixture
def write_masks() -> Callable[..., Path]:
    """Write one case as ct.nii.gz and segmentations/*.nii.gz; returns the data set's folder."""

    def write(folder: Path, case_id: str = "s0001", masks: dict[str, NDArray[Any]] | None = None) -> Path:
        write_volume(folder / case_id / "ct.nii.gz", toy_volume())
        (folder / case_id / "segmentations").mkdir(parents=True, exist_ok=True)
        labels = toy_labels().array
        masks = {"bladder": labels == 1, "rectum": labels == 2} if masks is None else masks
        for name, mask in masks.items():
            write_mask(folder / case_id / "segmentations" / f"{name}.nii.gz", mask, axes())
        return folder

    return write
