"""One virtual Slurm for all tests marked `cluster`, and `medpipe` run against it. Where it is missing, they fail."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
OVERLAY = str(HERE / "virtual.yaml")
Medpipe = Callable[..., "subprocess.CompletedProcess[str]"]


def virtual_slurm_module():
    spec = importlib.util.spec_from_file_location("virtual_slurm", HERE / "virtual_slurm.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which Slurm's commands reach a cluster of two nodes."""
    with virtual_slurm_module().virtual_slurm(tmp_path_factory.mktemp("slurm")) as conf:
        yield {**os.environ, "SLURM_CONF": str(conf), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def medpipe(cluster: dict[str, str]) -> Medpipe:
    """`medpipe(folder, *arguments)` on the cluster's login node, so to speak."""

    def call(
        folder: Path, *arguments: str, timeout: float = 590, **variables: str
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "medpipe", *arguments], cwd=folder, capture_output=True, text=True,
            timeout=timeout, env=cluster | variables,
        )  # fmt: skip

    return call


@pytest.fixture(scope="session")
def wait_for_jobs(cluster: dict[str, str]) -> Callable[[Path], None]:
    """`wait_for_jobs(run_folder)`: returns once all jobs of the run have ended, one way or the other."""

    def wait(run_folder: Path, timeout: float = 900) -> None:
        ids = [job["job"] for job in json.loads((run_folder / "cluster" / "jobs.json").read_text())["jobs"]]
        words = ["srun", "-p", "cpu", "-n1", f"--dependency=afterany:{':'.join(ids)}", "true"]
        subprocess.run(words, env=cluster, check=True, timeout=timeout, capture_output=True)

    return wait
