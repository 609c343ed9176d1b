"""The published tables as they are, and rows that nobody should accept."""

from pathlib import Path

import pytest

from medpipe.datasets.real_colon import notes_on_tables, read_lesion_table, read_video_table
from medpipe.geometry.faults import DataFault


def test_the_published_tables_are_read_and_their_traps_told(real_data: Path) -> None:
    videos = read_video_table(real_data / "real_colon" / "video_info.csv")
    lesions = read_lesion_table(real_data / "real_colon" / "lesion_info.csv")
    assert len(videos) == 60
    assert sum(info.num_frames for info in videos.values()) == 2_757_723
    assert {info.study for info in videos.values()} == {"001", "002", "003", "004"}
    notes = notes_on_tables(videos, lesions)
    assert "video_info.csv counts 131 lesions, lesion_info.csv lists 132" in notes
    assert any("'trasnverse', read as transverse" in note for note in notes)
    assert any("'cecum', read as caecum" in note for note in notes)
    assert any("1 videos at 60 fps" in note for note in notes)
    assert sum(note.startswith("video 0") for note in notes) >= 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1-1,25,100,0", "video '1-1'; expected SSS-VVV"),
        ("001-001,fast,100,0", "row 1, video 001-001: could not convert"),
        ("001-001,0,100,0", "100 frames at 0.0 fps"),
        ("001-001,25,100,0\n001-001,25,100,0", "row 2: video 001-001 stands twice"),
    ],
)
def test_a_wrong_row_is_refused_by_number(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "video_info.csv"
    path.write_text(f"unique_video_name,fps,num_frames,num_lesions\n{row}\n")
    with pytest.raises(DataFault, match=message):
        read_video_table(path)


def test_an_unknown_site_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lesion_info.csv"
    path.write_text("unique_object_id,unique_video_name,site\n001-001_1,001-001,stomach\n")
    with pytest.raises(DataFault, match="lesion 001-001_1: unknown site 'stomach'"):
        read_lesion_table(path)
