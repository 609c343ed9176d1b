"""`medpipe evaluate` on folders as tools leave them: every form, every grid, every fault."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medpipe.geometry.nifti import write_label_map, write_mask, write_volume
from medpipe.geometry.volume import LabelMap, Volume
from medpipe.metrics.scoring import score_masks

SPACING_MM = (3.0, 1.5, 1.0)
AFFINE = np.diag([*SPACING_MM, 1.0])
NAMES = {"bladder": 1, "rectum": 2, "uterus": 3}


def labels_of(seed: int, moved: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    array = np.zeros((14, 30, 34), dtype=np.uint8)
    for value, (h, w) in enumerate(((4, 4), (14, 18), (20, 3)), start=1):
        h, w = h + int(rng.integers(0, 3)), w + int(rng.integers(0, 3)) + moved
        array[3 : 10 - value, h : h + 7, w : w + 9] = value
    return array


def write_case(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_label_map(path, LabelMap(array, affine))


def write_masks(folder: Path, array: np.ndarray, names: tuple[str, ...] = tuple(NAMES)) -> None:
    folder.mkdir(parents=True)
    for name in names:
        write_mask(folder / f"{name}.nii.gz", array == NAMES[name], AFFINE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four cases of label maps with nnU-Net's dataset.json beside the references."""
    for seed in range(4):
        write_case(tmp_path / "ref" / f"c{seed}.nii.gz", labels_of(seed))
        write_case(tmp_path / "pred" / f"c{seed}.nii.gz", labels_of(seed, moved=1))
    (tmp_path / "ref" / "dataset.json").write_text(json.dumps({"labels": {"background": 0, **NAMES}}))
    return tmp_path


def evaluate(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "medpipe.cli", "evaluate", "pred", "ref", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200)


def scores(folder: Path, output: str = "evaluation") -> pd.DataFrame:
    return pd.read_csv(folder / output / "scores.csv").set_index(["case_id", "structure"])


def test_two_folders_end_in_scores_summary_and_report(folder: Path) -> None:
    done = evaluate(folder, "--tolerance-mm", "1", "--tolerance-mm", "2.5", "--jobs", "2")
    assert done.returncode == 0, done.stderr
    table = scores(folder)
    assert len(table) == 12
    for seed in range(4):
        for name, value in NAMES.items():
            expected = score_masks(
                labels_of(seed) == value, labels_of(seed, 1) == value, spacing_mm=SPACING_MM, tolerances_mm=[1, 2.5]
            ).row()
            found = table.loc[(f"c{seed}", name)]
            assert found["status"] == expected.pop("status")
            assert {key: found[key] for key in expected} == pytest.approx(expected, rel=1e-12)
    assert "bladder" in done.stdout
    assert "each case is taken as a patient of its own" in done.stdout
    assert "NSD at 2.5 mm" in (folder / "evaluation" / "report.html").read_text()
    assert json.loads((folder / "evaluation" / "summary.json").read_text())["definition"] == "medpipe-1"
    again = evaluate(folder)
    assert again.returncode == 2
    assert "--force" in again.stderr
    one = evaluate(folder, "--tolerance-mm", "1", "--tolerance-mm", "2.5", "--jobs", "1", "--output", "one")
    assert one.returncode == 0
    assert (folder / "one" / "scores.csv").read_bytes() == (folder / "evaluation" / "scores.csv").read_bytes()


def test_json_is_one_document_alone(folder: Path) -> None:
    (folder / "pred" / "c1.nii.gz").unlink()
    done = evaluate(folder, "--json", "--structures", "bladder,uterus")
    document = json.loads(done.stdout)
    assert {row["structure"] for row in document["scores"]} == {"bladder", "uterus"}
    assert any(row["missed"] == 1 for row in document["scores"])


def test_folders_of_masks_and_label_maps_mix(folder: Path) -> None:
    whole = evaluate(folder, "--output", "whole")
    assert whole.returncode == 0, whole.stderr
    for seed in range(4):
        (folder / "pred" / f"c{seed}.nii.gz").unlink()
        write_masks(folder / "pred" / f"c{seed}" / "segmentations", labels_of(seed, moved=1))
    assert evaluate(folder, "--output", "mixed").returncode == 0
    pd.testing.assert_frame_equal(scores(folder, "mixed"), scores(folder, "whole"))


def test_another_grid_is_brought_to_the_references_and_said_or_refused(folder: Path) -> None:
    flipped = AFFINE.copy()
    flipped[2, 2], flipped[2, 3] = -SPACING_MM[2], SPACING_MM[2] * 33
    write_case(folder / "pred" / "c0.nii.gz", labels_of(0, moved=1)[:, :, ::-1], flipped)
    done = evaluate(folder)
    assert done.returncode == 0, done.stderr
    assert "1 predictions were brought to their reference's grid (nearest): c0" in done.stdout
    table = scores(folder)
    assert list(table.loc["c0", "resampled"]) == [True] * 3
    expected = score_masks(labels_of(0) == 1, labels_of(0, 1) == 1, spacing_mm=SPACING_MM, tolerances_mm=[2])
    assert table.loc[("c0", "bladder"), "hd95_mm"] == pytest.approx(expected.hd95_mm)
    refused = evaluate(folder, "--no-resample", "--output", "other")
    assert refused.returncode == 3
    assert "c0.nii.gz" in refused.stderr
    assert "degrees" in refused.stderr
    assert not (folder / "other").exists()


def test_what_lies_beyond_the_references_grid_is_counted(folder: Path) -> None:
    cropped, far = AFFINE.copy(), AFFINE.copy()
    cropped[0, 3], far[1, 3] = 4 * SPACING_MM[0], 1000.0
    write_case(folder / "ref" / "c0.nii.gz", labels_of(0)[4:], cropped)
    write_case(folder / "pred" / "c1.nii.gz", labels_of(1, moved=1), far)
    done = evaluate(folder)
    assert done.returncode == 0, done.stderr
    whole, cut, moved = (int(np.count_nonzero(array)) for array in
                         (labels_of(0), labels_of(0)[:4], labels_of(1)))  # fmt: skip
    assert f"c0.nii.gz: {cut} of {whole} labelled voxels lie beyond the reference's grid" in done.stdout
    assert f"c1.nii.gz: {moved} of {moved} labelled voxels lie beyond the reference's grid" in done.stdout
    assert set(scores(folder).loc["c1", "status"]) == {"missed"}


def test_cases_on_one_side_only_are_counted_or_refused(folder: Path) -> None:
    (folder / "pred" / "c2.nii.gz").rename(folder / "pred" / "x9.nii.gz")
    done = evaluate(folder)
    assert "1 cases have no prediction; all their structures count as missed: c2" in done.stdout
    assert "1 predictions have no reference and are not scored: x9" in done.stdout
    assert list(scores(folder).loc["c2", "status"]) == ["missed"] * 3
    refused = evaluate(folder, "--missing-cases", "refuse", "--output", "other")
    assert refused.returncode == 3
    assert "no prediction of case c2" in refused.stderr


def test_structures_on_one_side_only_are_missed_or_counted(folder: Path) -> None:
    for seed in range(4):
        for side in ("pred", "ref"):
            (folder / side / f"c{seed}.nii.gz").unlink()
        write_masks(folder / "ref" / f"c{seed}", labels_of(seed), ("bladder", "rectum"))
        write_masks(folder / "pred" / f"c{seed}", labels_of(seed), ("bladder", "uterus"))
    done = evaluate(folder)
    assert done.returncode == 0, done.stderr
    table = scores(folder)
    assert set(table.xs("rectum", level="structure")["status"]) == {"missed"}
    assert "uterus" not in table.index.get_level_values("structure")
    assert "4 predicted structures are not in their reference, not scored: uterus of c0" in done.stdout


def test_patients_come_from_the_table(folder: Path) -> None:
    table = folder / "ref" / "patients.csv"
    table.write_text("case_id,patient_id\r\n" + "".join(f"c{i},p{i // 2}\r\n" for i in range(4)))
    assert evaluate(folder).returncode == 0
    assert list(scores(folder)["patient_id"].unique()) == ["p0", "p1"]
    table.write_text(table.read_text() + "c0,p7\r\n")
    done = evaluate(folder, "--output", "other")
    assert done.returncode == 3
    assert "case c0 has two patients, p0 and p7" in done.stderr


def damage_float(path: Path) -> None:
    write_volume(path, Volume(labels_of(1).astype(np.float32) * 0.7, AFFINE))


def damage_nan(path: Path) -> None:
    write_volume(path, Volume(np.where(labels_of(1) > 0, np.nan, 0).astype(np.float32), AFFINE))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_float, "labels are integers"),
        (damage_nan, "NaN"),
        (lambda path: path.write_bytes(b""), "0 bytes"),
        (lambda path: path.write_bytes(path.read_bytes()[:120]), "truncated or damaged"),
    ],
)
def test_every_bad_file_is_named_and_nothing_is_left(folder: Path, damage: object, message: str) -> None:
    for name in ("c1", "c3"):
        damage(folder / "pred" / f"{name}.nii.gz")  # type: ignore[operator]
    done = evaluate(folder)
    assert done.returncode == 3
    assert done.stderr.count(message) == 2
    assert "c1.nii.gz" in done.stderr
    assert "c3.nii.gz" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "evaluation").exists()


def test_what_cannot_be_compared_is_refused(folder: Path) -> None:
    done = evaluate(folder, "--structures", "liver")
    assert done.returncode == 3
    assert "no structure liver; the references hold bladder, rectum, uterus" in done.stderr
    (folder / "pred").rename(folder / "full")
    (folder / "pred").mkdir()
    done = evaluate(folder)
    assert done.returncode == 3
    assert "holds no segmentation" in done.stderr


def test_label_maps_without_names_are_scored_by_value(folder: Path) -> None:
    (folder / "ref" / "dataset.json").unlink()
    changed = labels_of(0, moved=1)
    changed[changed == 3] = 9
    write_case(folder / "pred" / "c0.nii.gz", changed)
    done = evaluate(folder)
    assert done.returncode == 0, done.stderr
    statuses = scores(folder).loc["c0", "status"].to_dict()
    assert statuses == {"label_1": "scored", "label_2": "scored", "label_3": "missed", "label_9": "false"}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--tolerance-mm", "nan"), "finite mm, 0 or more, got [nan]"),
        (("--manifest", "nothere"), "manifest 'nothere' is neither a path nor one of"),
        (("--output", "ref/dataset.json"), "is a file"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_scored(
    folder: Path, option: tuple[str, str], message: str
) -> None:
    done = evaluate(folder, *option)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not (folder / "evaluation").exists()


def test_masks_with_endings_in_capitals_are_scored(folder: Path) -> None:
    (folder / "pred" / "c1.nii.gz").unlink()
    write_masks(folder / "pred" / "c1", labels_of(1, moved=1))
    for path in list((folder / "pred" / "c1").iterdir()):
        path.rename(path.with_name(path.name.replace(".nii.gz", ".NII.GZ")))
    done = evaluate(folder)
    assert done.returncode == 0, done.stderr
    assert set(scores(folder).loc["c1", "status"]) == {"scored"}


def test_a_references_masks_on_two_grids_are_refused(folder: Path) -> None:
    (folder / "ref" / "c1.nii.gz").unlink()
    write_masks(folder / "ref" / "c1", labels_of(1))
    moved = AFFINE.copy()
    moved[2, 3] = 1.0
    write_mask(folder / "ref" / "c1" / "uterus.nii.gz", labels_of(1) == 3, moved)
    done = evaluate(folder)
    assert done.returncode == 3
    assert "uterus.nii.gz: does not lie on the grid of the case's first mask: origin is off by 1.00 mm" in done.stderr
    assert "--resample" not in done.stderr


@pytest.mark.parametrize("side", ["pred", "ref"])
def test_values_without_names_are_not_compared_with_named_structures(folder: Path, side: str) -> None:
    (folder / "ref" / "dataset.json").unlink()
    named = {"pred": "ref", "ref": "pred"}[side]
    (folder / named / "c2.nii.gz").unlink()
    write_masks(folder / named / "c2", labels_of(2))
    done = evaluate(folder)
    assert done.returncode == 3
    assert f"{side}/c2.nii.gz: nothing says which value is which structure" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_structure_set_that_cannot_be_read_is_refused(folder: Path) -> None:
    (folder / "ref" / "c9.dcm").write_bytes(b"")
    done = evaluate(folder)
    assert done.returncode == 3
    assert "c9.dcm: not a whole DICOM file" in done.stderr


def test_an_rtstruct_is_drawn_on_the_references_grid(tmp_path: Path) -> None:
    phantom = [sys.executable, "-m", "medpipe.cli", "phantom", "pelvis", "--cases", "2", "--form", "dicom"]
    options = ["--option", "spacing_mm=[6,4,4]"]
    assert subprocess.run([*phantom, "--output", "ref", *options], cwd=tmp_path, check=False).returncode == 0
    (tmp_path / "pred").symlink_to(tmp_path / "ref")
    done = evaluate(tmp_path, "--manifest", "gynecologic_brachytherapy")
    assert done.returncode == 0, done.stderr
    table = scores(tmp_path)
    assert (table.loc[table["status"] == "scored", "dice"] == 1.0).all()
    assert "bladder" in table.index.get_level_values("structure")
