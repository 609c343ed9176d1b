"""From a matplotlib figure to a picture inside the page: drawn without pyplot, vector or raster by size."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast, final

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Above this a vector drawing (a strip plot of thousands of points, a CT slice) is taken as pixels if these are fewer.
LARGEST_VECTOR_BYTES = 250_000
PIXELS_AN_INCH = 150

STYLE: dict[str, Any] = {
    "font.size": 9,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same picture everywhere
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a929a",
    "axes.labelcolor": "#333b43",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "xtick.color": "#59636e",
    "ytick.color": "#59636e",
    "xtick.labelcolor": "#333b43",
    "ytick.labelcolor": "#333b43",
    "grid.color": "#e3e6e9",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "svg.hashsalt": "medpipe",  # the same scores give the same bytes
}


@final
@dataclass(frozen=True)
class Picture:
    """An image of the page with the text that stands for it where it cannot be seen."""

    uri: str  # data:image/...;base64,...
    alt: str
    width: int  # CSS pixels
    height: int


@contextmanager
def drawing_style() -> Iterator[None]:
    """matplotlib's settings for the figures of a report, for the length of a `with`."""
    import matplotlib

    with matplotlib.rc_context(cast("Any", STYLE)):
        yield


def picture(figure: "Figure", alt: str) -> Picture:
    """Embed a figure as SVG, or as PNG where the SVG is large and the PNG smaller."""
    width, height = (round(inches * 100) for inches in figure.get_size_inches())
    svg = _svg(figure)
    kind, data = "svg+xml", svg
    if len(svg) > LARGEST_VECTOR_BYTES:
        png = _png(figure)
        if len(png) < len(svg):
            kind, data = "png", png
    return Picture(f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}", alt, width, height)


def photograph(image: Any, alt: str) -> Picture:
    """Pixels (H, W, 3) uint8 as a JPEG, without any of the source's metadata."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=82)
    height, width = image.shape[:2]
    return Picture(f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}", alt, width, height)


def _svg(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _png(figure: "Figure") -> bytes:
    """256 colours: CT greys and a few lines need no more, and noise then takes a third of the bytes."""
    from PIL import Image

    pixels, small = io.BytesIO(), io.BytesIO()
    figure.savefig(pixels, format="png", dpi=PIXELS_AN_INCH, metadata={"Software": None})
    image = Image.open(pixels).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    image.save(small, format="png", optimize=True)
    return small.getvalue()
