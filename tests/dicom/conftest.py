"""Grids of every kind, blobs on them, and a series of files to spoil."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from medpipe.dicom.series import Series
from medpipe.dicom.write_series import write_series
from medpipe.geometry.volume import Affine, MaskStack, Volume
from medpipe.geometry.world import affine_from_dicom

SHAPE = (7, 24, 31)


def affine_of(row, column, spacing=(3.0, 0.7, 1.1), position=(-100.3, 57.9, 12.25)) -> Affine:
    """LPS directions along a row and down a column; pixels are not square."""
    return affine_from_dicom(np.asarray(row, float), np.asarray(column, float), spacing, np.asarray(position))


def turn(degrees_xyz: tuple[float, float, float]) -> np.ndarray:
    """Rotation matrix from angles about x, then y, then z."""
    rotation = np.eye(3)
    for axis, degrees in enumerate(degrees_xyz):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        a, b = [k for k in range(3) if k != axis]
        step = np.eye(3)
        step[[a, a, b, b], [a, b, a, b]] = [c, -s, s, c]
        rotation = step @ rotation
    return rotation


OBLIQUE, NEARLY_AXIAL = turn((25.0, -14.0, 33.0)), turn((0.3, 0.2, -0.4))
AFFINES = {
    "head first supine": affine_of((1, 0, 0), (0, 1, 0)),
    "feet first supine": affine_of((-1, 0, 0), (0, 1, 0)),
    "head first prone": affine_of((-1, 0, 0), (0, -1, 0)),
    "sagittal": affine_of((0, 1, 0), (0, 0, -1)),
    "coronal": affine_of((1, 0, 0), (0, 0, -1)),
    "oblique": affine_of(OBLIQUE[:, 0], OBLIQUE[:, 1]),
    "nearly axial": affine_of(NEARLY_AXIAL[:, 0], NEARLY_AXIAL[:, 1]),
}


@pytest.fixture(params=list(AFFINES))
def affine(request: pytest.FixtureRequest) -> Affine:
    """Each kind of grid in turn."""
    return AFFINES[request.param]


def random_volume(affine: Affine, shape=SHAPE, seed: int = 0) -> Volume:
    """Noise around water under some air, as int16."""
    array = np.random.default_rng(seed).normal(0, 60, size=shape).round().astype(np.int16)
    array[:, :3] = -1000
    return Volume(array, affine)


def random_masks(affine: Affine, shape=SHAPE, seed: int = 1) -> MaskStack:
    """Overlapping structures with holes, islands and voxels that touch at corners; the last one is empty."""
    d, h, w = np.indices(shape)
    ring = (np.hypot(h - 11, (w - 14) * 1.1) < 9) & ~(np.hypot(h - 11, w - 15) < 4) & (d > 0) & (d < 6)
    noise = (np.random.default_rng(seed).random(shape) < 0.4) & (d < 2)  # on the border, too
    return MaskStack(np.stack([ring, noise, np.zeros(shape, bool)]), affine, ("ctv_high_risk", "bladder", "uterus"))


@pytest.fixture
def make_volume() -> Callable[..., Volume]:
    return random_volume


@pytest.fixture
def make_masks() -> Callable[..., MaskStack]:
    return random_masks


@pytest.fixture
def axial() -> Affine:
    return AFFINES["head first supine"]


@pytest.fixture
def series(tmp_path: Path, axial: Affine) -> Series:
    """A sound series of seven slices in tmp_path/ct, head first and supine."""
    return write_series(tmp_path / "ct", random_volume(axial), patient_id="gyn_017", uid_seed="series of the tests")


@pytest.fixture
def edit() -> Callable[..., None]:
    """Rewrites attributes of a DICOM file in place; None removes one."""

    def rewrite(path: Path, **attributes: object) -> None:
        dataset = dcmread(path)
        for keyword, value in attributes.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)
        dataset.save_as(path)

    return rewrite
