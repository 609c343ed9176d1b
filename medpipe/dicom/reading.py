"""DICOM files read as clinics export them: invalid dates and codes survive, truncated files are refused by name."""

import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from medpipe.geometry.faults import DataFault, DataFaults

if TYPE_CHECKING:
    from pydicom import Dataset

P = ParamSpec("P")
R = TypeVar("R")
_DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")


@contextmanager
def lenient() -> Iterator[None]:
    """No complaint about values that break DICOM's rules, such as UNKNOWN for a date; pydicom is left as it was.

    Values that are used are checked where they are used (`numbers`).
    """
    from pydicom import config

    with config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def faults_by_name(function: Callable[P, R]) -> Callable[P, R]:
    """A reader whose first argument is a path, or several: what damaged values make pydicom or numpy raise is a fault.

    Values are parsed when they are asked for, so a damaged file may fail at any line of a reader, with errors of many
    classes (found by benchmarks/fuzz_readers.py). Our own assertions, and errors of the machine, stay what they are.
    """

    @wraps(function)
    def reader(*arguments: P.args, **options: P.kwargs) -> R:
        from pydicom.errors import BytesLengthException, InvalidDicomError

        kinds = (
            ValueError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError, RuntimeError, struct.error,
            BytesLengthException, InvalidDicomError,
        )  # fmt: skip
        try:
            return function(*arguments, **options)
        except (DataFault, DataFaults):
            raise
        except kinds as error:
            source: Any = arguments[0]
            place = Path(source) if isinstance(source, Path | str) else Path(source[0]).parent
            raise DataFault(place, f"holds values that cannot be read ({type(error).__name__}: {error})") from error

    return reader


@faults_by_name
def read_dataset(path: Path, *, with_pixels: bool, keywords: Sequence[str] | None = None) -> "Dataset":
    """One file's dataset, or only its `keywords`; DataFault if it is not DICOM or is cut off."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError
    from pydicom.uid import ImplicitVRLittleEndian

    tags = None if keywords is None else list(keywords)
    try:
        with lenient():
            dataset = dcmread(path, stop_before_pixels=not with_pixels, specific_tags=tags, force=True)  # type: ignore[arg-type]
            # Without the preamble, only these two tell a bare dataset from any other file.
            if "SOPClassUID" not in dataset or "SOPInstanceUID" not in dataset:
                raise InvalidDicomError("no SOP class and instance")
            if "TransferSyntaxUID" not in dataset.file_meta:
                # A bare dataset without the file's own header, as old archives hold them: DICOM's default encoding.
                dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    except (InvalidDicomError, OSError, EOFError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise DataFault(path, f"cannot be read: {error.strerror}") from error
        raise DataFault(path, f"not a whole DICOM file: empty, truncated or of another kind ({error})") from error
    return dataset


def dicom_files(folder: Path) -> list[Path]:
    """Files under a folder that may be DICOM, sorted, less hidden ones and DICOMDIR. DataFault if it is no folder."""
    if not folder.is_dir():
        raise DataFault(folder, "no such folder" if not folder.exists() else "not a folder")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [path for path in files if not path.name.startswith(".") and path.name.upper() != "DICOMDIR"]


def is_meant_as_dicom(path: Path) -> bool:
    """A name that promises DICOM, or content that begins like it: such a file is never passed over in silence."""
    if path.suffix.lower() in _DICOM_SUFFIXES or path.stat().st_size == 0:
        return True
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def numbers(dataset: "Dataset", keyword: str, count: int, path: Path) -> NDArray[np.float64]:
    """`count` finite numbers of an attribute; DataFault if it is missing or holds anything else."""
    try:
        with lenient():
            value = dataset.get(keyword)
            found = np.atleast_1d(np.asarray(value, dtype=np.float64)) if value not in (None, "") else np.zeros(0)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataFault(path, f"{keyword} is not a number: {error}") from error
    if found.size == 0:
        raise DataFault(path, f"lacks {keyword}")
    if found.shape != (count,) or not np.isfinite(found).all():
        raise DataFault(path, f"{keyword} holds {found.tolist()}, {count} finite numbers are expected")
    return found


def text(dataset: "Dataset", keyword: str) -> str:
    """An attribute as text, "" where it is missing or unreadable."""
    try:
        with lenient():
            value = dataset.get(keyword)
    except (ValueError, TypeError, LookupError):
        return ""
    return "" if value is None else str(value).strip()
