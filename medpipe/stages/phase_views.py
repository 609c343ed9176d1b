"""Key frames of the videos that a report shows: where the frames lie, which may be shown, what stands for others."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from medpipe.datasets.cases import DataConfig
from medpipe.datasets.procedures import ProceduresConfig, ProcedureSource, list_procedures
from medpipe.geometry.faults import DataFault, DataFaults
from medpipe.stages.phase_files import PredictedArm, read_phases

if TYPE_CHECKING:
    from medpipe.reporting.phases import KeyPicture, VideoView
    from medpipe.tasks.key_frames import KeyFrame

MOST_SEGMENTS = 40  # of a video that are shown: the longest ones


def sources_of(run_folder: Path, stage: str, data: DataConfig) -> dict[str, ProcedureSource]:
    """The procedures that a stage frame_embedding of this run read, by id; none where they are not there any more."""
    from medpipe.config.reader import read_tree
    from medpipe.config.tree import node_at
    from medpipe.config.validation import validate

    kept = run_folder / "workflow.yaml"
    node = node_at(read_tree(kept), ("stages", stage, "procedures")) if kept.is_file() else None
    config = ProceduresConfig() if node is None else validate(ProceduresConfig, node)
    try:
        return {source.video_id: source for source in list_procedures(config, data)}
    except (DataFault, DataFaults, ValueError):
        return {}


def key_frames_of(
    view: "VideoView",
    source: ProcedureSource | None,
    predictions: Path,
    arms: Sequence[PredictedArm],
    notes: list[str],
) -> "VideoView":
    """The view of a video with a picture a segment. Whatever any network took for outside is not shown."""
    from medpipe.tasks.key_frames import away_from_outside, choose_key_frames, with_pictures
    from medpipe.tasks.procedure_reading import ProcedureReader

    video = view.phases
    paths = [predictions / arm.folder / f"{view.video_id}.csv" for arm in arms if view.video_id in arm.fold_of]
    courses = [video.ref, video.pred, *(read_phases(path)["phases"] for path in paths)]
    is_allowed = away_from_outside(video.times_s, courses)
    frames = choose_key_frames(video.times_s, video.pred, video.confidence, is_allowed)
    if len(frames) > MOST_SEGMENTS:
        notes.append(f"{view.video_id}: key frames of its {MOST_SEGMENTS} longest of {len(frames)} segments.")
        longest = sorted(frames, key=lambda frame: frame.start_s - frame.stop_s)[:MOST_SEGMENTS]
        frames = sorted(longest, key=lambda frame: frame.start_s)
    try:
        if source is None:
            raise DataFault(view.video_id, "is not where the embeddings were made from")
        reader = ProcedureReader(source)
        field = reader.field_of_view()
        frames = with_pictures(frames, reader, field)
    except (DataFault, DataFaults) as fault:
        notes.append(f"No key frames: {fault}")
        return view
    if not field.found:
        notes.append(
            f"{view.video_id}: no field of view was found, so text beside it could not be masked: no key frames."
        )
    return replace(view, frames=[picture_of(frame) for frame in frames])


def picture_of(frame: "KeyFrame") -> "KeyPicture":
    """A key frame as the page shows it."""
    from medpipe.metrics.phases import PHASES
    from medpipe.reporting.phase_colours import PHASE_COLOURS
    from medpipe.reporting.phases import KeyPicture, clock
    from medpipe.reporting.pictures import photograph

    name = PHASES[frame.phase]
    span = f"{clock(frame.start_s)} to {clock(frame.stop_s)}"
    taken = None
    if frame.image is not None and frame.time_s is not None:
        taken = photograph(frame.image, f"{name} at {clock(frame.time_s)}")
    return KeyPicture(name, PHASE_COLOURS[frame.phase], span, taken, frame.reason)
