"""The whole chain on real CT: pretraining, organs, a target from RTSTRUCT, prediction, scores, report."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.long

WORKFLOW = Path(__file__).parent / "real_data" / "workflow.yaml"
PATIENTS = ("STS_002", "STS_003", "STS_008", "STS_025")


@pytest.fixture(scope="module")
def root(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real data as a user would lay them out, by links: nothing is copied."""
    root = tmp_path_factory.mktemp("data")
    for name in ("unlabelled", "sarcoma", "organs"):
        (root / name).mkdir()
    organs = real_data / "ct_organs"
    (root / "unlabelled" / "organs.nii.gz").symlink_to(organs / "example_ct_sm.nii.gz")
    (root / "organs" / "cases.csv").write_text(
        f"case_id,image,labels\nexample,{organs / 'example_ct_sm.nii.gz'},{organs / 'example_seg.nii.gz'}\n"
    )
    for patient in PATIENTS:
        dicom = real_data / "ct_sarcoma" / "dicom" / patient
        (root / "sarcoma" / patient).symlink_to(dicom)
        (root / "unlabelled" / patient).symlink_to(dicom / "CT" / "image")
    return root


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the finished run."""
    folder = tmp_path_factory.mktemp("work")
    environment = os.environ | {"MEDPIPE_TEST_ROOT": str(root), "MEDPIPE_TEST_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", "medpipe.cli", "run", str(WORKFLOW)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "runs" / "real_data" / "default"


def scores(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_one_case_of_organs_is_learnt_by_heart(run: Path) -> None:
    dice = [float(row["dice"]) for row in scores(run / "evaluate_organs" / "scores.csv")]
    assert len(dice) == 5
    assert np.mean(dice) >= 0.9


def test_the_tumour_of_the_fourth_patient_is_predicted_scored_and_written(run: Path) -> None:
    (row,) = scores(run / "evaluate" / "scores.csv")
    assert row["patient_id"] == "STS_008"
    assert row["structure"] == "gtv_mass"
    assert list((run / "predict").rglob("STS_008*.dcm"))


def test_the_report_is_there_and_names_the_case(run: Path) -> None:
    text = (run / "report" / "report.html").read_text()
    assert "STS_008" in text
    assert "gtv_mass" in text or "gtv mass" in text
