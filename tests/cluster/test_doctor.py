"""`medpipe doctor --cluster` in an allocation of two nodes, and where munge is gone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.cluster

COMMAND = [sys.executable, "-m", "medpipe", "doctor", "--cluster", "--json"]
LOOPBACK = {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}


def by_check(text: str) -> dict[str, dict[str, str]]:
    return {finding["check"]: finding for finding in json.loads(text)["findings"]}


def test_two_nodes_reduce_and_see_each_others_files(tmp_path: Path, cluster: dict[str, str]) -> None:
    words = ["srun", "-p", "cpu", "--nodes=2", "--ntasks-per-node=1", *COMMAND]
    done = subprocess.run(words, cwd=tmp_path, env=cluster | LOOPBACK, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    found = by_check(done.stdout)
    assert found["all-reduce: gloo"]["level"] in ("ok", "warning")
    assert "2 processes on 2 nodes" in found["all-reduce: gloo"]["text"]
    assert found["shared folder: rename"]["level"] == "ok"
    assert found["shared folder: visible"]["level"] == "ok"
    assert found["clocks"]["level"] == "ok"
    assert found["slurmctld"]["level"] == "ok"
    assert "allocation" not in found
    assert not list((tmp_path / "runs").glob(".doctor*"))


def test_folders_that_the_nodes_do_not_share_are_a_fault(tmp_path: Path, cluster: dict[str, str]) -> None:
    """Each node gets a `runs` of its own."""
    script = f'mkdir -p "$SLURMD_NODENAME" && exec {" ".join(COMMAND)} --runs "$PWD/$SLURMD_NODENAME"'
    words = ["srun", "-p", "cpu", "--nodes=2", "--ntasks-per-node=1", "bash", "-c", script]
    environment = cluster | LOOPBACK
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode != 0
    found = by_check(done.stdout)["shared folder: visible"]
    assert found["level"] == "fault"
    assert found["node"] == "n2"
    assert "not the same folder" in found["text"]


def test_a_dead_munge_is_named(tmp_path: Path, cluster: dict[str, str]) -> None:
    conf = tmp_path / "slurm.conf"
    text = Path(cluster["SLURM_CONF"]).read_text()
    conf.write_text(text.replace("/munge.sock", "/nobody-listens-here.sock"))
    done = subprocess.run(
        COMMAND, cwd=tmp_path, env={**os.environ, "SLURM_CONF": str(conf)}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    found = by_check(done.stdout)
    assert found["munge"]["level"] == "fault"
    assert "munged" in found["munge"]["remedy"]
