"""Whole procedures on disk: video files, folders of frames, REAL-Colon's layout; each with its labels, if it has any.

    real_colon   <folder>/SSS-VVV_frames/SSS-VVV_12.jpg, <folder>/video_info.csv (frame rates), <labels>/SSS-VVV.csv
    frames       <folder>/<video>/frame_12.jpg at `fps` frames a second, <labels>/<video>.csv
    videos       <folder>/<video>.mp4 (or .avi .mkv .mov .webm .mpg), <labels>/<video>.csv; frame numbers count from 0

Label tables have a row a frame (frame_filename,GT) or, shorter, a row a segment (start_s,phase).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from pydantic import Field, model_validator

from medpipe.config.base import Config
from medpipe.datasets.cases import DataConfig
from medpipe.datasets.phantom.colonoscopy import GENERATOR_VERSION, ColonoscopyConfig
from medpipe.datasets.real_colon import (
    LESION_TABLE,
    VIDEO_TABLE,
    VideoInfo,
    notes_on_tables,
    read_lesion_table,
    read_video_table,
)
from medpipe.geometry.faults import DataFault, DataFaults

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".mpg", ".mpeg", ".m4v")
FRAME_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")


class ProceduresConfig(Config):
    """Which procedures, and how they lie below `data.root`. With `data.source: phantom` they are made up."""

    folder: Path = Path("real_colon")
    layout: Literal["real_colon", "frames", "videos"] = "real_colon"
    fps: float | None = Field(default=None, gt=0, description="of layout frames: how fast the frames were taken")
    labels: Path = Field(default=Path("labels"), description="folder of the label tables, below `folder`")
    videos: tuple[str, ...] = Field(default=(), description="only these")
    phantom: ColonoscopyConfig = ColonoscopyConfig()

    @model_validator(mode="after")
    def frames_have_a_rate(self) -> "ProceduresConfig":
        if self.layout == "frames" and self.fps is None:
            raise ValueError("layout: frames needs 'fps': nothing in a folder of images says how fast they were taken")
        return self


@final
@dataclass(frozen=True)
class ProcedureSource:
    """One procedure on disk; `fps` of frame folders, None where the file's own time stamps count."""

    video_id: str
    path: Path
    fps: float | None
    labels: Path | None

    @property
    def centre(self) -> str:
        """What folds by centre go by: what stands before the first hyphen."""
        return self.video_id.partition("-")[0]

    @property
    def is_folder(self) -> bool:
        """A folder of frames, not a video file."""
        return self.fps is not None


def list_procedures(config: ProceduresConfig, data: DataConfig) -> list[ProcedureSource]:
    """Every procedure by id. Raises DataFaults: no folder, none in it, one that is asked for and not there."""
    if data.root is None:
        raise ValueError("data.root is not set; give data.root=/path/to/data, or data.source=phantom for made-up ones")
    folder = data.root.expanduser() / config.folder
    if not folder.is_dir():
        raise DataFault(folder, "no such folder")
    found = _LISTED[config.layout](folder, config)
    sources = [ProcedureSource(name, path, fps, _labels_of(folder / config.labels, name)) for name, path, fps in found]
    missing = sorted(set(config.videos) - {source.video_id for source in sources})
    if missing:
        raise DataFaults([DataFault(folder, f"no video {name}; there are {len(sources)}") for name in missing])
    chosen = [source for source in sources if not config.videos or source.video_id in config.videos]
    if not chosen:
        raise DataFault(folder, f"no procedure of layout {config.layout} in it")
    return sorted(chosen, key=lambda source: source.video_id)


Found = list[tuple[str, Path, float | None]]


def _list_videos(folder: Path, _: ProceduresConfig) -> Found:
    files = [path for path in folder.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES]
    names = [path.stem for path in files]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataFault(folder, f"two files for the video {twice[0]}; an id names one file")
    return [(path.stem, path, None) for path in files]


def _list_frames(folder: Path, config: ProceduresConfig) -> Found:
    labels = (folder / config.labels).resolve()
    folders = [path for path in folder.iterdir() if path.is_dir() and path.resolve() != labels]
    return [(path.name, path, config.fps) for path in folders]


def _list_real_colon(folder: Path, _: ProceduresConfig) -> Found:
    infos = read_video_table(folder / VIDEO_TABLE)
    found: Found = []
    faults = []
    for path in sorted(folder.glob("*_frames")):
        name = path.name.removesuffix("_frames")
        if name not in infos:
            faults.append(DataFault(path, f"{VIDEO_TABLE} has no row of video {name}: its frame rate is unknown"))
        else:
            found.append((name, path, infos[name].fps))
    if faults:
        raise DataFaults(faults)
    return found


_LISTED = {"videos": _list_videos, "frames": _list_frames, "real_colon": _list_real_colon}


def _labels_of(folder: Path, name: str) -> Path | None:
    path = folder / f"{name}.csv"
    return path if path.is_file() else None


def procedures_identity(config: ProceduresConfig, data: DataConfig) -> str:
    """What the procedures are, for fingerprints.

    Of images and videos their names and sizes count, not their content: hashing a terabyte would take hours. Label
    tables count by content.
    """
    if data.source == "phantom":
        facts: object = ["phantom", GENERATOR_VERSION, config.phantom.model_dump(mode="json")]
    else:
        facts = [_facts_of(source) for source in list_procedures(config, data)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _facts_of(source: ProcedureSource) -> list[object]:
    files = sorted(source.path.iterdir()) if source.is_folder else [source.path]
    sizes = [[path.name, path.stat().st_size] for path in files if path.is_file()]
    labels = hashlib.sha256(source.labels.read_bytes()).hexdigest() if source.labels else None
    return [source.video_id, source.fps, sizes, labels]


def check_procedures(config: ProceduresConfig, data: DataConfig) -> tuple[list[str], list[DataFault]]:
    """A line a procedure and what has to be known of the tables; every fault of tables and labels."""
    from medpipe.datasets.label_axis import read_labels

    if data.source == "phantom":
        return [f"{len(config.phantom.video_ids())} made-up procedures, nothing to read"], []
    lines: list[str] = []
    faults: list[DataFault] = []
    try:
        sources = list_procedures(config, data)
        lines += _notes_on_real_colon(config, data)
    except DataFault as fault:
        return lines, [fault]
    except DataFaults as several:
        return lines, list(several.faults)
    for source in sources:
        try:
            labels = read_labels(source.labels) if source.labels else None
        except DataFault as fault:
            faults.append(fault)
            continue
        lines.append(f"{source.video_id}: {source.path.name}, {labels.text() if labels else 'no labels'}")
    return lines, faults


def _notes_on_real_colon(config: ProceduresConfig, data: DataConfig) -> Sequence[str]:
    """The traps of REAL-Colon's tables, where it is that."""
    if config.layout != "real_colon" or data.root is None:
        return []
    folder = data.root.expanduser() / config.folder
    videos: dict[str, VideoInfo] = read_video_table(folder / VIDEO_TABLE)
    table = folder / LESION_TABLE
    return notes_on_tables(videos, read_lesion_table(table) if table.is_file() else [])
