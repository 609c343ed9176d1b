"""Mask to RTSTRUCT and SEG and back, by our readers and by others', on real, oblique and turned series."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from medpipe.dicom.linking import roi_masks
from medpipe.dicom.maker import Model
from medpipe.dicom.rtstruct import read_rtstruct
from medpipe.dicom.series import Series, read_series
from medpipe.dicom.write_rtstruct import write_rtstruct
from medpipe.dicom.write_seg import write_seg
from medpipe.dicom.write_series import write_series
from medpipe.geometry.orientation import to_canonical
from medpipe.geometry.volume import MaskStack, Volume
from medpipe.geometry.world import flip_affine

pytestmark = pytest.mark.hospital

PATIENTS = ("STS_002", "STS_003", "STS_008", "STS_025")
SIGNS = list(itertools.product((1, -1), repeat=3))
# Row and column direction (LPS) of the eight ways to lie on a table.
POSITIONS = {
    "HFS": ((1, 0, 0), (0, 1, 0)), "HFP": ((-1, 0, 0), (0, -1, 0)), "FFS": ((-1, 0, 0), (0, 1, 0)),
    "FFP": ((1, 0, 0), (0, -1, 0)), "HFDR": ((0, 1, 0), (-1, 0, 0)), "HFDL": ((0, -1, 0), (1, 0, 0)),
    "FFDR": ((0, -1, 0), (-1, 0, 0)), "FFDL": ((0, 1, 0), (1, 0, 0)),
}  # fmt: skip
SHAPE = (6, 30, 37)


def some_masks(series: Series) -> MaskStack:
    """A blob with holes that is mirrored onto nothing of itself, speckle on the border, and an empty structure."""
    d, h, w = np.indices(series.volume.shape)
    depth, height, width = series.volume.shape
    y, x = (h - 0.45 * height) / (0.3 * height), (w - 0.4 * width) / (0.25 * width)
    blob = (np.hypot(y, x + 0.3 * y) < 1) & ~(np.hypot(y - 0.2, x + 0.25) < 0.35) & ~(np.hypot(y + 0.5, x) < 0.15)
    blob &= d >= min(1, depth - 1)
    speckle = (np.random.default_rng(3).random(blob.shape) < 0.35) & (h < 9) & (w > width - 9) & (d < 2)
    return MaskStack(
        np.stack([blob, speckle, np.zeros_like(blob)]), series.volume.affine, ("ctv_high_risk", "bladder", "uterus")
    )


def check_all_ways(series: Series, ct: Path, masks: MaskStack, tmp_path: Path, by_plastimatch, errors_of) -> None:
    """Voxel-identical by our readers, plastimatch and highdicom, and no error by dciodvfy."""
    import highdicom as hd

    model = Model("gyn", "ab" * 32)
    write_rtstruct(tmp_path / "rs.dcm", masks, series, model=model)
    write_seg(tmp_path / "seg.dcm", masks, series, model=model)
    assert errors_of(tmp_path / "rs.dcm") == []
    assert errors_of(tmp_path / "seg.dcm") == []
    names = {structure: structure for structure in masks.structures}
    ours = roi_masks(read_rtstruct(tmp_path / "rs.dcm"), series, names, gaps="keep")
    np.testing.assert_array_equal(ours.array, masks.array)
    theirs = by_plastimatch(tmp_path / "rs.dcm", ct, masks, tmp_path / "pm")
    canonical = to_canonical(masks)
    for structure in masks.structures:
        wanted = canonical.mask(structure)
        found = theirs.get(structure, np.zeros_like(wanted))
        assert found.shape == wanted.shape
        assert int(np.count_nonzero(found != wanted)) == 0, structure
    seg = hd.seg.segread(tmp_path / "seg.dcm")
    pixels = seg.get_pixels_by_source_instance(
        list(series.sop_uids), list(range(1, len(masks.structures) + 1)), assert_missing_frames_are_empty=True
    )
    np.testing.assert_array_equal(np.moveaxis(pixels, -1, 0) > 0, masks.array)


@pytest.mark.parametrize("patient", PATIENTS)
def test_real_patients(patient: str, real_data: Path, tmp_path: Path, by_plastimatch, errors_of) -> None:
    folder = real_data / "ct_sarcoma" / "dicom" / patient / "CT"
    series = read_series(folder / "image")
    tumour = roi_masks(read_rtstruct(folder / "mask" / "RS.dcm"), series, {"gtv_mass": "GTV_Mass_CT"})
    made = some_masks(series)
    masks = MaskStack(np.concatenate([tumour.array, made.array]), series.volume.affine, ("gtv_mass", *made.structures))
    assert tumour.array.any()
    check_all_ways(series, folder / "image", masks, tmp_path, by_plastimatch, errors_of)


def test_the_real_oblique_series(real_data: Path, tmp_path: Path, by_plastimatch, errors_of) -> None:
    folder = real_data / "dicom_oblique" / "oriented_data"
    series = read_series(folder)
    check_all_ways(series, folder, some_masks(series), tmp_path, by_plastimatch, errors_of)


@pytest.mark.parametrize("signs", SIGNS, ids=lambda signs: "".join("+-"[s < 0] for s in signs))
def test_axes_of_every_sign(signs: tuple[int, int, int], tmp_path: Path, by_plastimatch, errors_of) -> None:
    d, h, w = signs
    affine = np.array([[0, 0, 0.9 * w, 31.5], [0, 1.3 * h, 0, -20.25], [2.5 * d, 0, 0, 7.0], [0, 0, 0, 1]])
    _generated(affine, tmp_path, by_plastimatch, errors_of)


@pytest.mark.parametrize("position", POSITIONS)
def test_patients_in_every_position(position: str, tmp_path: Path, by_plastimatch, errors_of) -> None:
    row, column = (np.asarray(direction, float) for direction in POSITIONS[position])
    lps = np.eye(4)
    lps[:3, :3] = np.stack([np.cross(row, column) * 2.5, column * 1.3, row * 0.9], axis=1)
    lps[:3, 3] = (12.3, -45.6, 78.9)
    _generated(flip_affine(lps), tmp_path, by_plastimatch, errors_of)


def _generated(affine: np.ndarray, tmp_path: Path, by_plastimatch, errors_of) -> None:
    volume = Volume(np.random.default_rng(0).normal(0, 50, SHAPE).round().astype(np.int16), affine)
    series = write_series(tmp_path / "ct", volume, patient_id="p", uid_seed="s", study_date="20260101")
    check_all_ways(series, tmp_path / "ct", some_masks(series), tmp_path, by_plastimatch, errors_of)
