"""Text burned into pixels: which objects may hold it, refused unless the places are masked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medpipe.dicom.reading import text

if TYPE_CHECKING:
    from pydicom import Dataset

# Ultrasound, endoscopy, photography, microscopy, secondary capture and screenshots print names into the picture.
BURNED_MODALITIES = ("US", "IVUS", "ES", "GM", "XC", "SC", "OT", "OP", "SM", "DOC", "RF", "XA")
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
# Their content is text about a patient in any place: structured reports, encapsulated documents, waveforms.
TEXT_CLASSES = ("1.2.840.10008.5.1.4.1.1.88.", "1.2.840.10008.5.1.4.1.1.104.", "1.2.840.10008.5.1.4.1.1.9.")


@dataclass(frozen=True)
class Rectangle:
    """Rows top to bottom and columns left to right (ends excluded) of pictures of that modality ("" is any)."""

    modality: str
    top: int
    left: int
    bottom: int
    right: int

    @classmethod
    def parse(cls, text: str) -> "Rectangle":
        """From MODALITY:TOP,LEFT,BOTTOM,RIGHT. ValueError for anything else."""
        modality, _, numbers = text.rpartition(":")
        parts = numbers.split(",")
        if len(parts) != 4 or not all(part.strip().isdigit() for part in parts):
            raise ValueError(f"a mask is MODALITY:TOP,LEFT,BOTTOM,RIGHT, such as US:0,0,80,1024, got {text!r}")
        top, left, bottom, right = (int(part) for part in parts)
        if bottom <= top or right <= left:
            raise ValueError(f"the mask {text!r} is empty")
        return cls(modality.strip().upper(), top, left, bottom, right)


def why_text(dataset: "Dataset") -> str:
    """Why the pixels may hold text; "" where nothing says so."""
    if "PixelData" not in dataset:
        return ""
    if text(dataset, "BurnedInAnnotation").upper() == "YES":
        return "BurnedInAnnotation is YES"
    modality = text(dataset, "Modality").upper()
    if modality in BURNED_MODALITIES:
        return f"modality {modality} prints text into pictures"
    if text(dataset, "SOPClassUID").startswith(_SECONDARY_CAPTURE):
        return "a secondary capture"
    if "SCREEN SAVE" in text(dataset, "ImageType").upper():
        return "a screenshot (ImageType)"
    return ""


def why_prose(dataset: "Dataset") -> str:
    """Why the object is text about a patient, which no table cleans; "" where it is none."""
    uid = text(dataset, "SOPClassUID")
    return f"SOP class {uid} is text, which cannot be cleaned by attribute" if uid.startswith(TEXT_CLASSES) else ""


def mask_pixels(dataset: "Dataset", rectangles: Sequence[Rectangle], *, keep_regions: bool) -> bool:
    """Blank the rectangles of this modality in every frame and, of ultrasound, all outside its regions; False if none.

    The pixels are stored uncompressed. ValueError where a rectangle leaves the picture, or they cannot be read.
    """
    modality = text(dataset, "Modality").upper()
    chosen = [one for one in rectangles if one.modality in ("", modality)]
    regions = _regions(dataset) if keep_regions else []
    if not chosen and not regions:
        return False
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    blank = np.zeros((rows, columns), dtype=bool)
    if regions:
        blank[:] = True
        for top, left, bottom, right in regions:
            blank[top:bottom, left:right] = False
    for one in chosen:
        if one.bottom > rows or one.right > columns:
            raise ValueError(f"the mask {one} leaves the picture of {rows} x {columns} pixels")
        blank[one.top : one.bottom, one.left : one.right] = True
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        dataset.decompress()
    pixels: Any = dataset.pixel_array.copy()
    samples = int(text(dataset, "SamplesPerPixel") or 1)
    frames = pixels.reshape(-1, rows, columns, samples)
    frames[:, blank] = 0
    if samples > 1:
        dataset.PlanarConfiguration = 0
    dataset.PixelData = frames.tobytes() + b"\0" * (frames.nbytes % 2)
    dataset.BurnedInAnnotation = "NO"
    return True


def _regions(dataset: "Dataset") -> list[tuple[int, int, int, int]]:
    """Ultrasound regions as (top, left, bottom, right)."""
    found = []
    for item in dataset.get("SequenceOfUltrasoundRegions") or []:
        top, left = int(item.RegionLocationMinY0), int(item.RegionLocationMinX0)
        found.append((top, left, int(item.RegionLocationMaxY1) + 1, int(item.RegionLocationMaxX1) + 1))
    return found
