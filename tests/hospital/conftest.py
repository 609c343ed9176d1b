"""Tools of others, run as a hospital runs them. A missing one fails the test: `make test-hospital` installs all."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medpipe.geometry.nifti import read_mask
from medpipe.geometry.orientation import to_canonical
from medpipe.geometry.volume import LabelMap, MaskStack


def run_tool(*command: object, seconds: float = 300) -> str:
    """What a program printed; fails where it is missing or ends with an error."""
    words = [str(word) for word in command]
    assert shutil.which(words[0]), f"{words[0]} is missing: run make test-hospital"
    done = subprocess.run(words, capture_output=True, text=True, timeout=seconds, errors="replace")
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="session")
def tool() -> Callable[..., str]:
    return run_tool


@pytest.fixture(scope="session")
def errors_of() -> Callable[[Path], list[str]]:
    """What dciodvfy calls an error in a DICOM object."""

    def check(path: Path) -> list[str]:
        assert shutil.which("dciodvfy"), "dciodvfy is missing: run make test-hospital"
        done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, timeout=300, errors="replace")
        return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]

    return check


@pytest.fixture(scope="session")
def by_plastimatch() -> Callable[[Path, Path, MaskStack, Path], dict[str, np.ndarray]]:
    """Structure -> canonical mask as plastimatch fills an RTSTRUCT's contours on the CT; it writes no empty ones."""

    def read(rtstruct: Path, ct: Path, masks: MaskStack, folder: Path) -> dict[str, np.ndarray]:
        run_tool(
            "plastimatch", "convert", "--input", rtstruct, "--referenced-ct", ct, "--output-prefix", folder,
            "--prefix-format", "nii.gz",
        )  # fmt: skip
        found = {}
        for structure in masks.structures:
            path = folder / f"{structure}.nii.gz"
            if path.exists():
                mask = read_mask(path)
                found[structure] = to_canonical(LabelMap(mask.array, mask.affine)).array > 0
        return found

    return read
