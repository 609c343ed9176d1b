"""Images of questions: 8-bit RGB whatever the file holds, upright, of bounded size; every fault by file."""

import hashlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medpipe.geometry.faults import DataFault

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_PIXELS = 200_000_000  # of a file: beyond it decoding alone would take gigabytes


def read_image(path: Path, most_pixels: int | None = None) -> "Image":
    """The image as RGB, turned as its EXIF says, on white where it is transparent; 16 bits become 8 by its own range.

    most_pixels   a larger image is made smaller to at most so many, its proportions kept

    Raises DataFault: missing, empty, truncated, no image, too large.
    """
    from PIL import Image, ImageOps

    if not path.is_file():
        raise DataFault(path, "no such image")
    if path.stat().st_size == 0:
        raise DataFault(path, "the image file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise DataFault(
                    path, f"{width} x {height} pixels are more than {MOST_PIXELS:,}; make the image smaller"
                )
            if most_pixels and width * height > most_pixels and image.format == "JPEG":
                scale = (most_pixels / (width * height)) ** 0.5
                image.draft("RGB", (max(1, round(width * scale)), max(1, round(height * scale))))
            image = to_rgb(ImageOps.exif_transpose(image))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, DataFault):
            raise
        raise DataFault(path, f"cannot be read as an image: {error}") from error
    return at_most(image, most_pixels)


def to_rgb(image: "Image") -> "Image":
    """8-bit RGB."""
    from PIL import Image

    if image.mode.startswith(("I", "F")):  # 16 bits and more
        values = np.asarray(image, dtype=np.float64)
        low, high = float(values.min()), float(values.max())
        return Image.fromarray(np.round((values - low) * (255 / (high - low or 1))).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        with_alpha = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", with_alpha.size, "white"), with_alpha).convert("RGB")
    return image.convert("RGB")


def at_most(image: "Image", most_pixels: int | None) -> "Image":
    """The image, made smaller where it has more pixels."""
    from PIL import Image

    width, height = image.size
    if most_pixels is None or width * height <= most_pixels:
        return image
    scale = (most_pixels / (width * height)) ** 0.5
    return image.resize((max(1, int(width * scale)), max(1, int(height * scale))), Image.Resampling.LANCZOS)


def image_hash(path: Path) -> str:
    """SHA-256 of the file, for the record of an answer."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
