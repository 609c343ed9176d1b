"""Frames by number: 9 before 10 before 100, gaps keep their slots, broken ones do not stop the rest."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medpipe.geometry.faults import DataFault
from medpipe.video.frame_folders import folder_slots, list_frames, odd_sizes, read_image


def write(folder: Path, name: str, level: int = 100, *, size: tuple[int, int] = (40, 30), mode: str = "RGB") -> Path:
    folder.mkdir(exist_ok=True)
    picture = Image.new(mode, size, level if mode == "L" else (level, level, level))
    picture.save(folder / name, quality=95)
    return folder / name


def test_frames_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    for number in (100, 9, 10):
        write(folder, f"001-012_{number}.0.jpg" if number == 10 else f"001-012_{number}.jpg", number)
    assert list(list_frames(folder, 25).files) == [9, 10, 100]
    slots = list(folder_slots(list_frames(folder, 5.0), 5.0))
    assert [slot.frame for slot in slots[:2]] == [9, 10]
    assert slots[-1].frame == 100
    assert len(slots) == 92


def test_a_gap_keeps_the_time(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    for number in [*range(0, 100), *range(175, 250)]:  # 3 s of 25 fps are missing
        write(folder, f"f_{number}.jpg")
    frames = list_frames(folder, 25)
    slots = list(folder_slots(frames, 5.0))
    assert frames.missing == 75
    assert frames.duration_s == pytest.approx(249 / 25)
    assert len(slots) == 50
    assert [slot.number for slot in slots if slot.frame < 0] == list(range(20, 35))
    assert [slot.frame for slot in list(folder_slots(frames, 5.0, first_slot=36))] == [s.frame for s in slots[36:]]


def test_broken_frames_are_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    for number in range(5):
        write(folder, f"f_{number}.jpg", 90 + number, size=(200, 200))
    whole = (folder / "f_1.jpg").read_bytes()
    (folder / "f_1.jpg").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (20, 20)).save(folder / "f_2.png")
    (folder / "f_2.png").replace(folder / "f_2.jpg")
    (folder / "f_3.jpg").write_bytes(b"")
    slots = list(folder_slots(list_frames(folder, 5.0), 5.0))
    assert [slot.image is not None for slot in slots] == [True, False, False, False, True]
    assert "f_1.jpg: broken" in slots[1].fault
    assert "f_2.jpg: a PNG file, not the JPEG that its name says" in slots[2].fault
    assert [slot.frame for slot in slots] == [0, -1, -1, -1, 4]


def test_grey_becomes_colour_and_odd_frames_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    for number in range(6):
        write(folder, f"f_{number}.jpg")
    write(folder, "f_6.jpg", mode="L")
    write(folder, "f_7.jpg", size=(30, 40))
    image, fault = read_image(folder / "f_6.jpg")
    assert image is not None
    assert image.shape == (30, 40, 3)
    assert fault == ""
    assert odd_sizes(list_frames(folder, 25)) == ["f_6.jpg", "f_7.jpg"]


def test_no_frame_no_number_and_a_number_twice_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataFault, match="empty: no frame in it"):
        list_frames(tmp_path / "empty", 25)
    write(tmp_path / "a", "poster.jpg")
    with pytest.raises(DataFault, match=r"poster\.jpg: no frame number"):
        list_frames(tmp_path / "a", 25)
    write(tmp_path / "b", "f_7.jpg")
    write(tmp_path / "b", "f_7.0.jpg")
    with pytest.raises(DataFault, match="frame 7 is there twice"):
        list_frames(tmp_path / "b", 25)


def test_reading_a_large_jpeg_small_changes_it_little(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(128, 20, (240, 320, 3)).clip(0, 255).astype(np.uint8)
    Image.fromarray(noise).resize((1280, 960), Image.Resampling.BICUBIC).save(tmp_path / "f_1.jpg", quality=95)
    image, _ = read_image(tmp_path / "f_1.jpg")
    assert image is not None
    assert 448 <= max(image.shape) < 1280
