"""Workflows run as a user runs them: one process a command, in a folder of their own, with one cache for all."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Medpipe = Callable[..., "subprocess.CompletedProcess[str]"]
COMMAND = [sys.executable, "-m", "medpipe.cli"]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms and prepared cases, made once for all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def medpipe(cache: Path) -> Medpipe:
    """`medpipe(folder, *arguments)`: run the command line there, with the shared cache."""

    def call(folder: Path, *arguments: str, timeout: float = 590) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*COMMAND, *arguments], cwd=folder, capture_output=True, text=True, timeout=timeout, env=dict(os.environ)
        )

    return call


# The whole ablation is 36 networks: two shares of the labelled patients show as much.
OVERRIDES = {
    "gynecologic_brachytherapy_ablation": ["defaults.segmentation_training.labelled_share=[0.25, 1.0]"],
    "gynecologic_brachytherapy": ["predict.prediction.overlap=0.5"],  # as `medpipe evaluate` predicts
    "multi_organ_segmentation": ["organs.folds.run=[0, 1]"],  # predicted by both folds together
}
Finished = tuple[str, Path, list[str], str]


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory, medpipe: Medpipe, cache: Path) -> Callable[[str], Finished]:
    """`smoke_run(workflow)`: its finished smoke run, made once: name, folder it ran in, arguments, what was printed."""
    runs: dict[str, Finished] = {}

    def finished(workflow: str) -> Finished:
        if workflow not in runs:
            folder = tmp_path_factory.mktemp(workflow)
            arguments = ["run", workflow, "-o", "smoke", f"data.cache={cache}", *OVERRIDES.get(workflow, [])]
            done = medpipe(folder, *arguments)
            assert done.returncode == 0, done.stdout + done.stderr
            runs[workflow] = workflow, folder, arguments, done.stdout
        return runs[workflow]

    return finished
