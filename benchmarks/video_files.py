"""Video files and a folder of frames for `video.py`: a rendered procedure, the same pictures in every container."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, final

import numpy as np
from PIL import Image

from medpipe.datasets.phantom.rendered import RenderedConfig, frames_of

SIZE = (1352, 1080)  # pixels (W, H), as the frames of REAL-Colon
PICTURES = 40  # rendered; a video runs through them forwards and backwards


@final
@dataclass(frozen=True)
class Setting:
    """A container, its codec (of PyAV) and its frames a second; suffix "" is a folder of JPEG files."""

    suffix: str
    codec: str
    fps: Fraction
    options: tuple[tuple[str, str], ...] = ()
    group: int = 50  # frames from one key frame to the next; recorders set one every second or two


SETTINGS = {
    "H.264 .mp4, 25 fps": Setting(".mp4", "libx264", Fraction(25), (("preset", "veryfast"), ("crf", "20"))),
    "H.264 .mkv, 59.94 fps": Setting(
        ".mkv",
        "libx264",
        Fraction(60000, 1001),
        (("preset", "veryfast"), ("crf", "20")),
    ),
    "HEVC .mp4, 50 fps": Setting(".mp4", "libx265", Fraction(50), (("preset", "ultrafast"), ("log-level", "none"))),
    "MPEG-4 .avi, 29.97 fps": Setting(".avi", "mpeg4", Fraction(30000, 1001), (("q", "4"),), group=12),
    "JPEG folder, 25 fps": Setting("", "mjpeg", Fraction(25)),
}


def render() -> list[bytes]:
    """The pictures of a procedure on a processor's screen, as JPEG so that they fit in memory."""
    width, height = SIZE
    config = RenderedConfig(width=width, height=height, fps=25, shorter=20)
    kept = []
    for picture, _ in islice(frames_of(config, 0), PICTURES):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=95)
        kept.append(buffer.getvalue())
    return kept


def there_and_back(count: int) -> Iterator[int]:
    """0, 1, ... PICTURES - 1, PICTURES - 2, ... 1, 0, 1 and so on: no cut from picture to picture."""
    period = 2 * (PICTURES - 1)
    return (min(number % period, period - number % period) for number in range(count))


def write_source(folder: Path, name: str, pictures: list[bytes], seconds: float) -> Path:
    """The file or folder of a setting."""
    setting = SETTINGS[name]
    path = folder / f"{'_'.join(name.replace('.', ' ').replace(',', ' ').split())}{setting.suffix}"
    count = round(seconds * setting.fps)
    if not setting.suffix:
        path.mkdir()
        for number, place in enumerate(there_and_back(count)):
            (path / f"{path.name}_{number}.jpg").write_bytes(pictures[place])
        return path
    import av

    decoded = [np.asarray(Image.open(io.BytesIO(picture))) for picture in pictures]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(setting.codec, rate=setting.fps, options=dict(setting.options))
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.gop_size = setting.group
        for place in there_and_back(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(decoded[place], format="rgb24")))
        container.mux(stream.encode())
    return path
