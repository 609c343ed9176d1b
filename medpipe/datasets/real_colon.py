"""REAL-Colon (Biffi et al., 2024, doi:10.1038/s41597-024-03359-0): its two tables, and what does not agree in them."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import final

from medpipe.datasets.tables import read_table
from medpipe.geometry.faults import DataFault

VIDEO_TABLE, LESION_TABLE = "video_info.csv", "lesion_info.csv"
VIDEO_NAME = re.compile(r"\d{3}-\d{3}")
SITES = (
    "ileum",
    "caecum",
    "ascending",
    "hepatic_flexure",
    "transverse",
    "splenic_flexure",
    "descending",
    "sigmoid",
    "rectum",
)
# As they stand in the published table.
SITE_ALIASES: Mapping[str, str] = MappingProxyType(
    {"cecum": "caecum", "ceacum": "caecum", "sigma": "sigmoid", "trasnverse": "transverse"}
)


@final
@dataclass(frozen=True)
class VideoInfo:
    """One row of video_info.csv. `study` is the first part of the name: the centre that folds leave out."""

    video_id: str
    fps: float
    num_frames: int
    num_lesions: int
    brand: str

    @property
    def study(self) -> str:
        return self.video_id[:3]

    @property
    def duration_s(self) -> float:
        return self.num_frames / self.fps


@final
@dataclass(frozen=True)
class Lesion:
    """One row of lesion_info.csv, its site in the spelling of SITES."""

    lesion_id: str
    video_id: str
    size_mm: float | None
    site: str
    site_as_written: str
    histology: str


def read_video_table(path: Path) -> dict[str, VideoInfo]:
    """Video -> its row. Raises DataFault by row."""
    videos: dict[str, VideoInfo] = {}
    for number, row in enumerate(read_table(path, ("unique_video_name", "fps", "num_frames", "num_lesions")), start=1):
        name = row["unique_video_name"]
        if not VIDEO_NAME.fullmatch(name):
            raise DataFault(path, f"row {number}: video {name!r}; expected SSS-VVV, such as 001-012")
        if name in videos:
            raise DataFault(path, f"row {number}: video {name} stands twice")
        try:
            info = VideoInfo(
                name,
                float(row["fps"]),
                int(row["num_frames"]),
                int(row["num_lesions"]),
                row.get("endoscope_brand", ""),
            )
        except ValueError as error:
            raise DataFault(path, f"row {number}, video {name}: {error}") from None
        if not (info.fps > 0 and info.num_frames > 0):
            raise DataFault(path, f"row {number}, video {name}: {info.num_frames} frames at {info.fps} fps")
        videos[name] = info
    return videos


def read_lesion_table(path: Path) -> list[Lesion]:
    """All lesions. Raises DataFault by row: an unknown site, a size that is no number, a lesion twice."""
    lesions: dict[str, Lesion] = {}
    for number, row in enumerate(read_table(path, ("unique_object_id", "unique_video_name", "site")), start=1):
        name, site = row["unique_object_id"], row["site"].lower()
        known = SITE_ALIASES.get(site, site)
        if known not in SITES:
            raise DataFault(path, f"row {number}, lesion {name}: unknown site {row['site']!r}; expected {SITES}")
        if name in lesions:
            raise DataFault(path, f"row {number}: lesion {name} stands twice")
        size = row.get("size [mm]", "")
        try:
            size_mm = float(size) if size else None
        except ValueError:
            raise DataFault(path, f"row {number}, lesion {name}: size {size!r} is no number of mm") from None
        lesions[name] = Lesion(
            name, row["unique_video_name"], size_mm, known, row["site"], row.get("histology_class", "")
        )
    return list(lesions.values())


def notes_on_tables(videos: Mapping[str, VideoInfo], lesions: Sequence[Lesion]) -> list[str]:
    """What a reader of the tables has to know: spellings, counts that do not agree, frame rates, lesions of nobody."""
    notes = []
    spelt = Counter(lesion.site_as_written for lesion in lesions if lesion.site_as_written != lesion.site)
    for written, count in spelt.items():
        notes.append(f"{LESION_TABLE}: {count} lesions at site {written!r}, read as {SITE_ALIASES[written.lower()]}")
    listed = Counter(lesion.video_id for lesion in lesions)
    claimed = sum(info.num_lesions for info in videos.values())
    if claimed != len(lesions):
        notes.append(f"{VIDEO_TABLE} counts {claimed} lesions, {LESION_TABLE} lists {len(lesions)}")
    for video_id, info in videos.items():
        if info.num_lesions != listed[video_id]:
            notes.append(
                f"video {video_id}: {info.num_lesions} lesions by {VIDEO_TABLE}, {listed[video_id]} in {LESION_TABLE}"
            )
    strangers = sorted(set(listed) - set(videos))
    if strangers:
        notes.append(f"{LESION_TABLE} names videos that {VIDEO_TABLE} lacks: {', '.join(strangers)}")
    rates = Counter(info.fps for info in videos.values())
    notes.append("frame rates: " + ", ".join(f"{count} videos at {fps:g} fps" for fps, count in sorted(rates.items())))
    return notes
