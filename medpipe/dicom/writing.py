"""What the written objects share: identifiers from a seed, decimal strings, the research-only statement."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from medpipe.version import __version__

if TYPE_CHECKING:
    from pydicom import Dataset

MANUFACTURER = "medpipe"
RESEARCH_USE = "research use only"  # in every description and label that is long enough for it

_DATE = re.compile(r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")
_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?")
_ROOT = re.compile(r"[0-2]\.((0|[1-9]\d*)\.)+")
UID_ROOT = "1.2.826.0.1.3680043.8.498."  # pydicom's root, under which anyone may generate UIDs by hash
IMPLEMENTATION_UID = UID_ROOT + "1"


def checked_root(root: str) -> str:
    """A UID root with its closing dot; ValueError for what is none or leaves less than 24 digits for the rest."""
    root = root.rstrip(".") + "."
    if not _ROOT.fullmatch(root) or len(root) > 40:
        raise ValueError(f"a UID root is numbers with dots between, 40 characters at most, got {root!r}")
    return root


def seeded_uid(*parts: str, root: str = UID_ROOT) -> str:
    """A UID that is the same for the same parts: the SHA-512 of them, as a number, under `root`."""
    from pydicom.uid import generate_uid

    # The separator keeps ("a", "bc") and ("ab", "c") apart.
    return str(generate_uid(prefix=checked_root(root), entropy_srcs=["\x1f".join(parts)]))


def decimals(values: Iterable[float]) -> list[str]:
    """DICOM decimal strings: at most 16 characters, at least nine digits after the point for lengths below 10 m."""
    from pydicom.valuerep import format_number_as_ds

    # Zero without its sign and 1e-17 as 0: such remnants of a rotation would be printed in scientific form.
    return [format_number_as_ds(round(float(value), 10) + 0.0) for value in values]


def save(dataset: "Dataset", path: Path) -> None:
    """As implicit little endian, with a preamble and file meta information.

    Implicit, because explicit value lengths of decimal strings end at 64 KiB, which is a contour of 1300 points.
    """
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID, ImplicitVRLittleEndian

    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    dataset.file_meta.ImplementationVersionName = f"MEDPIPE {__version__}"[:16]
    dataset.save_as(path, enforce_file_format=True)


def add_maker(dataset: "Dataset") -> None:
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = MANUFACTURER
    dataset.DeviceSerialNumber = "0"
    dataset.SoftwareVersions = __version__


def valid_date(value: str) -> str:
    """The date, or "" for one that DICOM does not allow (UNKNOWN): a new object must not carry it on."""
    return value if _DATE.fullmatch(value) else ""


def valid_time(value: str) -> str:
    return value if _TIME.fullmatch(value) else ""
