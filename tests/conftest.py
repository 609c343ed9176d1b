"""Fixtures of every test: where the real data lie, quiet, repeatable libraries, and a writer of RTDOSE."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import numpy as np

    from medpipe.geometry.volume import Grid

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line has it
os.environ.setdefault("MPLBACKEND", "Agg")

CHECKOUT = Path(__file__).resolve().parent.parent


def find_real_data() -> Path | None:
    named = os.environ.get("MEDPIPE_REAL_DATA")
    candidates = [Path(named)] if named else [CHECKOUT.parent / "shared" / "data"]
    return next((folder for folder in candidates if folder.is_dir()), None)


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = find_real_data()
    if folder is None:
        pytest.skip("no real data: set MEDPIPE_REAL_DATA or lay ../shared/data beside the checkout")
    return folder


def write_rtdose(
    path: Path, gy: "np.ndarray", grid: "Grid", *, falling: bool = False, absolute: bool = False, frame_uid: str = "",
    patient_id: str = "", **attributes: object,
) -> Path:  # fmt: skip
    """An RTDOSE of uint32 by pydicom alone, none of medpipe's readers involved. `attributes` replace or add some."""
    import numpy as np
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    lps = grid.affine[:3] * np.array([[-1.0], [-1.0], [1.0]])
    spacing = np.linalg.norm(lps[:, :3], axis=0)
    d, h, w = (lps[:, axis] / spacing[axis] for axis in range(3))
    along = float(np.cross(w, h) @ d)  # 1 or -1: frames lie along the normal or against it
    offsets = np.arange(len(gy)) * spacing[0] * along
    position = lps[:, 3]
    if falling:
        position, offsets, gy = position + d * spacing[0] * (len(gy) - 1), -offsets, gy[::-1]
    scaling = float(gy.max()) / (2**32 - 2)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.481.2")
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(
        f"1.2.826.0.1.{int(hashlib.sha256(str(path).encode()).hexdigest()[:8], 16)}"
    )
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.PatientID, dataset.FrameOfReferenceUID = "RTDOSE", patient_id, frame_uid
    dataset.DoseUnits, dataset.DoseType, dataset.DoseSummationType = "GY", "PHYSICAL", "FRACTION"
    dataset.DoseGridScaling = f"{scaling:.10g}"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = gy.shape
    dataset.FrameIncrementPointer = 0x3004000C
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 32, 32, 31, 0
    dataset.ImagePositionPatient = [f"{value:.8g}" for value in position]
    dataset.ImageOrientationPatient = [f"{value:.10g}" for value in (*w, *h)]
    dataset.PixelSpacing = [f"{spacing[1]:.8g}", f"{spacing[2]:.8g}"]
    start = position[2] if absolute else 0.0
    # z of transverse frames: the offsets turn round with the normal.
    turned = np.sign(np.cross(w, h)[2]) if absolute else 1.0
    dataset.GridFrameOffsetVector = [f"{start + turned * value:.8g}" for value in offsets]
    dataset.PixelData = np.rint(gy / float(dataset.DoseGridScaling)).astype("<u4").tobytes()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture(scope="session")
def rtdose_writer() -> Callable[..., Path]:
    return write_rtdose
