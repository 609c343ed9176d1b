"""Rules of the design that are worth a test."""

from pathlib import Path

import pytest

from medpipe.config.share import share_folder
from medpipe.datasets.manifest import load_manifest
from medpipe.engine.workflow import load_workflow

CHECKOUT = Path(__file__).resolve().parent.parent
MODULES = sorted(CHECKOUT.glob("medpipe/**/*.py"))
WORKFLOWS = sorted(path.stem for path in share_folder("workflows").glob("*.yaml"))
OVERLAYS = sorted(path.stem for path in share_folder("configs").glob("*.yaml"))
MANIFESTS = sorted(path.stem for path in (share_folder("data") / "manifests").glob("*.yaml"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_no_module_passes_400_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


def test_every_init_is_empty() -> None:
    assert not [path for path in MODULES if path.name == "__init__.py" and path.read_text()]


@pytest.mark.parametrize("workflow", WORKFLOWS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_workflow_reads_under_every_overlay_and_back(workflow: str, overlay: str, tmp_path: Path) -> None:
    loaded = load_workflow(workflow, [overlay])
    again = tmp_path / "again.yaml"
    again.write_text(loaded.text())
    assert load_workflow(str(again)).values == loaded.values


@pytest.mark.parametrize("name", MANIFESTS)
def test_every_manifest_reads(name: str) -> None:
    assert load_manifest(name).manifest == name


@pytest.mark.parametrize(
    "path", sorted([*share_folder("workflows").glob("*.yaml"), *share_folder("configs").glob("*")])
)
def test_every_shared_file_says_what_it_is_for(path: Path) -> None:
    assert path.read_text().startswith("# ")
