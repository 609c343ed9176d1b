"""How much memory reading and resampling a case takes, from headers alone."""

import math
from collections.abc import Sequence
from typing import Any

from medpipe.datasets.cases import Case

# Bytes a voxel of the original grid: float32 CT, its oriented copy, the decoder's copy, int16 labels twice, masks.
READ_BYTES = 4 + 4 + 4 + 2 + 2 + 2
# Bytes a voxel of the new grid: float32 CT, the spline's coefficients (float64 in ITK), int16 CT, labels, two shares.
RESAMPLED_BYTES = 4 + 8 + 2 + 2 + 4 + 4


def estimated_bytes(case: Case, spacing_mm: Sequence[float] | None = None) -> int:
    """Estimated peak memory, in bytes, of reading the case and, where a spacing is given, resampling it.

    0 where the header cannot be read: that is a fault of the file, and reading it says which.
    """
    shape, original_mm = _header(case)
    voxels = math.prod(shape)
    masks = len(case.structures) if case.manifest.overlapping else 0
    total = voxels * (READ_BYTES + masks)
    if spacing_mm is not None and voxels:
        ratio = math.prod(original_mm) / math.prod(spacing_mm)
        total += int(voxels * ratio * (RESAMPLED_BYTES + masks))
    return total


def _header(case: Case) -> tuple[tuple[int, ...], tuple[float, ...]]:
    if case.image.is_dir():
        return _dicom_header(case)
    import nibabel as nib

    try:
        header: Any = nib.load(case.image).header  # reads the header, not the voxels
        return header.get_data_shape()[:3], header.get_zooms()[:3]
    except Exception:  # whatever is wrong is found, and said, when the file is read whole
        return (0,), (1.0,)


def _dicom_header(case: Case) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """From one slice; every file counts as one, which is too many where there is more than the series."""
    from pydicom import dcmread

    files = [path for path in case.image.rglob("*") if path.is_file()]
    for path in sorted(files):
        try:
            slice_ = dcmread(path, stop_before_pixels=True)
            rows, columns = int(slice_.Rows), int(slice_.Columns)
            in_plane = tuple(float(value) for value in slice_.PixelSpacing)
            return (len(files), rows, columns), (float(slice_.get("SliceThickness") or in_plane[0]), *in_plane)
        except Exception:  # not an image of the series
            continue
    return (0,), (1.0,)
