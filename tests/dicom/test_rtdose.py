"""RTDOSE written by pydicom on every kind of grid, read back at the same places of the patient."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medpipe.dicom.rtdose import read_rtdose
from medpipe.geometry.faults import DataFault
from medpipe.geometry.volume import Affine, Grid

SHAPE = (5, 8, 11)


def dose_at(points_mm: np.ndarray) -> np.ndarray:
    """Gy, another one at every place."""
    return 20 + points_mm @ np.array([0.03, -0.02, 0.05])


@pytest.mark.parametrize("falling", [False, True])
def test_every_orientation_is_read_at_its_place(
    affine: Affine, falling: bool, tmp_path: Path, rtdose_writer: Callable[..., Path]
) -> None:
    grid = Grid(SHAPE, affine)
    gy = dose_at(grid.index_to_world(np.indices(SHAPE).reshape(3, -1).T)).reshape(SHAPE)
    path = rtdose_writer(tmp_path / "dose.dcm", gy, grid, falling=falling, frame_uid="1.2.3", patient_id="gyn_1")
    found = read_rtdose(path)
    assert (found.frame_of_reference_uid, found.patient_id, found.summation_type) == ("1.2.3", "gyn_1", "FRACTION")
    points = found.dose.grid.index_to_world(np.indices(found.dose.gy.shape).reshape(3, -1).T)
    assert found.dose.gy.ravel() == pytest.approx(dose_at(points), abs=1e-4)
    assert np.allclose(np.sort(found.dose.grid.corners_mm(), axis=0), np.sort(grid.corners_mm(), axis=0), atol=1e-4)


@pytest.mark.parametrize("falling", [False, True])
@pytest.mark.parametrize("column", [(0, 1, 0), (0, -1, 0)])
def test_absolute_offsets_are_the_z_of_the_frames(
    falling: bool, column: tuple[int, int, int], tmp_path: Path, rtdose_writer: Callable[..., Path]
) -> None:
    """Also where the normal points to the feet."""
    from medpipe.geometry.world import affine_from_dicom

    place = affine_from_dicom(
        np.array([1.0, 0, 0]), np.array(column, float), (2.5, 2.0, 3.0), np.array([-9.0, 4, 37.5])
    )
    grid = Grid(SHAPE, place)
    gy = dose_at(grid.index_to_world(np.indices(SHAPE).reshape(3, -1).T)).reshape(SHAPE)
    found = read_rtdose(rtdose_writer(tmp_path / "dose.dcm", gy, grid, falling=falling, absolute=True)).dose
    points = found.grid.index_to_world(np.indices(found.gy.shape).reshape(3, -1).T)
    assert found.gy.ravel() == pytest.approx(dose_at(points), abs=1e-4)
    assert sorted(set(points[:, 2].round(4))) == sorted(37.5 + np.arange(5) * 2.5 * column[1])


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"DoseUnits": "RELATIVE"}, "DoseUnits is RELATIVE, GY is expected"),
        ({"DoseType": "EFFECTIVE"}, "DoseType is EFFECTIVE, PHYSICAL is expected"),
        ({"GridFrameOffsetVector": [0, 3, 6, 9.5, 12]}, "GridFrameOffsetVector is uneven: steps from 2.5 to 3.5 mm"),
        ({"GridFrameOffsetVector": [0, 3, 6]}, "GridFrameOffsetVector holds"),
        ({"GridFrameOffsetVector": [7, 10, 13, 16, 19]}, "GridFrameOffsetVector begins with 7"),
        ({"DoseGridScaling": "0"}, "DoseGridScaling is 0"),
        ({"DoseGridScaling": "1"}, "not in Gy"),
        ({"Modality": "RTPLAN"}, "holds RTPLAN, an RTDOSE is expected"),
        ({"ImageOrientationPatient": [1, 0, 0, 0.1, 0.995, 0]}, "sheared"),
        ({"PixelData": b"\0" * (4 * 5 * 8 * 11)}, "0 Gy in every voxel"),
        ({"PixelData": b"\0" * 100}, "cannot be read"),
    ],
)
def test_what_is_no_dose_in_gy_is_refused_by_name(
    attributes: dict, message: str, tmp_path: Path, axial: Affine, rtdose_writer: Callable[..., Path]
) -> None:
    path = rtdose_writer(tmp_path / "dose.dcm", np.full(SHAPE, 7.0), Grid(SHAPE, axial), **attributes)
    with pytest.raises(DataFault, match=message) as fault:
        read_rtdose(path)
    assert fault.value.path == path


def test_a_sum_over_a_plan_is_noted(tmp_path: Path, axial: Affine, rtdose_writer: Callable[..., Path]) -> None:
    path = rtdose_writer(tmp_path / "dose.dcm", np.full(SHAPE, 7.0), Grid(SHAPE, axial), DoseSummationType="PLAN")
    notes: list[str] = []
    assert read_rtdose(path, notes=notes).summation_type == "PLAN"
    assert any("sum of all fractions of its plan" in note for note in notes)
