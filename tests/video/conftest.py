"""Videos with known time stamps, and rendered procedures, written once for all tests."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from medpipe.datasets.phantom.rendered import RenderedConfig, write_video


def write_stamped(path: Path, times_s: list[float], size: tuple[int, int] = (64, 48)) -> Path:
    """A video with a frame at each time; its grey level tells the frame's number: 12 + 9 * (number mod 25)."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(30))
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.gop_size = 1  # each frame by itself: no drift
        stream.codec_context.time_base = Fraction(1, 30000)
        for number, time in enumerate(times_s):
            level = 12 + 9 * (number % 25)
            frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), level, dtype=np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(time * 30000), Fraction(1, 30000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def stamped() -> Callable[..., Path]:
    return write_stamped


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rendered")
    write_video(folder / "001-001.mp4", RenderedConfig(width=160, height=120, shorter=60), 3)
    return folder / "001-001.mp4"
