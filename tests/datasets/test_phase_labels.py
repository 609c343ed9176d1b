"""Label tables and their traps: numbers, spellings, gaps, doubled rows, rows without a frame."""

from pathlib import Path

import pytest

from medpipe.datasets.phase_labels import frame_number, read_phase_labels, write_phase_labels
from medpipe.geometry.faults import DataFault
from medpipe.metrics.phases import CAECUM, IGNORED, ILEUM, INSERTION, OUTSIDE


def table(tmp_path: Path, *rows: str) -> Path:
    path = tmp_path / "001-012.csv"
    path.write_text("\n".join(["frame_filename,GT", *rows]) + "\n")
    return path


@pytest.mark.parametrize(
    ("name", "number"),
    [("001-012_9.jpg", 9), ("001-012_10.0.jpg", 10), ("frame_000123.png", 123), ("7.jpeg", 7), ("x/001-001_5.jpg", 5)],
)
def test_the_number_of_a_frame(name: str, number: int) -> None:
    assert frame_number(name) == number
    assert frame_number("poster.jpg") is None


def test_frames_are_joined_by_number_whatever_their_order_and_ending(tmp_path: Path) -> None:
    path = table(tmp_path, "001-012_100.jpg,ileum", "001-012_9.jpg,outside", "001-012_10.0.jpg,insertion")
    labels = read_phase_labels(path)
    assert labels.at([9, 10, 100]).tolist() == [OUTSIDE, INSERTION, ILEUM]


def test_a_gap_is_ignored_and_a_row_without_a_frame_is_listed(tmp_path: Path) -> None:
    labels = read_phase_labels(table(tmp_path, "v_1.jpg,outside", "v_2.jpg,n.a.", "v_9.jpg,ceacum"))
    assert labels.at([1, 2, 3]).tolist() == [OUTSIDE, IGNORED, IGNORED]
    coverage = labels.coverage([1, 2, 3])
    assert coverage.without_label == (3,)
    assert coverage.without_frame == (9,)
    assert "2 of 3 frames have a label" in coverage.text()
    assert "1 rows without a frame: 9" in coverage.text()


@pytest.mark.parametrize("spelling", ["ceacum", "cecum", "caecum", "Caecum "])
def test_spellings_of_the_caecum(tmp_path: Path, spelling: str) -> None:
    assert read_phase_labels(table(tmp_path, f"v_1.jpg,{spelling}")).at([1]).tolist() == [CAECUM]


def test_an_unknown_phase_is_refused_with_file_row_and_list(tmp_path: Path) -> None:
    with pytest.raises(DataFault, match=r"001-012\.csv: row 2: unknown phase 'stomach'; expected one of outside"):
        read_phase_labels(table(tmp_path, "v_1.jpg,outside", "v_2.jpg,stomach"))


def test_a_frame_twice_is_refused_with_both_rows(tmp_path: Path) -> None:
    with pytest.raises(DataFault, match=r"row 3: frame 1 \(v_1\.0\.jpg\) stands already in row 1"):
        read_phase_labels(table(tmp_path, "v_1.jpg,outside", "v_2.jpg,outside", "v_1.0.jpg,insertion"))


def test_a_written_table_reads_back(tmp_path: Path) -> None:
    write_phase_labels(tmp_path / "v.csv", ["v_1.jpg", "v_2.jpg"], [CAECUM, IGNORED])
    assert read_phase_labels(tmp_path / "v.csv").at([1, 2]).tolist() == [CAECUM, IGNORED]
