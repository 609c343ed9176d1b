"""The command line as a user meets it: every call is a process of its own."""

import json
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest

from medpipe.config.share import share_folder

WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from medpipe.cli import main; main()"
WORKFLOWS = sorted(path.stem for path in share_folder("workflows").glob("*.yaml"))


def medpipe(*arguments: str, folder: Path, code: str = WITHOUT_TORCH) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=folder, capture_output=True, text=True, timeout=300
    )


def quickest(repeats: int, *arguments: str, folder: Path) -> float:
    """Seconds of the quickest of several calls: what the command costs when nothing else is on the machine."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        assert medpipe(*arguments, folder=folder).returncode == 0
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def test_help_comes_within_half_a_second_without_torch(tmp_path: Path) -> None:
    assert quickest(5, "--help", folder=tmp_path) < 0.5


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_every_workflow_is_checked_within_a_second_and_a_half_without_torch(workflow: str, tmp_path: Path) -> None:
    assert quickest(3, "check", "--no-data", workflow, folder=tmp_path) < 1.5


def test_help_names_every_verb_and_the_exit_codes(tmp_path: Path) -> None:
    text = medpipe("--help", folder=tmp_path).stdout
    assert all(
        verb in text for verb in ("run", "show", "check", "schema", "list", "phantom", "evaluate", "compare", "dose")
    )
    assert "research use only" in text
    assert "75" in text


def test_a_misspelt_key_is_an_error_of_the_command_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("workflow: mine\nsead: 3\nstages: {}\n")
    done = medpipe("check", "--no-data", "mine.yaml", folder=tmp_path)
    assert done.returncode == 2
    assert "mine.yaml:2:1: unknown key 'sead'; did you mean 'seed'?" in done.stderr


def test_a_misspelt_value_on_the_command_line_is_named(tmp_path: Path) -> None:
    done = medpipe("run", "ct_pretraining", "pretrain.trainin.num_steps=3", folder=tmp_path)
    assert done.returncode == 2
    assert "did you mean 'training'" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_data_that_are_not_there_are_wrong_data_and_nothing_is_written(tmp_path: Path) -> None:
    done = medpipe("run", "ct_pretraining", f"data.root={tmp_path / 'nowhere'}", folder=tmp_path)
    assert done.returncode == 3
    assert "nowhere" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_show_tells_where_each_value_came_from(tmp_path: Path) -> None:
    text = medpipe("show", "ct_pretraining", "-o", "demo", "seed=7", folder=tmp_path).stdout
    assert any("seed: 7" in line and "command line" in line for line in text.splitlines())
    assert any("size: tiny" in line and "demo.yaml" in line for line in text.splitlines())


def test_the_schema_accepts_every_workflow_and_refuses_an_unknown_key(tmp_path: Path) -> None:
    import yaml

    schema = json.loads(medpipe("schema", folder=tmp_path).stdout)
    for path in share_folder("workflows").glob("*.yaml"):
        loaded = yaml.load(path.read_text(), Loader=FloatLoader)
        jsonschema.validate(loaded, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"workflow": "x", "stages": {}, "sead": 1}, schema)


def test_list_names_workflows_overlays_and_stages(tmp_path: Path) -> None:
    text = medpipe("list", folder=tmp_path).stdout
    assert all(name in text for name in (*WORKFLOWS, "demo", "smoke", "masked_pretraining", "stunet", "ct_unlabelled"))


def FloatLoader(stream: str) -> object:
    """PyYAML's safe loader, but 1e-3 is a float as medpipe's own reader has it."""
    import re

    import yaml

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
    )
    return Loader(stream)


def test_phantoms_are_written_in_the_form_that_is_asked_for(tmp_path: Path) -> None:
    done = medpipe(
        *("phantom", "pelvis", "--output", "here", "--cases", "1", "--seed", "3", "--form", "dicom"),
        *("--option", "spacing_mm=[12, 8, 8]"),
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "here").rglob("ct/*.dcm"))
    assert list((tmp_path / "here").rglob("rtstruct.dcm"))


def test_an_unknown_option_of_the_phantom_is_an_error_of_the_command(tmp_path: Path) -> None:
    done = medpipe("phantom", "pelvis", "--output", "here", "--option", "noise=3", folder=tmp_path)
    assert done.returncode == 2
    assert "noise_hu" in done.stderr
    assert not (tmp_path / "here").exists()


def test_tuning_kernels_without_a_gpu_is_a_failed_run_that_says_so(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    done = medpipe("bench", "attention", folder=tmp_path, code="from medpipe.cli import main; main()")
    assert done.returncode == 1
    assert done.stderr.startswith("medpipe bench attention: ")
    assert "Traceback" not in done.stderr
