"""Made-up colonoscopies as video files and folders of frames: a view in an octagon, text beside it, a room outside.

Each place of the colon has its colour and folds, so that an encoder of colours can tell places apart; names and clocks
are burned in beside the view; outside the body a room with a face is seen. Real files for decoding, privacy and the
live mode.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydantic import Field

from medpipe.config.base import Config
from medpipe.datasets.phantom.colonoscopy import keyed
from medpipe.datasets.phantom.procedure import OUT, Episode, draw_procedure, sample
from medpipe.metrics.phases import phase_name

# Hue in degrees of OpenCV (0 to 180) of the seven places from rectum to ileum; red to yellow as mucosa is.
PLACE_HUE = (2, 6, 10, 14, 18, 23, 28)
PATIENT = "DOE JANE 1961-04-12"


class RenderedConfig(Config):
    """What the rendered videos are like."""

    width: int = Field(default=320, ge=96)
    height: int = Field(default=240, ge=96)
    fps: float = Field(default=25.0, gt=0)
    shorter: float = Field(default=30.0, gt=0, description="procedures run so many times faster than real ones")
    text: bool = Field(default=True, description="burn a name and a clock in beside the view")


def episodes_of(config: RenderedConfig, seed: int) -> list[Episode]:
    """The course of one video."""
    drawn = draw_procedure(keyed(seed, "rendered"))
    return [Episode(e.phase, e.seconds / config.shorter, e.start, e.end) for e in drawn]


def frames_of(config: RenderedConfig, seed: int) -> Iterator[tuple[np.ndarray, int]]:
    """(picture (H, W, 3) uint8 RGB, phase) of every frame."""
    times, phases, places = sample(episodes_of(config, seed), config.fps)
    rng = keyed(seed, "pictures")
    noise = rng.normal(0, 1, (config.height, config.width, 3)).astype(np.float32)
    for number, (time, phase, place) in enumerate(zip(times, phases, places, strict=True)):
        shift = int(rng.integers(0, config.width))
        view = room(config, time) if place == OUT else bowel(config, place, time)
        yield on_screen(config, view + 6 * np.roll(noise, shift, axis=1), number, time), int(phase)


def bowel(config: RenderedConfig, place: float, time: float) -> np.ndarray:
    """A tunnel with folds and a dark lumen that wanders: (H, W, 3) float32."""
    import cv2

    y, x = np.mgrid[0 : config.height, 0 : config.width].astype(np.float32)
    centre_x = config.width * (0.5 + 0.12 * np.sin(1.3 * time))
    centre_y = config.height * (0.5 + 0.12 * np.cos(0.9 * time))
    distance = np.hypot(x - centre_x, y - centre_y) / config.height
    angle = np.arctan2(y - centre_y, x - centre_x)
    folds = 0.5 + 0.5 * np.sin(18 * np.log(distance + 0.05) + 6 * time + np.sin(3 * angle))
    light = np.clip(1.5 * distance, 0, 1) * (0.7 + 0.3 * folds)
    hue = float(np.interp(max(place, 0), range(len(PLACE_HUE)), PLACE_HUE))
    colour = np.stack([np.full_like(light, hue), np.full_like(light, 165), 235 * light], axis=-1).astype(np.uint8)
    return cv2.cvtColor(colour, cv2.COLOR_HSV2RGB).astype(np.float32)


def room(config: RenderedConfig, time: float) -> np.ndarray:
    """Blue walls, a lamp and a face, seen by a scope that is moved: (H, W, 3) float32."""
    import cv2

    picture = np.full((config.height, config.width, 3), (70, 105, 150), dtype=np.uint8)
    picture[: config.height // 3] = (150, 170, 190)
    centre = (int(config.width * (0.5 + 0.1 * np.sin(2 * time))), int(config.height * (0.55 + 0.05 * np.cos(3 * time))))
    radius = config.height // 6
    cv2.circle(picture, centre, radius, (225, 180, 150), -1)
    for side in (-1, 1):
        cv2.circle(picture, (centre[0] + side * radius // 3, centre[1] - radius // 4), radius // 8, (30, 30, 40), -1)
    wave = 25 * np.sin(np.arange(config.width) / 17 + 5 * time)
    return picture.astype(np.float32) + wave[None, :, None].astype(np.float32)


def on_screen(config: RenderedConfig, view: np.ndarray, number: int, time: float) -> np.ndarray:
    """The view in its octagon to the right of a black panel with text."""
    import cv2

    screen = np.zeros((config.height, config.width, 3), dtype=np.uint8)
    shape = octagon(config)
    screen[shape] = np.clip(view, 0, 255).astype(np.uint8)[shape]
    if config.text:
        size = config.width / 900
        lines = (*PATIENT.split(), f"{int(time) // 60:02d}:{int(time) % 60:02d}", f"#{number}")
        for line, text in enumerate(lines):
            place = (3, int(config.height * (0.12 + 0.1 * line)))
            cv2.putText(screen, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), 1, cv2.LINE_AA)
    return screen


def octagon(config: RenderedConfig) -> np.ndarray:
    """Where the view is: (H, W) bool."""
    import cv2

    left, right = int(0.26 * config.width), config.width - 4
    top, bottom = 4, config.height - 4
    cut = int(0.12 * config.height)
    corners = [(left + cut, top), (right - cut, top), (right, top + cut), (right, bottom - cut),
               (right - cut, bottom), (left + cut, bottom), (left, bottom - cut), (left, top + cut)]  # fmt: skip
    mask = np.zeros((config.height, config.width), dtype=np.uint8)
    return cv2.fillConvexPoly(mask, np.array(corners), 1) > 0


def write_video(path: Path, config: RenderedConfig, seed: int) -> int:
    """A video file (mpeg4 in .mp4, or motion JPEG in .avi) and its labels in labels/; the number of frames."""
    import cv2

    from medpipe.datasets.phase_labels import write_phase_labels

    path.parent.mkdir(parents=True, exist_ok=True)
    codec = "MJPG" if path.suffix == ".avi" else "mp4v"
    fourcc = cv2.VideoWriter.fourcc(*codec)
    writer = cv2.VideoWriter(str(path), fourcc, config.fps, (config.width, config.height))
    labels = []
    for picture, phase in frames_of(config, seed):
        writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        labels.append(phase)
    writer.release()
    names = [f"{path.stem}_{number}.jpg" for number in range(len(labels))]
    write_phase_labels(path.parent / "labels" / f"{path.stem}.csv", names, labels)
    return len(labels)


def write_frame_folder(folder: Path, config: RenderedConfig, seed: int) -> int:
    """Frames as NAME_1.jpg, NAME_2.jpg ... and their labels in labels/ beside; the number of frames."""
    from PIL import Image

    from medpipe.datasets.phase_labels import write_phase_labels

    folder.mkdir(parents=True, exist_ok=True)
    labels = []
    for number, (picture, phase) in enumerate(frames_of(config, seed), start=1):
        Image.fromarray(picture).save(folder / f"{folder.name}_{number}.jpg", quality=90)
        labels.append(phase)
    names = [f"{folder.name}_{number}.jpg" for number in range(1, len(labels) + 1)]
    write_phase_labels(folder.parent / "labels" / f"{folder.name}.csv", names, labels)
    return len(labels)


def describe(config: RenderedConfig, seed: int) -> str:
    """The phases of a video in order, with their seconds."""
    return ", ".join(f"{phase_name(e.phase)} {e.seconds:.0f} s" for e in episodes_of(config, seed))
