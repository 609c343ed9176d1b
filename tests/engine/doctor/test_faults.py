"""`medpipe doctor` names a fault that is really there: a full disk, a wrong package, no munge."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from medpipe.engine.doctor.finding import Finding
from medpipe.engine.doctor.machine import disk, shared_memory
from medpipe.engine.doctor.scheduler import scheduler_findings
from medpipe.engine.doctor.versions import version_findings

MIB = 2**20


def package(folder: Path, name: str, version: str) -> None:
    """Metadata of an installed package, as pip leaves it."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def faults(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings if finding.level == "fault"}


@pytest.mark.parametrize(
    ("name", "version", "why"),
    [
        ("torch", "2.9.1+cu128", "four times slower"),
        ("pytorch-lightning", "2.6.2", "malware"),
        ("lightning", "2.6.3", "malware"),
        ("numpy", "1.26.4", "medpipe needs numpy>=2"),
    ],
)
def test_a_bad_version_is_named_with_the_way_out(
    name: str, version: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert name not in faults(version_findings())
    package(tmp_path, name, version)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = faults(version_findings())[name]
    assert version in found.text
    assert why in found.text
    assert found.remedy.startswith("pip ")


def test_the_command_ends_with_1_on_a_wrong_torch_and_says_so_in_json(tmp_path: Path) -> None:
    package(tmp_path, "torch", "2.9.0")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "medpipe.cli", "doctor", "--json"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    answer = json.loads(done.stdout)
    assert answer["faults"] >= 1
    assert "torch" in [finding["check"] for finding in answer["findings"] if finding["level"] == "fault"]


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 4 MiB in a file, mounted; root on Linux only, as in a container of CI."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("this container may not mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_found_by_writing(small_disk: Path) -> None:
    (before,) = disk("runs", small_disk / "runs" / "not" / "yet")
    assert before.level == "fault"  # 4 MiB in all
    assert "0.0 GiB free" in before.text
    (small_disk / "filling").write_bytes(b"x" * (4 * MIB - 65536))
    (found,) = disk("runs", small_disk)
    assert found.level == "fault"
    assert "full, or its quota is used up" in found.text
    assert "--runs" in found.remedy
    assert not list(small_disk.glob(".medpipe*")), "nothing is left behind"


def test_a_small_shared_memory_is_a_fault_with_the_option_that_helps(small_disk: Path) -> None:
    (found,) = shared_memory(small_disk)
    assert found.level == "fault"
    assert "--shm-size" in found.remedy


def test_a_folder_that_cannot_be_written_to_is_a_fault() -> None:
    (found,) = disk("cache", Path("/proc/medpipe"))
    assert found.level == "fault"
    assert "cannot be written to" in found.text


def test_missing_munge_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm's commands are there, munge is not."""
    for command in ("sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo", "sacct"):
        program = tmp_path / command
        program.write_text("#!/bin/sh\necho slurm-wlm 22.05.8\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/nowhere")
    found = faults(list(scheduler_findings()))
    assert "not installed" in found["munge"].text
    assert found["munge"].remedy


def test_a_machine_without_slurm_says_which_commands_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    found = faults(list(scheduler_findings()))
    assert "sbatch" in found["Slurm's commands"].text
