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
