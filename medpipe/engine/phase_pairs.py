"""Tables of predicted phases beside tables of labels: which belongs to which, and what is wrong with them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medpipe.datasets.phase_courses import course_tables, on_one_axis
from medpipe.datasets.real_colon import VIDEO_TABLE, read_video_table
from medpipe.engine.evaluation import wrong
from medpipe.geometry.faults import DataFault
from medpipe.stages.phase_files import LABELS, PREDICTIONS_FILE

if TYPE_CHECKING:
    from medpipe.metrics.phase_scores import VideoPhases


def labels_folder(predictions: Path, references: Path | None) -> Path:
    """The folder of labels that REFERENCES is or holds; without it that of the embeddings' stage in the same run."""
    if references is None:
        import json

        kept = json.loads((predictions / PREDICTIONS_FILE).read_text(encoding="utf-8"))
        references = predictions.resolve().parent / str(kept.get("embeddings", ""))
        if not (references / LABELS).is_dir():
            raise wrong(f"{predictions} does not lie beside the embeddings it was made of; give the folder of labels")
    if not references.exists():
        raise DataFault(references, "no such folder")
    return references / LABELS if (references / LABELS).is_dir() else references


def reference_tables(references: Path, *, single: bool, tables: Mapping[str, Mapping[str, Path]]) -> dict[str, Path]:
    """Video -> table of labels, in a folder of tables, one with `labels/` below it, or of one file for one file."""
    if references.is_file():
        if not single:
            raise DataFault(references, "one table of labels for a folder of predictions; give a folder")
        (video,) = next(iter(tables.values()))
        return {video: references}
    folder = labels_folder(references, references)
    found = course_tables(folder)
    if not found:
        raise DataFault(folder, "no table of phases in it (time_s,phase; start_s,phase; or frame_filename,GT)")
    if single:
        (video,) = next(iter(tables.values()))
        return {video: found[video]} if video in found else found
    return found


def pair_tables(
    predicted: Mapping[str, Path], references: Mapping[str, Path], fps: float | None, faults: list[DataFault]
) -> "list[VideoPhases]":
    """Each predicted video on one time axis with its labels; what does not fit is added to the faults."""
    from medpipe.metrics.phase_scores import VideoPhases

    found = []
    for video, path in sorted(predicted.items()):
        if video not in references:
            continue
        try:
            rate = frame_rate(video, references[video], fps)
            found.append(VideoPhases(video, *on_one_axis(path, references[video], rate)))
        except DataFault as fault:
            if str(fault) not in {str(known) for known in faults}:  # labels are read once for every model
                faults.append(fault)
    return found


def frame_rate(video: str, labels: Path, fps: float | None) -> float | None:
    """What was given, or what REAL-Colon's table beside or above the labels says of the video."""
    if fps is not None:
        return fps
    for folder in (labels.parent, labels.parent.parent):
        table = folder / VIDEO_TABLE
        if table.is_file():
            infos = read_video_table(table)
            return infos[video].fps if video in infos else None
    return None


def patients_of_videos(videos: Sequence[str], table: Path | None, notes: list[str]) -> dict[str, str]:
    """Video -> patient, by a table video_id,patient_id (or case_id); without one each is a patient of its own."""
    from medpipe.datasets.tables import read_table

    if table is None:
        return {video: video for video in videos}
    rows = read_table(table, ("patient_id",))
    column = next((name for name in ("video_id", "case_id") if rows and name in rows[0]), None)
    if column is None:
        raise DataFault(table, "no column video_id")
    listed = {row[column]: row["patient_id"] for row in rows}
    missing = [video for video in videos if video not in listed]
    if missing:
        raise DataFault(table, f"no patient of {len(missing)} videos: {few(missing)}")
    notes.append(f"{len(videos)} videos of {len({listed[video] for video in videos})} patients, by {table.name}.")
    return {video: listed[video] for video in videos}


def strangers(folder: Path, tables: Mapping[str, Path]) -> list[str]:
    """Files in a folder that are none of its tables."""
    known = {path.name for path in tables.values()}
    return [path.name for path in sorted(folder.iterdir()) if path.is_file() and path.name not in known]


def few(names: Sequence[str]) -> str:
    """The first eight names."""
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
