from pathlib import Path

import pytest

from medpipe.datasets.tables import read_table
from medpipe.geometry.faults import DataFault


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_a_table_is_read_as_people_write_it(tmp_path: Path, delimiter: str, line_end: str) -> None:
    rows = [["case_id", " image "], ["Fall ü", " a b.nii "], ["", ""], ['"x"', "y"]]
    path = tmp_path / "t.csv"
    path.write_bytes(line_end.join(delimiter.join(row) for row in rows).encode("utf-8-sig"))
    assert read_table(path, ("case_id", "image")) == [
        {"case_id": "Fall ü", "image": "a b.nii"},
        {"case_id": "x", "image": "y"},
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"case_id,image\na,\n", "row 1: no image"),
        (b"case_id,image\na\n", "row 1: no image"),
        (b"", "no column case_id, image; it has none"),
        (b"case_id,image\n\xe4,b\n", "not UTF-8 \\(byte 14\\)"),
    ],
)
def test_a_faulty_table_is_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataFault, match=f"t.csv: {message}"):
        read_table(tmp_path / "t.csv", ("case_id", "image"))
    with pytest.raises(DataFault, match="no such file"):
        read_table(tmp_path / "none.csv", ())
