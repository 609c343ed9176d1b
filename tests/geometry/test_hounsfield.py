from pathlib import Path

import numpy as np
import pytest

from medpipe.geometry.faults import DataFault
from medpipe.geometry.hounsfield import check_hounsfield, hu_fault, hu_notes
from medpipe.geometry.nifti import read_volume
from medpipe.geometry.volume import Volume


def body(air: float = -1000.0, body_share: float = 0.35) -> np.ndarray:
    """A cylinder of fat, muscle and some bone in air, with noise."""
    rng = np.random.default_rng(0)
    _, h, w = np.indices((12, 80, 80))
    radius = np.hypot(h - 40, w - 40) / (80 * np.sqrt(body_share / np.pi))
    array = np.full(h.shape, air)
    array[radius < 1] = -100
    array[radius < 0.85] = 45
    array[radius < 0.15] = 700
    return np.maximum(array + rng.normal(0, 12, h.shape), -1024)


def volume(array: np.ndarray) -> Volume:
    return Volume(array.astype(np.float32), np.eye(4))


@pytest.mark.parametrize("body_share", [0.05, 0.35, 0.7])
def test_hu_are_accepted_and_shifts_by_an_intercept_refused(body_share: float) -> None:
    array = body(body_share=body_share)
    assert hu_fault(volume(array)) is None
    if body_share > 0.1:  # a twentieth of soft tissue is what telling needs
        assert "stored values" in str(hu_fault(volume(array + 1024)))
        assert "twice" in str(hu_fault(volume(array - 1024)))


def test_padding_metal_and_the_rims_it_throws_are_no_fault_but_noted() -> None:
    array = body()
    array[:, :6], array[:, -6:] = -3024, -2000
    array[:, 38:42, 38:42] = 30000
    array[:, 38:42, 43:45] = -3000
    assert hu_fault(volume(array)) is None
    notes = " ".join(hu_notes(volume(array)))
    assert "down to -3024" in notes
    assert f"{12 * 16} voxels lie above 3071 HU (metal, up to 30000)" in notes


def test_padding_does_not_hide_a_forgotten_rescale() -> None:
    array = body() + 1024
    array[:, :6] = -2000
    assert hu_fault(volume(array)) is not None


def test_padding_at_minus_2048_alone_is_no_double_rescale() -> None:
    array = body()
    _, h, w = np.indices(array.shape)
    array[np.hypot(h - 40, w - 40) > 39] = -2048
    assert hu_fault(volume(array)) is None


def test_a_field_of_view_inside_the_body_has_no_air_and_is_accepted() -> None:
    assert hu_fault(volume(np.random.default_rng(0).normal(40, 20, (10, 30, 30)))) is None


def test_a_fault_names_the_file_and_notes_are_handed_over(tmp_path: Path) -> None:
    with pytest.raises(DataFault, match=r"ct\.nii\.gz: these are stored values, not HU"):
        check_hounsfield(tmp_path / "ct.nii.gz", volume(body() + 1024))
    notes: list[str] = []
    array = body()
    array[0, 0, 0] = 5000
    check_hounsfield(tmp_path / "ct.nii.gz", volume(array), notes)
    assert len(notes) == 1


def test_a_published_ct_is_accepted(real_data: Path) -> None:
    assert hu_fault(read_volume(real_data / "ct_organs" / "example_ct_sm.nii.gz")) is None
