"""A NIfTI of Gy: what is read, what is refused."""

from pathlib import Path

import numpy as np
import pytest

from medpipe.geometry.dose import Dose, read_dose_nifti
from medpipe.geometry.faults import DataFault
from medpipe.geometry.nifti import write_volume
from medpipe.geometry.volume import Volume

AFFINE = np.array([[0, 0, 2.0, -5], [0, 3, 0, 7], [4, 0, 0, 1], [0, 0, 0, 1.0]])


def written(path: Path, gy: np.ndarray) -> Path:
    write_volume(path, Volume(gy.astype(np.float32), AFFINE))
    return path


def test_doses_are_read_as_they_are(tmp_path: Path) -> None:
    gy = np.random.default_rng(0).uniform(0, 50, (4, 5, 6)).astype(np.float32)
    dose = read_dose_nifti(written(tmp_path / "dose.nii.gz", gy))
    assert np.array_equal(dose.gy, gy)
    assert np.allclose(dose.affine, AFFINE)


@pytest.mark.parametrize("value", [-0.5, np.nan, np.inf])
def test_negative_and_undefined_doses_are_refused(value: float, tmp_path: Path) -> None:
    gy = np.ones((4, 5, 6))
    gy[1, 2, 3] = value
    with pytest.raises(DataFault, match=r"1 voxels are negative, NaN or infinite, the first at .*\(1, 2, 3\)"):
        read_dose_nifti(written(tmp_path / "dose.nii.gz", gy))


def test_nothing_cgy_and_one_plane_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataFault, match="0 Gy in every voxel"):
        read_dose_nifti(written(tmp_path / "zero.nii.gz", np.zeros((4, 5, 6))))
    with pytest.raises(DataFault, match="not in Gy"):
        read_dose_nifti(written(tmp_path / "large.nii.gz", np.full((4, 5, 6), 2e5)))
    with pytest.raises(DataFault, match="one plane"):
        read_dose_nifti(written(tmp_path / "plane.nii.gz", np.ones((1, 5, 6))))
    with pytest.raises(ValueError, match="floats in Gy"):
        Dose(np.ones((2, 2, 2), int), AFFINE)
