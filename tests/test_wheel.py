"""The wheel carries what a name on the command line stands for, and works from any folder."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout and unpacked as pip would lay it into site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(CHECKOUT)]
    done = subprocess.run(build, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_holds_every_shared_file(unpacked: Path) -> None:
    for kind in ("workflows", "configs", "data"):
        here = {path.relative_to(CHECKOUT / kind) for path in (CHECKOUT / kind).rglob("*") if path.is_file()}
        there = {
            path.relative_to(unpacked / "medpipe" / "share" / kind)
            for path in (unpacked / "medpipe" / "share" / kind).rglob("*")
            if path.is_file()
        }
        assert here == there


def test_a_workflow_is_found_by_name_from_any_folder(unpacked: Path, tmp_path: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(unpacked)!r}); from medpipe.cli import main; main()"
    command = [sys.executable, "-c", code, "check", "--no-data", "gynecologic_brachytherapy", "-o", "demo"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert str(unpacked) in done.stdout


def test_the_wheel_holds_the_report_s_template(unpacked: Path) -> None:
    assert {path.name for path in (unpacked / "medpipe" / "reporting").iterdir()} >= {
        "report.html.j2",
        "report.css",
        "report.js",
    }
