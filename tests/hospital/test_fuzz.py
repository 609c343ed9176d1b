"""A minute of benchmarks/fuzz_readers.py: no crash but the declared errors, no hang, no file outside the run."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.hospital

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "fuzz_readers.py"


def test_a_minute_of_damaged_files_finds_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--seconds", "60"], capture_output=True, text=True, timeout=300, cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert '"read_dicom_series: declared"' in done.stdout
    assert '"read_nifti: declared"' in done.stdout
    assert not list(tmp_path.iterdir())  # its own folder is gone, and nothing else is there


def test_an_error_that_is_not_declared_would_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("fuzz_readers", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)

    def careless(path: Path) -> None:
        path.read_bytes()[10_000_000]

    def stray(path: Path) -> None:
        (path.parent.parent / "stray").touch()

    monkeypatch.setattr(script, "READERS", {"json": ((careless, stray), "model.json")})
    monkeypatch.setattr(script, "seeds", lambda folder: {"json": [b"{}"]})
    found = script.fuzz(2.0, 0, None)
    assert sorted(one["what"] for one in found["findings"]) == ["files outside", "undeclared"]
