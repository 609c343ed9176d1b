"""NIfTI in and out. Files are read whole (with their checksum) and anything doubtful is refused by name or noted.

`notes`, where given, receives one sentence for each thing that was handled. Faults are `DataFault`.
"""

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medpipe.geometry.atomic import written_beside
from medpipe.geometry.faults import DataFault
from medpipe.geometry.nifti_header import affine_of
from medpipe.geometry.volume import Affine, LabelMap, Volume
from medpipe.geometry.world import reverse_axes

LABEL_TOLERANCE = 1e-3  # how far a label stored as a float may lie from an integer
_GZIP_MAGIC = b"\x1f\x8b"
_COMPRESSION = 3  # of 9: level 9 takes five times as long for some 3 % of the size of a CT


def read_volume(path: Path | str, *, nonfinite_hu: float | None = None, notes: list[str] | None = None) -> Volume:
    """A CT as float32 HU, rescale applied. NaN and infinity are refused, or replaced by `nonfinite_hu` where given."""
    path = Path(path)
    found: list[str] = []
    array, affine = _read(path, found)
    hu = np.ascontiguousarray(array.T, dtype=np.float32)
    is_finite = np.isfinite(hu)
    if not is_finite.all():
        where = tuple(int(i) for i in np.argwhere(~is_finite)[0])
        count = int(np.count_nonzero(~is_finite))
        if nonfinite_hu is None:
            raise DataFault(
                path, f"{count} voxels are NaN or infinite, the first at (d, h, w) = {where}; replace them, e.g. by air"
            )
        hu[~is_finite] = nonfinite_hu
        found.append(f"{count} NaN or infinite voxels replaced by {nonfinite_hu:g} HU")
    _hand_over(path, found, notes)
    return Volume(hu, affine)


def read_label_map(path: Path | str, *, notes: list[str] | None = None) -> LabelMap:
    """Labels as the narrowest of uint8, int16 and int32. Floats within 1e-3 of integers are rounded, others refused."""
    path = Path(path)
    found: list[str] = []
    array, affine = _read(path, found)
    labels = _as_labels(path, array, found)
    _hand_over(path, found, notes)
    return LabelMap(np.ascontiguousarray(labels.T), affine)


def read_mask(path: Path | str, *, notes: list[str] | None = None) -> LabelMap:
    """One structure's mask as a label map of 0 and 1 (uint8); its file may hold 0 and one other value, such as 255."""
    label_map = read_label_map(path, notes=notes)
    values = np.unique(label_map.array[label_map.array > 0])
    if len(values) > 1:
        raise DataFault(
            path, f"a mask holds 0 and one other value, this holds {len(values)} labels: {values[:8].tolist()}"
        )
    if notes is not None and len(values) and values[0] != 1:
        notes.append(f"{Path(path).name}: the mask's value is {values[0]}, taken as 1")
    return LabelMap((label_map.array > 0).astype(np.uint8), label_map.affine)


def write_volume(path: Path | str, volume: Volume) -> None:
    """As float32 or int16, whichever the volume is; `.nii` or `.nii.gz` by the name."""
    _write(Path(path), volume.array, volume.affine)


def write_label_map(path: Path | str, label_map: LabelMap) -> None:
    """As the narrowest of uint8, int16 and int32 that holds the labels."""
    array = label_map.array
    _write(Path(path), array.astype(_label_type(int(array.min()), int(array.max())), copy=False), label_map.affine)


def write_mask(path: Path | str, mask: NDArray[Any], affine: Affine) -> None:
    """A mask (D, H, W), bool or 0 and 1, as uint8."""
    _write(Path(path), (np.asarray(mask) != 0).astype(np.uint8), affine)


def _read(path: Path, notes: list[str]) -> tuple[NDArray[Any], Affine]:
    """Native array (I, J, K) with the header's scale applied, and its affine for (d, h, w)."""
    import nibabel as nib
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError, HeaderTypeError
    from nibabel.wrapstruct import WrapStructError

    content = _content(path, notes)
    # The first field of a NIfTI-1 header is its length, 348; of a NIfTI-2 header 540; in either byte order.
    size = {int.from_bytes(content[:4], "little"), int.from_bytes(content[:4], "big")}
    kind = nib.Nifti1Image if 348 in size else nib.Nifti2Image if 540 in size else None
    if kind is None:
        raise DataFault(path, "not a NIfTI file (its header is neither NIfTI-1 nor NIfTI-2)")
    try:
        image = kind.from_bytes(content)
        header: Any = image.header
        voxels: Any = image.dataobj
        _check_kind(header, len(content) - voxels.offset)
        shape, removed = _three_axes(header.get_data_shape())
        affine = affine_of(header, shape, notes)
        array = _scaled(voxels).reshape(shape, order="F")
    except (
        ValueError, TypeError, OSError, EOFError, ArithmeticError, LookupError, HeaderDataError, HeaderTypeError,
        WrapStructError, ImageFileError,
    ) as error:  # fmt: skip
        raise DataFault(path, str(error)) from error
    if removed:
        notes.append(f"{removed} further axes of length 1 removed")
    return array, reverse_axes(affine)


def _content(path: Path, notes: list[str]) -> bytes:
    """The whole uncompressed file. Its first bytes, not its name, say whether it is compressed."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataFault(path, f"cannot be read: {error.strerror or error}") from error
    if not content:
        raise DataFault(path, "the file is empty (0 bytes)")
    is_compressed, is_named_gz = content.startswith(_GZIP_MAGIC), path.name.lower().endswith(".gz")
    if is_compressed != is_named_gz:
        notes.append(f"{'compressed' if is_compressed else 'not compressed'}, although named {''.join(path.suffixes)}")
    if not is_compressed:
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataFault(path, f"the compressed file is truncated or damaged ({error}); copy it again") from error


def _check_kind(header: Any, num_bytes: int) -> None:
    """num_bytes: what follows the header."""
    if not bytes(header["magic"]).startswith((b"n+1", b"n+2")):
        raise ValueError("the header of a .hdr/.img pair; convert it to a single .nii.gz")
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf":
        what = "RGB colour" if dtype.fields else "complex" if dtype.kind == "c" else str(dtype)
        raise ValueError(f"holds {what} voxels; a CT or a label map has one number a voxel")
    shape = header.get_data_shape()
    needed = dtype.itemsize * int(np.prod(shape, dtype=np.float64))
    if num_bytes < needed:
        raise ValueError(f"truncated: {num_bytes} bytes of voxels where the header announces {needed}; copy it again")


def _three_axes(shape: tuple[int, ...]) -> tuple[tuple[int, int, int], int]:
    """The first three axes, and how many further ones of length 1 there are."""
    if len(shape) < 3 or min(shape) < 1:
        raise ValueError(f"has shape {shape}, a volume of three axes is expected")
    if any(size != 1 for size in shape[3:]):
        raise ValueError(f"has shape {shape}: a time series or several channels; export one three-dimensional volume")
    i, j, k = shape[:3]
    return (i, j, k), len(shape) - 3


def _scaled(proxy: Any) -> NDArray[Any]:
    """Native byte order; float32 where the header carries a scale, else as stored."""
    stored = np.asarray(proxy.get_unscaled())
    slope, intercept = float(proxy.slope), float(proxy.inter)
    if (slope, intercept) == (1.0, 0.0):
        return stored.astype(stored.dtype.newbyteorder("="), copy=False)
    return (stored.astype(np.float64) * slope + intercept).astype(np.float32)


def _as_labels(path: Path, array: NDArray[Any], notes: list[str]) -> NDArray[Any]:
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise DataFault(path, "a label map holds NaN or infinite voxels")
        labels = np.rint(array)
        deviation = float(np.abs(array - labels).max())
        if deviation > LABEL_TOLERANCE:
            worst = float(array.flat[int(np.abs(array - labels).argmax())])
            raise DataFault(
                path,
                f"labels are integers, this holds {worst:g}: probabilities, or a map resampled with interpolation?",
            )
        if deviation > 0:
            notes.append(f"labels stored as floats up to {deviation:.1e} off integers were rounded")
    else:
        labels = array
    low, high = int(labels.min()), int(labels.max())
    if low < 0:
        raise DataFault(path, f"holds the negative label {low}; labels are 0 (background) and above")
    if high > np.iinfo(np.int32).max:
        raise DataFault(path, f"holds the label {high}, above the largest that fits, {np.iinfo(np.int32).max}")
    return labels.astype(_label_type(low, high), copy=False)


def _label_type(low: int, high: int) -> type[np.integer]:
    """uint8, int16 or int32: the integers that torch computes with."""
    if low >= 0 and high <= np.iinfo(np.uint8).max:
        return np.uint8
    return np.int16 if max(high, -low) <= np.iinfo(np.int16).max else np.int32


def _hand_over(path: Path, found: list[str], notes: list[str] | None) -> None:
    if notes is not None:
        notes.extend(f"{path.name}: {sentence}" for sentence in found)


def _write(path: Path, array: NDArray[Any], affine: Affine) -> None:
    import nibabel as nib

    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise ValueError(f"{path}: a NIfTI file is named .nii or .nii.gz")
    affine_ijk = reverse_axes(affine)
    image = nib.Nifti1Image(array.T, affine_ijk)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine_ijk, code=1)
    image.set_qform(affine_ijk, code=1)
    with written_beside(path) as partial, partial.open("wb") as file:
        if path.name.lower().endswith(".gz"):
            # No name and no time in the gzip header: the same volume gives the same bytes.
            with gzip.GzipFile("", "wb", _COMPRESSION, file, mtime=0) as compressed:
                image.to_stream(compressed)
        else:
            image.to_stream(file)
