from pathlib import Path

import pytest

from medpipe.geometry.atomic import written_beside


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "result.txt"
    with written_beside(path) as partial:
        partial.write_text("half")
        assert not path.exists()
        assert partial.parent == path.parent
    assert path.read_text() == "half"

    def fails() -> None:
        with written_beside(path) as partial:
            partial.write_text("other")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        fails()
    assert path.read_text() == "half"
    assert [entry.name for entry in path.parent.iterdir()] == ["result.txt"]
