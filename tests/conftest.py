"""Fixtures of every test: where the real data lie, and quiet, repeatable libraries."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line has it
os.environ.setdefault("MPLBACKEND", "Agg")

CHECKOUT = Path(__file__).resolve().parent.parent


def find_real_data() -> Path | None:
    named = os.environ.get("MEDPIPE_REAL_DATA")
    candidates = [Path(named)] if named else [CHECKOUT.parent / "shared" / "data"]
    return next((folder for folder in candidates if folder.is_dir()), None)


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = find_real_data()
    if folder is None:
        pytest.skip("no real data: set MEDPIPE_REAL_DATA or lay ../shared/data beside the checkout")
    return folder
