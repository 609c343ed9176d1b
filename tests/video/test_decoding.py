"""Slots by time stamps: any rate, a variable rate, gaps, wrong headers, files that cannot be read."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medpipe.geometry.faults import DataFault
from medpipe.video.decoding import choose_decoder, video_slots
from medpipe.video.slots import first_in_slots, num_slots

DECODERS = ["opencv", "pyav"]


def check_against_times(path: Path, times: list[float], decoder: str) -> None:
    """Each slot holds the first frame shown in it, or none."""
    slots = list(video_slots(path, 5.0, decoder=decoder))  # type: ignore[arg-type]
    assert len(slots) == num_slots(times[-1] - times[0], 5.0)
    assert abs(slots[-1].time_s - (times[-1] - times[0])) <= 0.2 + 1e-3
    expected = {slot: frame for frame, slot in first_in_slots([t - times[0] for t in times], 5.0)}
    for slot in slots:
        assert slot.time_s == pytest.approx(slot.number / 5)
        assert slot.frame == expected.get(slot.number, -1)
        if slot.frame >= 0:
            assert slot.image is not None
            assert abs(float(slot.image.mean()) - (12 + 9 * (slot.frame % 25))) < 4


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("fps", [25.0, 30000 / 1001, 50.0, 60000 / 1001])
def test_every_rate_goes_the_same_way(tmp_path: Path, stamped: Callable[..., Path], fps: float, decoder: str) -> None:
    times = [number / fps for number in range(int(6 * fps))]
    check_against_times(stamped(tmp_path / "v.mp4", times), times, decoder)


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_variable_rate_and_a_gap_keep_the_time(tmp_path: Path, stamped: Callable[..., Path], decoder: str) -> None:
    rng = np.random.default_rng(0)
    times = np.cumsum(np.concatenate([rng.uniform(0.01, 0.09, 60), [2.0], rng.uniform(0.01, 0.3, 40)])).tolist()
    path = stamped(tmp_path / "v.mkv", times)
    times = [round(time, 3) for time in times]  # what the container keeps
    slots = list(video_slots(path, 5.0, decoder=decoder))  # type: ignore[arg-type]
    assert abs(slots[-1].time_s - (times[-1] - times[0])) <= 0.2
    missing = [slot for slot in slots if slot.frame < 0]
    assert len(missing) >= 8
    assert all(slot.fault == "no frame is shown in this slot" for slot in missing)
    check_against_times(path, times, decoder)


def test_reading_begins_at_any_slot(tmp_path: Path, stamped: Callable[..., Path]) -> None:
    path = stamped(tmp_path / "v.mp4", [number / 25 for number in range(200)])
    whole, later = list(video_slots(path, 5.0)), list(video_slots(path, 5.0, first_slot=13))
    assert [slot.frame for slot in later] == [slot.frame for slot in whole[13:]]


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_cut_file_is_refused_by_name(tmp_path: Path, rendered: Path, decoder: str) -> None:
    path = tmp_path / "cut.mp4"
    path.write_bytes(rendered.read_bytes()[:20_000])
    with pytest.raises(DataFault, match=r"cut\.mp4: cannot be opened as a video: cut off"):
        list(video_slots(path, 5.0, decoder=decoder))  # type: ignore[arg-type]
    with pytest.raises(DataFault, match="no such file"):
        list(video_slots(tmp_path / "none.mp4", 5.0, decoder=decoder))  # type: ignore[arg-type]


def test_pyav_is_taken_where_it_is() -> None:
    assert choose_decoder("auto") == "pyav"
    assert choose_decoder("opencv") == "opencv"
