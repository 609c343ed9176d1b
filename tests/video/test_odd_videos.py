"""Videos that are damaged, turned, cut, of odd sizes, or whose time stamps are missing or fall: right, or refused."""

import logging
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medpipe.datasets.procedures import ProcedureSource
from medpipe.geometry.faults import DataFault
from medpipe.tasks.procedure_reading import ProcedureReader
from medpipe.video.decoding import video_slots
from medpipe.video.frame_sources import rising
from medpipe.video.overview import key_frames, pictures_all_over

DECODERS = ["opencv", "pyav"]
# The first two numbers of each row of the display matrix in an mp4's track header, by degrees clockwise.
TURNS = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}


def write(
    path: Path, frames: int = 50, *, codec: str = "mpeg4", pixels: str = "yuv420p", size: tuple[int, int] = (64, 48),
    muxer: str | None = None, group: int = 1, pts: list[int] | None = None,
) -> Path:  # fmt: skip
    """A video at 25 fps whose upper left corner is white and whose grey level tells the frame."""
    import av

    with av.open(str(path), "w", format=muxer) as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        stream.codec_context.gop_size = group
        container.start_encoding()
        for number in range(frames):
            picture = np.full((size[1], size[0], 3), 12 + 2 * number % 220, dtype=np.uint8)
            picture[:12, :20] = 255
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            for packet in stream.encode(frame):
                if pts is not None:
                    packet.pts, packet.dts, packet.time_base = pts[number] + 2, number, Fraction(1, 25)
                container.mux(packet)
        container.mux(stream.encode())
    return path


def turn(path: Path, degrees: int) -> None:
    """Set the display matrix of the track header, as a phone held sideways does."""
    content = bytearray(path.read_bytes())
    a, b, c, d = (65536 * value for value in TURNS[degrees])
    start = content.find(b"tkhd") + 4 + 4 + 20 + 16
    content[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)


def slots_of(path: Path, decoder: str = "auto", rate_hz: float = 5.0) -> list[Any]:
    return list(video_slots(path, rate_hz, decoder=decoder))  # type: ignore[arg-type]


@pytest.mark.parametrize("degrees", TURNS)
def test_a_turned_video_is_upright_by_either_decoder_and_so_is_its_view(tmp_path: Path, degrees: int) -> None:
    path = write(tmp_path / "turned.mp4", 5)
    turn(path, degrees)
    by_opencv, by_pyav = (slots_of(path, decoder)[0].image for decoder in DECODERS)
    assert by_pyav.shape == ((48, 64, 3) if degrees == 180 else (64, 48, 3))
    assert np.abs(by_pyav.astype(int) - by_opencv).max() <= 2
    corner = {90: by_pyav[4, -4], 180: by_pyav[-4, -4], 270: by_pyav[-4, 4]}[degrees]
    assert corner.min() > 230
    assert all(picture.shape == by_pyav.shape for picture in pictures_all_over(path, 4))


@pytest.mark.parametrize("decoder", DECODERS)
def test_damage_in_the_middle_does_not_shorten_the_time(tmp_path: Path, decoder: str) -> None:
    path = write(tmp_path / "v.mp4", 100)
    whole = slots_of(path, decoder)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 600] = bytes(600)
    path.write_bytes(content)
    slots = slots_of(path, decoder)
    assert [slot.number for slot in slots] == [slot.number for slot in whole]
    for place in (0, 3, 6, 14, 17, 19):
        np.testing.assert_array_equal(slots[place].image, whole[place].image)


def test_damaged_packets_are_counted_in_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "v.mkv", 60, codec="ffv1", pixels="yuv420p")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(255 for _ in range(40))
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        slots = slots_of(path, "pyav")
    assert len(slots) == 12
    assert "v.mkv" in caplog.text or all(slot.frame >= 0 for slot in slots)


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_file_cut_off_after_its_index_is_read_as_far_as_it_goes(tmp_path: Path, decoder: str) -> None:
    path = write(tmp_path / "v.mkv", 200)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    slots = slots_of(path, decoder)
    assert 20 <= len(slots) <= 30
    assert all(slot.image is not None for slot in slots[:20])


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("content", [b"", b"not a video\n" * 400])
def test_a_file_that_is_no_video_is_refused_by_name(tmp_path: Path, content: bytes, decoder: str) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(content)
    with pytest.raises(DataFault, match=r"v\.mp4: cannot be opened as a video"):
        slots_of(path, decoder)
    with pytest.raises(DataFault, match=r"v\.mp4: cannot be opened as a video"):
        ProcedureReader(ProcedureSource("v", path, None, None))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_container_without_a_frame_is_refused_by_name(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"v{suffix}", 0)
    with pytest.raises(DataFault, match=r"v\.\w+: (a video without any frame|cannot be opened|no video stream)"):
        ProcedureReader(ProcedureSource("v", path, None, None)).field_of_view()


def test_sound_alone_is_refused_by_name(tmp_path: Path) -> None:
    import av

    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(DataFault, match=r"sound\.mp4: no video stream in it"):
        slots_of(path, "pyav")


@pytest.mark.parametrize("frames", [1, 2, 6])
@pytest.mark.parametrize("decoder", DECODERS)
def test_the_shortest_videos(tmp_path: Path, frames: int, decoder: str) -> None:
    path = write(tmp_path / "v.mp4", frames)
    slots = slots_of(path, decoder)
    assert len(slots) == (frames - 1) // 5 + 1
    assert not ProcedureReader(ProcedureSource("v", path, None, None)).field_of_view().found


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("size", [(63, 47), (17, 101)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int], decoder: str) -> None:
    path = write(tmp_path / "v.mkv", 10, codec="ffv1", pixels="bgr0", size=size)
    image = slots_of(path, decoder)[0].image
    assert image.shape == (size[1], size[0], 3)
    assert image[2, 2].min() == 255


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_bare_stream_without_a_container_goes_by_its_rate(tmp_path: Path, decoder: str) -> None:
    path = write(tmp_path / "v.m4v", 100, muxer="m4v")
    assert [slot.frame for slot in slots_of(path, decoder)] == list(range(0, 100, 5))


def test_times_that_are_missing_or_fall_are_replaced_and_told(caplog: pytest.LogCaptureFixture) -> None:
    given = [-2.0, None, -1.88, None, 60.0, 60.08, 60.04, 60.12, 0.0, 0.04, 0.08, 70.0]
    with caplog.at_level(logging.WARNING):
        times = [time for time, _ in rising(((time, lambda: (None, "")) for time in given), 25.0, Path("v.avi"))]
    assert times == pytest.approx([-2, -1.96, -1.88, -1.84, 60, 60.08, 60.080001, 60.12, 60.16, 60.2, 60.24, 70])
    assert np.all(np.diff(times) > 0)
    assert "v.avi: 6 frames without a time stamp, or with one that does not rise" in caplog.text


@pytest.mark.parametrize("decoder", DECODERS)
def test_time_stamps_that_fall_do_not_send_time_back(
    tmp_path: Path, decoder: str, caplog: pytest.LogCaptureFixture
) -> None:
    pts = list(range(100))
    pts[40], pts[41] = pts[41], pts[40]
    path = write(tmp_path / "v.mkv", 100, pts=pts)
    with caplog.at_level(logging.WARNING):
        slots = slots_of(path, decoder)
    assert len(slots) == 20
    assert all(slot.image is not None for slot in slots)
    assert "time stamp, or with one that does not rise" in caplog.text
    assert "v.mkv" in caplog.text


@pytest.mark.parametrize("group", [5, 1000])
def test_the_view_is_looked_for_all_over_the_file(tmp_path: Path, group: int) -> None:
    path = write(tmp_path / "v.mp4", 100, group=group)
    assert len(key_frames(path, 24)) in ((20,) if group == 5 else (1, 2))
    levels = [float(picture[20:].mean()) for picture in pictures_all_over(path, 24)]
    assert len(levels) >= 12
    assert levels == sorted(levels)
    assert max(levels) - min(levels) > 100
    by_opencv = [float(picture[20:].mean()) for picture in pictures_all_over(path, 24, decoder="opencv")]
    assert max(by_opencv) - min(by_opencv) > 100


def test_both_decoders_give_the_same_pictures_and_times(stamped: Callable[..., Path], rendered: Path) -> None:
    by_opencv, by_pyav = (slots_of(rendered, decoder) for decoder in DECODERS)
    assert [slot.frame for slot in by_opencv] == [slot.frame for slot in by_pyav]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(by_opencv, by_pyav, strict=True))
