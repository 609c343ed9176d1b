"""Folders of frames: in the order of their numbers, gaps and broken files keep their slots.

Numbers are not padded (10 comes after 9), and the file of one published video ends in `.0.jpg`. An image that is cut
off, or is of another format than its name says, is broken.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from medpipe.geometry.faults import DataFault
from medpipe.video.slots import EPSILON_S, Slot, num_slots

FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF"}
_NUMBER = re.compile(r"(\d+)(?:\.0)?\.[A-Za-z]{3,4}$")
# JPEGs are decoded at the smallest of 1/1, 1/2, 1/4, 1/8 that is at least so large: three times as fast, and half a
# grey level away on average. It is part of the preprocessing's identity.
DRAFT_SIZE = 448


@final
@dataclass(frozen=True)
class FrameFolder:
    """The frames of one procedure by number, and how fast they were taken."""

    path: Path
    files: dict[int, Path]
    fps: float

    @property
    def duration_s(self) -> float:
        """From the first frame to the last."""
        return (max(self.files) - min(self.files)) / self.fps

    @property
    def missing(self) -> int:
        """Numbers between the first and the last without a file."""
        return max(self.files) - min(self.files) + 1 - len(self.files)


def list_frames(path: Path, fps: float) -> FrameFolder:
    """The numbered images of a folder. Raises DataFault: none, one without a number, or a number twice."""
    files: dict[int, Path] = {}
    for file in path.iterdir():
        if file.suffix.lower() not in FORMATS:
            continue
        found = _NUMBER.search(file.name)
        if found is None:
            raise DataFault(file, "no frame number in the name; expected NAME_12.jpg")
        number = int(found[1])
        if number in files:
            raise DataFault(file, f"frame {number} is there twice, also as {files[number].name}")
        files[number] = file
    if not files:
        raise DataFault(path, f"no frame in it ({', '.join(FORMATS)})")
    return FrameFolder(path, dict(sorted(files.items())), fps)


def folder_slots(folder: FrameFolder, rate_hz: float, *, first_slot: int = 0) -> Iterator[Slot]:
    """Every slot from `first_slot` on: the first frame that is there within it."""
    first = min(folder.files)
    by_slot: dict[int, int] = {}
    for number in folder.files:
        slot = int(np.floor(((number - first) / folder.fps + EPSILON_S) * rate_hz))
        by_slot.setdefault(slot, number)
    for slot in range(first_slot, num_slots(folder.duration_s, rate_hz)):
        number = by_slot.get(slot)
        if number is None:
            yield Slot(slot, slot / rate_hz, -1, None, "no frame in this slot")
            continue
        image, fault = read_image(folder.files[number])
        yield Slot(slot, slot / rate_hz, number if image is not None else -1, image, fault)


def read_image(path: Path) -> tuple[np.ndarray | None, str]:
    """(H, W, 3) uint8 RGB, or None and what is wrong with the file."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            expected = FORMATS[path.suffix.lower()]
            if image.format != expected:
                return None, f"{path.name}: a {image.format} file, not the {expected} that its name says"
            image.draft("RGB", (DRAFT_SIZE, DRAFT_SIZE))
            return np.asarray(image.convert("RGB")), ""
    except (OSError, SyntaxError, ValueError) as error:
        return None, f"{path.name}: broken ({error})"


def odd_sizes(folder: FrameFolder, *, most: int = 4000) -> list[str]:
    """Frames whose size or colours differ from most others', of up to `most` looked at: names, sorted by number."""
    from PIL import Image

    numbers = list(folder.files)[:: max(1, len(folder.files) // most)]
    seen: dict[int, tuple[tuple[int, int], str]] = {}
    for number in numbers:
        try:
            with Image.open(folder.files[number]) as image:
                seen[number] = (image.size, image.mode)
        except OSError:
            continue
    if not seen:
        return []
    usual = Counter(seen.values()).most_common(1)[0][0]
    return [folder.files[number].name for number, found in seen.items() if found != usual]
