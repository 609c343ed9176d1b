"""Folds of videos as written lists: which videos a network is trained on, chosen by and tested on.

A list is a CSV with the columns fold, part (train, valid, test) and video_id. `data/splits` holds the two official
protocols of REAL-Colon: `real_colon_4_fold` leaves one study out, `real_colon_5_fold` mixes the studies.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import final

from medpipe.config.share import share_folder
from medpipe.config.suggestions import suggestion
from medpipe.datasets.tables import read_table
from medpipe.geometry.faults import DataFault

PARTS = ("train", "valid", "test")


@final
@dataclass(frozen=True)
class VideoFold:
    """One fold: the three lists of video ids, in the order of the file."""

    number: int
    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...]


def find_folds_file(name: str, base: Path | None = None) -> Path:
    """A shipped list by name, or a path, relative to `base`. Raises ValueError: no such list."""
    if name.endswith(".csv") or "/" in name:
        return (base or Path()) / Path(name).expanduser()
    folder = share_folder("data") / "splits"
    path = folder / f"{name}.csv"
    if not path.is_file():
        known = sorted(file.stem for file in folder.glob("*.csv"))
        raise ValueError(f"no list of folds '{name}'{suggestion(name, known, 'lists that come with medpipe')}")
    return path


def read_folds(path: Path) -> dict[int, VideoFold]:
    """Fold -> its lists. Raises DataFault: an unknown part, a video in two parts of a fold or in two test lists."""
    parts: dict[int, dict[str, list[str]]] = {}
    tested: dict[str, int] = {}
    for number, row in enumerate(read_table(path, ("fold", "part", "video_id")), start=1):
        fold, part, video = row["fold"], row["part"], row["video_id"]
        if not fold.isdigit() or part not in PARTS:
            raise DataFault(path, f"row {number}: fold {fold!r}, part {part!r}; expected a number, and {PARTS}")
        lists = parts.setdefault(int(fold), {name: [] for name in PARTS})
        if any(video in videos for videos in lists.values()):
            raise DataFault(path, f"row {number}: video {video} stands twice in fold {fold}")
        if part == "test" and tested.setdefault(video, int(fold)) != int(fold):
            raise DataFault(path, f"row {number}: video {video} is tested in fold {tested[video]} and in fold {fold}")
        lists[part].append(video)
    if not parts:
        raise DataFault(path, "no fold in it")
    return {fold: VideoFold(fold, *(tuple(lists[part]) for part in PARTS)) for fold, lists in sorted(parts.items())}


def check_videos_are_there(path: Path, folds: Iterable[VideoFold], there: Iterable[str]) -> None:
    """Refuse folds that name a video which is not in the data."""
    known = set(there)
    named = [video for fold in folds for video in (*fold.train, *fold.valid, *fold.test)]
    missing = sorted(set(named) - known)
    if missing:
        raise DataFault(
            path,
            f"names {len(missing)} videos that are not in the data ({', '.join(missing[:5])}); there: {len(known)}",
        )
