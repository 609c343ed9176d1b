"""Data that no stage should see are refused before anything is written, with the file's name and exit code 3."""

import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medpipe.datasets.phantom.pelvis import PelvisConfig
from medpipe.datasets.phantom.write import write_phantoms

IMAGE, LABELS = "imagesTr/{}_0000.nii.gz", "labelsTr/{}.nii.gz"
STRUCTURES = ("bladder", "rectum", "sacrum", "hip_left", "hip_right", "femur_left", "femur_right")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four good cases in nnU-Net's layout."""
    folder = tmp_path_factory.mktemp("good") / "multi_organ_ct"
    config = PelvisConfig(spacing_mm=(12.0, 8.0, 8.0), spacing_variation=0.0, applicator=False)
    write_phantoms(folder, config, 4, first_seed=0, form="nifti_label_map", structures=STRUCTURES)
    return folder.parent


def changed(path: Path, change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> None:
    image = nibabel.load(path)
    array, affine = change(np.asanyarray(image.dataobj).astype(np.float32), image.affine.copy())
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


def with_nan(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    array[3, 3, 3] = np.nan
    return array, affine


def moved(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    affine[0, 3] += 40
    return array, affine


def shorter(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return array[..., :-1], affine


def half_labels(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return array * 0.5, affine


def without_rescale(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return array + 1024, affine


def with_time(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.stack([array, array], axis=-1), affine


def sheared(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    affine[0, 1] += 1.0
    return array, affine


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def broken_checksum(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-6] ^= 0xFF
    path.write_bytes(bytes(data))


def copied_from_another_patient(path: Path) -> None:
    other, image = nibabel.load(max(path.parent.glob("*.nii.gz"))), nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(np.asanyarray(other.dataobj), image.affine), path)


FAULTS = {
    "a NaN in the image": (IMAGE, with_nan),
    "labels 40 mm off": (LABELS, moved),
    "labels one slice short": (LABELS, shorter),
    "labels of one half": (LABELS, half_labels),
    "stored values without rescale": (IMAGE, without_rescale),
    "a time axis": (IMAGE, with_time),
    "a sheared grid": (IMAGE, sheared),
    "a truncated file": (IMAGE, truncated),
    "an empty file": (LABELS, emptied),
    "a wrong checksum": (IMAGE, broken_checksum),
    "the image of another patient": (IMAGE, copied_from_another_patient),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_data_are_refused_by_name_before_anything_is_written(
    fault: str, good: Path, tmp_path: Path, medpipe
) -> None:
    root = tmp_path / "data"
    shutil.copytree(good, root)
    case = min(path.name.removesuffix("_0000.nii.gz") for path in (root / "multi_organ_ct" / "imagesTr").iterdir())
    where, spoil = FAULTS[fault]
    path = root / "multi_organ_ct" / where.format(case)
    if spoil in (truncated, emptied, broken_checksum, copied_from_another_patient):
        spoil(path)  # type: ignore[call-arg]
    else:
        changed(path, spoil)  # type: ignore[arg-type]

    done = medpipe(tmp_path, "run", "multi_organ_segmentation", "-o", "smoke", "data.source=files", f"data.root={root}")

    assert done.returncode == 3, done.stdout + done.stderr
    assert path.name in done.stderr
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["data"]


def test_good_data_are_not_refused(good: Path, tmp_path: Path, medpipe) -> None:
    done = medpipe(
        tmp_path, "check", "multi_organ_segmentation", "-o", "smoke", "data.source=files", f"data.root={good}"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("HU") >= 4
