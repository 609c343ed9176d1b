"""Turn the frames of procedures into embeddings on one time axis, with their labels.

takes   video files or folders of frames; nothing where `data.source` is phantom: embeddings are then made up
leaves  embeddings/<video>.safetensors, labels/<video>.csv (time_s,phase), videos.csv (what was read, what is missing)
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

from medpipe.datasets.procedures import ProceduresConfig, ProcedureSource
from medpipe.geometry.atomic import written_beside
from medpipe.geometry.faults import DataFault
from medpipe.stages.phase_files import LABELS, embeddings_path, write_labelled
from medpipe.stages.stage import Stage, StageRun, StopRequested
from medpipe.tasks.frame_options import EmbeddingConfig, EncoderConfig

if TYPE_CHECKING:
    import numpy as np

    from medpipe.datasets.embeddings import EmbeddingIdentity
    from medpipe.tasks.frame_encoders import FrameEncoder
    from medpipe.tasks.procedure_reading import ProcedureReader

VIDEOS_FILE = "videos.csv"


@final
class FrameEmbedding(Stage):
    """Frozen encoder, fixed rate, half precision; a killed run goes on where it was."""

    work: ClassVar = "prediction"
    version: ClassVar[int] = 2
    takes: ClassVar[dict[str, tuple[str, ...]]] = {}

    stage: Literal["frame_embedding"]
    procedures: ProceduresConfig = ProceduresConfig()
    encoder: EncoderConfig = EncoderConfig()
    frames: EmbeddingConfig = EmbeddingConfig()

    def parts(self, base: Path) -> int | None:
        return None

    def run(self, run: StageRun) -> None:
        rows = self.make_up(run) if run.data.source == "phantom" else self.embed_all(run)
        if run.part is None:
            write_videos_table(run.path(VIDEOS_FILE), rows)

    def embed_all(self, run: StageRun) -> list[dict[str, Any]]:
        """Every procedure on disk; those that are done are kept."""
        import torch

        from medpipe.datasets.procedures import list_procedures
        from medpipe.tasks.frame_encoders import build_encoder

        sources = run.mine(list_procedures(self.procedures, run.data))
        device = "cuda" if torch.cuda.is_available() else "cpu"
        encoder = build_encoder(self.encoder, base=run.base, device=device)
        if encoder.weights == "none" or encoder.weights.startswith("random"):
            run.output.warn(
                f"encoder {encoder.name}: its weights are {encoder.weights}; good for trying things out alone"
            )
        return [self.embed(run, source, encoder) for source in sources]

    def embed(self, run: StageRun, source: ProcedureSource, encoder: "FrameEncoder") -> dict[str, Any]:
        """One procedure; its row of videos.csv."""
        from medpipe.datasets.embeddings import check_same_encoder, read_embeddings
        from medpipe.tasks.frame_embedding import PartialEmbeddings, embed_slots
        from medpipe.tasks.procedure_reading import ProcedureReader

        path = embeddings_path(run.folder, source.video_id)
        if path.is_file() and (run.folder / LABELS / f"{source.video_id}.csv").is_file():
            done = read_embeddings(path)
            # The weights' file may have been replaced since.
            check_same_encoder([(path, done.identity)], self.identity(encoder), whose="this encoder gives")
            return {"video_id": source.video_id, **done.facts}
        run.stop_if_asked()
        reader = ProcedureReader(source, decoder=self.frames.decoder)
        view = reader.field_of_view() if self.frames.field_of_view else None
        for note in (
            *reader.notes,
            *(["no field of view found, the whole picture is taken"] * (view is not None and not view.found)),
        ):
            run.output.warn(f"{source.video_id}: {note}")
        partial = PartialEmbeddings(path, self.identity(encoder), reader.identity())
        faults: list[str] = []
        with run.output.progress(source.video_id, reader.expected_slots(self.frames.rate_hz)) as progress:

            def on_slots(count: int, found: list[str]) -> None:
                faults.extend(found)
                if found and self.frames.strict:
                    raise DataFault(source.path, f"strict: {found[0]}")
                progress.advance(count)

            finished = embed_slots(
                lambda first: reader.slots(self.frames.rate_hz, first), encoder, view, partial,
                batch_size=self.frames.batch_size, chunk_batches=self.frames.chunk_batches,
                on_slots=on_slots, should_stop=run.should_stop,
            )  # fmt: skip
        if not finished:
            raise StopRequested(run.name)
        box = {"view": "" if view is None else ",".join(map(str, view.box))}
        numbers = partial.finish(source.video_id, reader.facts | box)
        self.compare_with_header(run, source, reader, path)
        facts = self.label(run, source, reader, numbers, path)
        partial.remove()
        if faults:
            broken = [fault for fault in faults if "slot" not in fault]
            run.output.warn(f"{source.video_id}: {len(faults)} slots without a frame, {len(broken)} of them broken: "
                            f"{'; '.join((broken or faults)[:3])}")  # fmt: skip
        return {"video_id": source.video_id, **facts}

    def compare_with_header(
        self, run: StageRun, source: ProcedureSource, reader: "ProcedureReader", path: Path
    ) -> None:
        """Warn where a file's header speaks of another length than its time stamps."""
        from medpipe.datasets.embeddings import read_embeddings

        there, expected = len(read_embeddings(path).times_s), reader.expected_slots(self.frames.rate_hz)
        if abs(there - expected) > max(5, 0.02 * there):
            run.output.warn(
                f"{source.video_id}: {there / self.frames.rate_hz:.1f} s by its time stamps, "
                f"{expected / self.frames.rate_hz:.1f} s by its header; the time stamps count"
            )

    def label(
        self, run: StageRun, source: ProcedureSource, reader: "ProcedureReader", numbers: "np.ndarray", path: Path
    ) -> dict[str, Any]:
        """Write the labels on the video's time axis; the facts of the video."""
        import numpy as np

        from medpipe.datasets.embeddings import read_embeddings
        from medpipe.datasets.label_axis import read_labels, write_axis_labels
        from medpipe.metrics.phases import IGNORED

        video = read_embeddings(path)
        labels = np.full(len(video.times_s), IGNORED, dtype=np.int64)
        if source.labels is not None:
            table = read_labels(source.labels)
            labels = table.on(video.times_s, numbers)
            if table.frames is not None and reader.folder is not None:
                run.output.say(f"{source.video_id}: {table.frames.coverage(reader.folder.files).text()}")
            elif table.frames is not None:
                run.output.say(f"{source.video_id}: {table.frames.coverage(numbers[numbers >= 0]).frames_text()}")
        write_axis_labels(run.path(f"{LABELS}/{source.video_id}.csv"), video.times_s, labels)
        return video.facts

    def identity(self, encoder: "FrameEncoder") -> "EmbeddingIdentity":
        """What tells these embeddings from others."""
        from medpipe.datasets.embeddings import EmbeddingIdentity
        from medpipe.video.frame_folders import DRAFT_SIZE

        view = "cropped to the view" if self.frames.field_of_view else "whole picture"
        how = f"{view}, {encoder.preprocessing}, JPEG draft {DRAFT_SIZE}, batches of {self.frames.batch_size}"
        return EmbeddingIdentity(encoder.name, encoder.weights, how, self.frames.rate_hz, encoder.dim)

    def make_up(self, run: StageRun) -> list[dict[str, Any]]:
        """Embeddings of made-up procedures: no frame is decoded, no encoder runs."""
        import numpy as np

        from medpipe.datasets.embeddings import EmbeddedVideo, EmbeddingIdentity
        from medpipe.datasets.phantom.colonoscopy import GENERATOR_VERSION, draw_video, draw_world

        config = self.procedures.phantom
        run.output.warn("made-up procedures: embeddings are drawn, no frame is decoded and no encoder runs")
        identity = EmbeddingIdentity("made up", f"seed {run.seed}", str(GENERATOR_VERSION), config.rate_hz, config.dim)
        world, rows = draw_world(config, run.seed), []
        video_ids = run.mine(config.video_ids())
        with run.output.progress("procedures", len(video_ids)) as progress:
            for video_id in video_ids:
                run.stop_if_asked()
                drawn = draw_video(config, video_id, run.seed, world)
                missing = int(np.count_nonzero(~drawn.is_valid))
                facts = {"slots": len(drawn.times_s), "missing": missing, "seconds": float(drawn.times_s[-1])}
                if not embeddings_path(run.folder, video_id).is_file():
                    video = EmbeddedVideo(
                        video_id, identity, drawn.times_s, drawn.is_valid, drawn.embeddings, {"source": "made up"}
                    )
                    write_labelled(run.folder, video, drawn.labels)
                rows.append({"video_id": video_id, **facts})
                progress.advance(note=video_id)
        return rows


def write_videos_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """One row a video."""
    import pandas as pd

    with written_beside(path) as partial:
        pd.DataFrame(rows).to_csv(partial, index=False)
