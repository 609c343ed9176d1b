"""What `medpipe submit --dry-run` prints for every workflow with every overlay of a cluster, against recorded files.

To record anew after a change that is meant: MEDPIPE_RECORD_SCRIPTS=1 make test-cluster
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from medpipe.config.share import share_folder
from medpipe.engine.cluster.jobs import plan_jobs
from medpipe.engine.cluster.resources import check_cluster
from medpipe.engine.cluster.submitting import files_of, place_of
from medpipe.engine.workflow import load_workflow

pytestmark = pytest.mark.cluster

RECORDED = Path(__file__).parent / "scripts"
WORKFLOWS = sorted(path.stem for path in share_folder("workflows").glob("*.yaml"))
OVERLAYS = [
    path.stem
    for path in sorted(share_folder("configs").glob("*.yaml"))
    if "\ncluster:" in path.read_text(encoding="utf-8")
]


def rendered(workflow: str, overlay: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The files, as they would be rendered in the folder /project on any machine."""
    for name in ("MEDPIPE_DATA", "MEDPIPE_VENV", "MEDPIPE_IMAGE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.executable", "/project/.venv/bin/python")
    loaded = load_workflow(workflow, [overlay])
    place = place_of(loaded, Path("runs"), "default")
    check_cluster(loaded, place.cluster)
    base, here = str(loaded.base), str(place.cwd)
    return [
        (file, text.replace(base, "/project/workflows").replace(here, "/project"))
        for file, text in files_of(place, plan_jobs(place))
    ]


def test_every_cluster_overlay_is_tried() -> None:
    assert OVERLAYS == ["kubernetes", "slurm", "slurm_apptainer", "torchrun"]


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_scripts_are_the_recorded_ones(workflow: str, overlay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [(file, text) for file, text in rendered(workflow, overlay, monkeypatch) if file != "00-workflow.yaml"]
    text = "".join(f"# ======== {file}\n{text}" for file, text in files)
    recorded = RECORDED / f"{workflow}.{overlay}.txt"
    if os.environ.get("MEDPIPE_RECORD_SCRIPTS"):
        recorded.parent.mkdir(exist_ok=True)
        recorded.write_text(text, encoding="utf-8")
    assert text == recorded.read_text(encoding="utf-8")


def test_no_recorded_file_is_left_over() -> None:
    names = {f"{workflow}.{overlay}.txt" for workflow in WORKFLOWS for overlay in OVERLAYS}
    assert {path.name for path in RECORDED.iterdir()} == names


@pytest.mark.parametrize("overlay", [name for name in OVERLAYS if name != "kubernetes"])
def test_scripts_are_clean_to_shellcheck(overlay: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shutil.which("shellcheck"), "shellcheck is not installed: apt-get install shellcheck"
    paths = []
    for workflow in WORKFLOWS:
        for file, text in rendered(workflow, overlay, monkeypatch):
            paths.append(tmp_path / f"{workflow}-{file}")
            paths[-1].write_text(text, encoding="utf-8")
    checked = subprocess.run(["shellcheck", *map(str, paths)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_kubernetes_documents_hold_together(workflow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [
        document for _, text in rendered(workflow, "kubernetes", monkeypatch) for document in yaml.safe_load_all(text)
    ]
    names = [(document["kind"], document["metadata"]["name"]) for document in documents]
    assert len(set(names)) == len(names)
    for document in documents:
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,51}[a-z0-9])?", document["metadata"]["name"])
        if document["kind"] != "Job":
            continue
        pod = document["spec"]["template"]["spec"]
        assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
        assert ("ConfigMap", pod["volumes"][-2]["configMap"]["name"]) in names
