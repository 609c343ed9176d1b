"""The stage on folders of frames and video files: what is told, what is refused, what is kept."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from medpipe.datasets.cases import DataConfig
from medpipe.datasets.embeddings import read_embeddings
from medpipe.datasets.phantom.rendered import RenderedConfig, write_frame_folder
from medpipe.engine.output import RunOutput
from medpipe.geometry.faults import DataFault
from medpipe.stages.frame_embedding import FrameEmbedding
from medpipe.stages.stage import StageRun


class Heard:
    """An output that keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.console = Console(quiet=True)
        self.progress = RunOutput(self.console).progress

    def say(self, text: str) -> None:
        self.lines.append(text)

    warn = say

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """50 frames of a made-up procedure at 10 frames a second, with labels."""
    folder = tmp_path / "data" / "frames" / "001-001"
    write_frame_folder(folder, RenderedConfig(width=96, height=96, shorter=300, fps=10), 0)
    for path in folder.iterdir():
        if int(path.stem.rpartition("_")[2]) > 50:
            path.unlink()
    labels = folder.parent / "labels" / "001-001.csv"
    labels.write_text("\n".join(labels.read_text().splitlines()[:51]) + "\n")
    return folder


def embed(folder_of_frames: Path, **changes: Any) -> Heard:
    """Run the stage beside the data; what it said."""
    values = {"batch_size": 8, "chunk_batches": 2, **changes.pop("frames", {})}
    stage = FrameEmbedding.model_validate(
        {
            "stage": "frame_embedding",
            "procedures": {"folder": Path("frames"), "layout": "frames", "fps": 10},
            "encoder": {"name": "colour_grid"},
            "frames": values,
            **changes,
        }
    )
    heard, root = Heard(), folder_of_frames.parent.parent
    folder = root.parent / "embed"
    folder.mkdir(exist_ok=True)
    stage.run(StageRun("embed", folder, 0, DataConfig(root=root), {}, heard, lambda: False, root))
    return heard


def made(frames: Path) -> Path:
    return frames.parent.parent.parent / "embed" / "embeddings" / "001-001.safetensors"


def test_row_1_bursts_that_are_missing_keep_the_time_and_are_counted(frames: Path) -> None:
    for number in range(20, 30):
        (frames / f"001-001_{number}.jpg").unlink()
    heard = embed(frames)
    video = read_embeddings(made(frames))
    assert len(video.times_s) == 25
    # Frames 20 to 29 of 1 to 50: slot 9 holds frame 19 still, slot 14 begins with frame 29 and takes frame 30.
    assert np.flatnonzero(~video.is_valid).tolist() == [10, 11, 12, 13]
    assert not video.embeddings[~video.is_valid].any()
    assert video.facts["numbers_missing"] == 10
    assert "slots without a frame" in heard.text
    table = pd.read_csv(made(frames).parent.parent / "videos.csv")
    assert table.loc[0, "missing"] == (~video.is_valid).sum()


def test_row_2_other_sizes_a_turned_and_a_grey_frame_are_used_and_named(frames: Path) -> None:
    picture = Image.open(frames / "001-001_5.jpg")
    picture.resize((130, 70)).save(frames / "001-001_5.jpg")
    Image.open(frames / "001-001_11.jpg").crop((0, 0, 96, 60)).rotate(90, expand=True).save(frames / "001-001_11.jpg")
    Image.open(frames / "001-001_21.jpg").convert("L").save(frames / "001-001_21.jpg")
    heard = embed(frames)
    assert "3 frames of another size or colour than most: 001-001_5.jpg, 001-001_11.jpg, 001-001_21.jpg" in heard.text
    assert read_embeddings(made(frames)).is_valid.all()


def test_row_2_a_first_frame_of_another_size_does_not_hide_the_view(frames: Path) -> None:
    Image.open(frames / "001-001_1.jpg").resize((130, 70)).save(frames / "001-001_1.jpg")
    embed(frames)
    left = int(read_embeddings(made(frames)).facts["view"].split(",")[1])
    assert left > 10  # the panel with the name is cut off


def test_row_3_frames_without_a_row_and_rows_without_a_frame_are_listed(frames: Path) -> None:
    labels = frames.parent / "labels" / "001-001.csv"
    lines = labels.read_text().splitlines()
    labels.write_text("\n".join([*lines[:31], *lines[33:], "001-001_777.jpg,insertion"]) + "\n")
    heard = embed(frames)
    assert "48 of 50 frames have a label; 2 frames without a row (ignored): 31, 32" in heard.text
    assert "1 rows without a frame: 777" in heard.text
    phases = pd.read_csv(made(frames).parent.parent / "labels" / "001-001.csv")["phase"].tolist()
    assert [slot for slot, phase in enumerate(phases) if phase == "uncertain"] == [15]  # frame 31


@pytest.mark.parametrize("content", ["cut", "png", "empty"])
def test_row_6_a_broken_frame_loses_its_slot_alone_and_strict_stops_at_it(frames: Path, content: str) -> None:
    path = frames / "001-001_31.jpg"
    if content == "png":
        Image.open(path).save(frames / "x.png")
        (frames / "x.png").replace(path)
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 if content == "cut" else 0])
    for _ in range(2):  # it stops there again, whatever was kept
        with pytest.raises(DataFault, match=r"001-001: strict: 001-001_31\.jpg"):
            embed(frames, frames={"strict": True})
    heard = embed(frames)
    assert np.flatnonzero(~read_embeddings(made(frames)).is_valid).tolist() == [15]
    assert "1 slots without a frame, 1 of them broken: 001-001_31.jpg" in heard.text


def test_row_13_finished_embeddings_of_another_encoder_are_refused(frames: Path) -> None:
    embed(frames)
    whole = made(frames).read_bytes()
    embed(frames)
    assert made(frames).read_bytes() == whole
    with pytest.raises(DataFault, match=r"001-001\.safetensors: other embeddings than this encoder gives: encoder"):
        embed(frames, encoder={"name": "vision_transformer", "variant": "tiny", "size": 32})


def test_row_4_one_frame_is_a_video_of_one_slot(frames: Path) -> None:
    for path in frames.iterdir():
        if path.name != "001-001_7.jpg":
            path.unlink()
    heard = embed(frames)
    assert len(read_embeddings(made(frames)).times_s) == 1
    assert "no field of view found, the whole picture is taken" in heard.text


def test_a_folder_without_a_frame_is_refused_by_name(frames: Path) -> None:
    for path in frames.iterdir():
        path.unlink()
    with pytest.raises(DataFault, match="001-001: no frame in it"):
        embed(frames)
