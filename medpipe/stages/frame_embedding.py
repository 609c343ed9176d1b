"""Turn the frames of procedures into embeddings on one time axis, with their labels.

takes   video files or folders of frames; nothing where `data.source` is phantom: embeddings are then made up
leaves  embeddings/<video>.safetensors, labels/<video>.csv (time_s,phase), videos.csv (what was read, what is missing)
"""

from pathlib import Path
from typing import Any, ClassVar, Literal, final

from medpipe.datasets.procedures import ProceduresConfig
from medpipe.geometry.atomic import written_beside
from medpipe.stages.phase_files import embeddings_path, write_labelled
from medpipe.stages.stage import Stage, StageRun

VIDEOS_FILE = "videos.csv"


@final
class FrameEmbedding(Stage):
    """Frozen encoder, fixed rate, half precision; a killed run goes on where it was."""

    version: ClassVar[int] = 1
    takes: ClassVar[dict[str, tuple[str, ...]]] = {}

    stage: Literal["frame_embedding"]
    procedures: ProceduresConfig = ProceduresConfig()

    def run(self, run: StageRun) -> None:
        if run.data.source == "phantom":
            rows = self.make_up(run)
        else:
            raise NotImplementedError
        write_videos_table(run.path(VIDEOS_FILE), rows)

    def make_up(self, run: StageRun) -> list[dict[str, Any]]:
        """Embeddings of made-up procedures: no frame is decoded, no encoder runs."""
        import numpy as np

        from medpipe.datasets.embeddings import EmbeddedVideo, EmbeddingIdentity
        from medpipe.datasets.phantom.colonoscopy import GENERATOR_VERSION, draw_video, draw_world

        config = self.procedures.phantom
        run.output.warn("made-up procedures: embeddings are drawn, no frame is decoded and no encoder runs")
        identity = EmbeddingIdentity("made up", f"seed {run.seed}", str(GENERATOR_VERSION), config.rate_hz, config.dim)
        world, rows = draw_world(config, run.seed), []
        with run.output.progress("procedures", len(config.video_ids())) as progress:
            for video_id in config.video_ids():
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
