"""Which frame stands for a segment: never one near the outside, of the others the surest, read where it says."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from medpipe.datasets.procedures import ProcedureSource
from medpipe.metrics.phases import ASCENDING, CAECUM, INSERTION, OUTSIDE
from medpipe.tasks.key_frames import away_from_outside, choose_key_frames, of_file, of_folder, with_pictures
from medpipe.tasks.procedure_reading import ProcedureReader
from medpipe.video.field_of_view import whole
from medpipe.video.frame_folders import list_frames

TIMES = np.arange(100) / 5


def test_frames_within_two_seconds_of_outside_are_left_out_whoever_says_so() -> None:
    mine, theirs = np.full(100, INSERTION), np.full(100, INSERTION)
    mine[40:45], theirs[90] = OUTSIDE, OUTSIDE
    found = away_from_outside(TIMES, [mine, theirs])
    expected = [
        all(abs(time - TIMES[place]) > 2 for course in (mine, theirs) for place in np.flatnonzero(course == OUTSIDE))
        for time in TIMES
    ]
    assert found.tolist() == expected
    assert found.any()
    assert away_from_outside(TIMES, [np.full(100, INSERTION)]).all()
    assert not away_from_outside(TIMES, [np.full(100, OUTSIDE)]).any()


def test_the_surest_allowed_frame_stands_for_a_segment_and_a_reason_for_none() -> None:
    course = np.array([OUTSIDE] * 10 + [INSERTION] * 40 + [CAECUM] * 5 + [ASCENDING] * 45)
    sure = np.full(100, 0.5)
    sure[12], sure[33] = 0.99, 0.9
    is_allowed = away_from_outside(TIMES, [course])
    is_allowed[50:55] = False
    outside, insertion, caecum, ascending = choose_key_frames(TIMES, course, sure, is_allowed)
    assert outside.time_s is None
    assert outside.reason == "outside, or near it"
    assert insertion.time_s == TIMES[33]  # 12 is surer, and too near
    assert caecum.time_s is None
    assert ascending.time_s == TIMES[77]  # the middle, where all are alike
    assert (ascending.start_s, ascending.stop_s) == (TIMES[55], TIMES[99])


@pytest.fixture
def numbered(tmp_path: Path) -> Path:
    """A video of 20 s at 25 frames a second; nine bands, black or white, are a frame's number in bits."""
    path = tmp_path / "v.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (144, 48))
    for number in range(500):
        bands = np.array([255 * (number >> bit & 1) for bit in range(9)], dtype=np.uint8)
        writer.write(np.broadcast_to(bands.repeat(16)[None, :, None], (48, 144, 3)).copy())
    writer.release()
    return path


def number_of(picture: np.ndarray) -> int:
    bands = picture.mean(axis=(0, 2)).reshape(9, 16)[:, 4:12].mean(axis=1)
    return sum((level > 127) << bit for bit, level in enumerate(bands))


def test_a_frame_of_a_file_is_the_one_shown_at_the_time(numbered: Path) -> None:
    reader = ProcedureReader(ProcedureSource("v", numbered, None, None))
    wanted = [19.0, 0.0, 3.2, 11.04, 11.0]
    found = of_file(reader, wanted)
    for time_s in wanted:
        assert number_of(found[time_s]) == round(time_s * 25)
    assert of_file(reader, [25.0]) == {}


def test_a_frame_of_a_folder_is_that_number_or_the_next_readable(tmp_path: Path) -> None:
    for number in [*range(5, 20), *range(30, 40)]:
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"f_{number}.png")
    (tmp_path / "f_12.png").write_bytes(b"broken")
    found = of_folder(list_frames(tmp_path, 10.0), [0.0, 0.7, 1.6])
    assert found[0.0][0, 0, 0] == 5
    assert found[0.7][0, 0, 0] == 13
    assert 1.6 not in found


def test_without_a_field_of_view_nothing_is_shown(numbered: Path) -> None:
    reader = ProcedureReader(ProcedureSource("v", numbered, None, None))
    frames = choose_key_frames(TIMES, np.full(100, INSERTION), None, np.ones(100, dtype=bool))
    (frame,) = with_pictures(frames, reader, whole(48, 144))
    assert frame.image is None
    assert frame.reason == "no field of view was found"
