"""How fast frames are embedded end to end, beside decoding alone, encoding alone and one frame at a time.

    python benchmarks/video.py [--seconds 60] [--repeats 3] [--settings "H.264 .mp4, 25 fps" ...] [--encoders resnet50]

Rates are frames of the video a second; at 5 Hz every fifth frame of 25 fps is encoded. The arms, alternating:

    decode   the reader of the stage `frame_embedding` alone: every frame decoded, those of a slot turned to RGB (floor)
    encode   the encoder alone, on as many pictures, ready in memory, in the stage's batches
    stage    the stage's own `embed`: view found, decoded, cut, scaled, encoded, cached, labelled
    released the published code's way (facts, fault 16): 1024 frames loaded by Pillow, then encoded one by one

Bound: on a CPU decoding and encoding share the cores, so that together they allow 1 / (1 / decode + 1 / encode);
beside a GPU the slower of the two. Bar: `stage` at 90 % of the bound or more. `busy_bound_percent` is the same against
the CPU seconds of both arms divided by the cores, which no schedule can go below.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line has it

import av
import cv2
import numpy as np
import torch
from PIL import Image
from rich.console import Console
from video_files import SETTINGS, SIZE, render, write_source

from medpipe.backbones.resnet50 import ResNet50
from medpipe.datasets.cases import DataConfig
from medpipe.datasets.procedures import ProcedureSource
from medpipe.engine.output import RunOutput
from medpipe.stages.frame_embedding import FrameEmbedding
from medpipe.stages.stage import StageRun, cores
from medpipe.tasks.frame_encoders import FrameEncoder, build_encoder
from medpipe.tasks.frame_options import EncoderConfig
from medpipe.tasks.procedure_reading import ProcedureReader
from medpipe.version import __version__

RESULTS = Path(__file__).parent / "results" / "video.json"
ENCODERS = ("resnet50", "vision_transformer small", "vision_transformer tiny")
BAR_PERCENT = 90
LOADED = 1024  # frames that the released code loads before it encodes


@final
@dataclass
class Spent:
    """Wall and CPU seconds of every repeat of one arm."""

    wall: list[float]
    cpu: list[float]

    def measure(self, work: Callable[[], Any]) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)


def decode(source: ProcedureSource) -> int:
    """The stage's reader alone; how many slots have a picture."""
    return sum(slot.image is not None for slot in ProcedureReader(source).slots(5.0))


def encode(encoder: FrameEncoder, pictures: np.ndarray, count: int, batch_size: int) -> None:
    """`count` pictures in batches."""
    for first in range(0, count, batch_size):
        encoder.encode(pictures[: min(batch_size, count - first)])


def released(source: ProcedureSource, encoder: FrameEncoder) -> None:
    """Frames loaded by the thousand, scaled by Pillow, then each taken through the network by itself."""
    loaded: list[np.ndarray] = []

    def one_by_one() -> None:
        for picture in loaded:
            encoder.encode(picture[None])
        loaded.clear()

    for slot in ProcedureReader(source).slots(5.0):
        assert slot.image is not None
        loaded.append(np.array(Image.fromarray(slot.image).resize((encoder.size, encoder.size), 2)))
        if len(loaded) == LOADED:
            one_by_one()
    one_by_one()


def embed(stage: FrameEmbedding, source: ProcedureSource, encoder: FrameEncoder, output: RunOutput) -> None:
    """The stage on one procedure, into a new folder."""
    with tempfile.TemporaryDirectory() as folder:
        run = StageRun("embed", Path(folder), 0, DataConfig(), {}, output, lambda: False, Path())
        stage.embed(run, source, encoder)


def weights_file(folder: Path) -> Path:
    """ResNet-50 at random, in the names of the published file."""
    torch.manual_seed(0)
    path = folder / "resnet50.pth"
    torch.save(ResNet50().state_dict(), path)
    return path


def compare(source: ProcedureSource, fps: float, title: str, folder: Path, repeats: int) -> dict[str, Any]:
    """All arms of one source and encoder."""
    config = EncoderConfig.of_title(title, weights=weights_file(folder) if title == "resnet50" else None)
    encoder = build_encoder(config, device="cuda" if torch.cuda.is_available() else "cpu")
    stage = FrameEmbedding(stage="frame_embedding", encoder=config)
    quiet = RunOutput(Console(file=(folder / "log.txt").open("a")))
    slots = decode(source)
    size, batch_size = encoder.size, stage.frames.batch_size
    pictures = np.random.default_rng(0).integers(0, 255, (batch_size, size, size, 3), dtype=np.uint8)
    arms: dict[str, Callable[[], Any]] = {
        "decode": lambda: decode(source),
        "encode": lambda: encode(encoder, pictures, slots, batch_size),
        "stage": lambda: embed(stage, source, encoder, quiet),
        "released": lambda: released(source, encoder),
    }
    encoder.encode(pictures)  # first use is slower
    spent = {name: Spent([], []) for name in arms}
    for repeat in range(repeats):
        for name in list(arms)[:: 1 if repeat % 2 == 0 else -1]:
            spent[name].measure(arms[name])
    return summary(spent, slots, slots * fps / 5)


def summary(spent: dict[str, Spent], slots: int, frames: float) -> dict[str, Any]:
    """Rates by the medians, the bound, and how near the stage comes."""
    wall = {name: statistics.median(arm.wall) for name, arm in spent.items()}
    cpu = {name: statistics.median(arm.cpu) for name, arm in spent.items()}
    apart, both = (wall["decode"], wall["encode"]), torch.cuda.is_available()
    bound_s = max(apart) if both else sum(apart)
    busy_s = (cpu["decode"] + cpu["encode"]) / cores(None)
    percent = 100 * bound_s / wall["stage"]
    return {
        "slots": slots,
        "frames": round(frames),
        "frames_per_second": {name: round(frames / seconds, 1) for name, seconds in wall.items()},
        "wall_s": {name: [round(value, 3) for value in arm.wall] for name, arm in spent.items()},
        "cores_busy": {name: round(cpu[name] / wall[name], 2) for name in wall},
        "bound_frames_per_second": round(frames / bound_s, 1),
        "bound": "slower of decode and encode" if both else "1 / (1 / decode + 1 / encode)",
        "percent_of_bound": round(percent, 1),
        "busy_bound_percent": round(100 * busy_s / wall["stage"], 1),
        "bar_90_percent_met": percent >= BAR_PERCENT,
        "times_released": round(wall["released"] / wall["stage"], 2),
    }


def line(name: str, title: str, found: dict[str, Any]) -> str:
    rates = ", ".join(f"{arm} {rate:g}" for arm, rate in found["frames_per_second"].items())
    return (
        f"{name}, {title}: {rates} frames/s; bound {found['bound_frames_per_second']:g} = {found['bound']}; "
        f"stage at {found['percent_of_bound']} % (against CPU seconds {found['busy_bound_percent']} %)"
    )


def store(result: dict[str, Any]) -> None:
    """What was measured so far, with device and versions."""
    every = [found for of_setting in result["settings"].values() for found in of_setting.values()]
    result["smallest_percent_of_bound"] = min(found["percent_of_bound"] for found in every)
    result["bar_90_percent_met"] = all(found["bar_90_percent_met"] for found in every)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    result["device"] = f"{platform.machine()}, {cores(None)} cores, {gpu}"
    result["versions"] = {"medpipe": __version__, "python": platform.python_version(), "torch": torch.__version__}
    result["versions"] |= {"av": av.__version__, "opencv": cv2.__version__, "numpy": np.__version__}
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--settings", nargs="*", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--encoders", nargs="*", choices=ENCODERS, default=list(ENCODERS))
    options = parser.parse_args()
    result: dict[str, Any] = {"seconds": options.seconds, "repeats": options.repeats, "size": list(SIZE)}
    result |= {"load_before": round(os.getloadavg()[0], 1), "threads": torch.get_num_threads(), "settings": {}}
    pictures = render()
    with tempfile.TemporaryDirectory() as temporary:
        for place, name in enumerate(options.settings):
            path = write_source(Path(temporary), name, pictures, options.seconds)
            fps = float(SETTINGS[name].fps)
            source = ProcedureSource(path.stem, path, fps if path.is_dir() else None, None)
            of_setting = result["settings"][name] = {}
            # Every encoder on the first setting, the first encoder on the others.
            for title in options.encoders if place == 0 else options.encoders[:1]:
                of_setting[title] = compare(source, fps, title, Path(temporary), options.repeats)
                print(line(name, title, of_setting[title]), flush=True)
                store(result)
    print(f"smallest share of the bound {result['smallest_percent_of_bound']} %, bar {BAR_PERCENT} %")


if __name__ == "__main__":
    main()
