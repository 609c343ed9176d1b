"""`medpipe predict` with a small network of random weights: noisy masks, the hardest that contours can be."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom import dcmread
from typer.testing import CliRunner

from medpipe.backbones.options import StunetOptions
from medpipe.backbones.registry import build_volume_backbone
from medpipe.cli import app
from medpipe.config.errors import ConfigError
from medpipe.datasets.intensity import Intensity
from medpipe.datasets.preprocessing import Preprocessing
from medpipe.dicom.linking import roi_masks
from medpipe.dicom.rtstruct import read_rtstruct
from medpipe.dicom.series import read_series
from medpipe.dicom.write_series import write_series
from medpipe.engine.predicting import predict_command
from medpipe.engine.prediction_outputs import OutputOptions
from medpipe.geometry.faults import DataFaults
from medpipe.geometry.nifti import read_mask, write_volume
from medpipe.geometry.volume import Volume
from medpipe.tasks.model_record import ModelRecord
from medpipe.tasks.segmentation_network import SegmentationNetwork
from medpipe.tasks.weights import save_model

STRUCTURES = ("bladder", "ctv_high_risk", "gluteus_maximus_left")
TINY = StunetOptions(size="tiny", tiny_width=4)
PATCH = (32, 32, 64)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = SegmentationNetwork(build_volume_backbone(TINY), num_structures=3, output="sigmoid")
    for name, value in network.named_parameters():
        if name.startswith("heads.") and name.endswith("bias"):
            torch.nn.init.zeros_(value)
    preprocessing = Preprocessing(
        spacing_mm=(3.0, 2.0, 2.0), interpolation="linear",
        intensity=Intensity(clip_hu=(-200.0, 300.0), mean_hu=0.0, sd_hu=100.0),
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("model") / "gyn"
    folder.mkdir()
    record = ModelRecord(
        kind="segmentation", medpipe_version="0.1.0", backbone=TINY, structures=STRUCTURES, output="sigmoid",
        preprocessing=preprocessing.model_dump(mode="json"), patch_size=PATCH, step=1,
    )  # fmt: skip
    save_model(folder, network, record)
    return folder


def some_ct(seed: int = 0, shape=(24, 40, 44)) -> Volume:
    """Soft tissue in air, with noise; feet first."""
    array = np.random.default_rng(seed).normal(30, 40, shape).round().astype(np.int16)
    array[:, :8] = -1000
    affine = np.array([[0, 0, 1.5, -30], [0, -1.6, 0, 40], [3, 0, 0, -10], [0, 0, 0, 1.0]])
    return Volume(array, affine)


@pytest.fixture
def examination(tmp_path: Path) -> Path:
    """A folder as an archive sends it: the planning CT, a scout of two slices, a file that is no DICOM."""
    folder = tmp_path / "exam"
    write_series(folder / "ct", some_ct(), patient_id="gyn_1", uid_seed="planning", description="planning")
    write_series(folder / "short", some_ct(1, (2, 40, 44)), patient_id="gyn_1", uid_seed="short", description="bolus")
    (folder / "README").write_text("exported on a Monday")
    return folder


def predict(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["predict", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout


def test_a_dicom_folder_becomes_objects_on_its_planning_ct(checkpoint: Path, examination: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in examination.rglob("*") if path.is_file()}
    code, printed = predict(
        checkpoint, examination, "--output", "rtstruct,seg,nifti,report", "--to", tmp_path / "out", "--json",
        "--roi-type", "bladder=AVOIDANCE", "--uid-root", "1.2.3.4",
    )  # fmt: skip
    assert code == 0
    (case,) = json.loads(printed)["cases"]
    assert case["why"] == "the only CT series longer than 30 mm"
    assert case["seconds"] > 0
    assert case["peak_memory_mib"] > 100
    assert any("passed over" in note and "bolus" in note for note in case["notes"])
    assert any("gluteus_maximus_left: no SNOMED code" in note for note in case["notes"])
    folder = tmp_path / "out" / "exam"
    names = {"bladder": "Bladder", "ctv_high_risk": "CTV_High", "gluteus_maximus_left": "gluteus_maximus_left"}
    found = read_rtstruct(folder / "rtstruct.dcm")
    masks = roi_masks(found, read_series(examination / "ct"), names, gaps="keep")
    for structure in STRUCTURES:
        nifti = read_mask(folder / "segmentation" / f"{structure}.nii.gz")
        assert nifti.array.any()
        np.testing.assert_array_equal(nifti.array > 0, masks.mask(structure))
    assert [roi.interpreted_type for roi in found.rois] == ["AVOIDANCE", "CTV", "ORGAN"]
    for name in ("rtstruct", "seg", "report"):
        written = dcmread(folder / f"{name}.dcm")
        assert written.SOPInstanceUID.startswith("1.2.3.4.")
        assert written.StudyInstanceUID == dcmread(next((examination / "ct").iterdir())).StudyInstanceUID
        assert written.SOPInstanceUID == case["outputs"][name]["sop_instance_uid"]
    assert dcmread(folder / "report.dcm").EncapsulatedDocument.startswith(b"%PDF")
    assert {path: path.read_bytes() for path in examination.rglob("*") if path.is_file()} == before


def test_a_finished_case_is_kept_and_another_request_refused(checkpoint: Path, tmp_path: Path) -> None:
    write_volume(tmp_path / "a.nii.gz", some_ct())
    arguments = (checkpoint, tmp_path / "a.nii.gz", "--to", tmp_path / "out")
    assert predict(*arguments)[0] == 0
    kept = tmp_path / "out" / "a" / "case.json"
    stamp = kept.stat().st_mtime_ns
    assert predict(*arguments)[0] == 0
    assert kept.stat().st_mtime_ns == stamp
    with pytest.raises(ConfigError, match="holds something else"):
        predict_command(
            checkpoint, str(tmp_path / "a.nii.gz"), OutputOptions(("nifti",), description="other"), to=tmp_path / "out",
            series_uid=None, data_root=None, part=None, force=False, as_json=True,
        )  # fmt: skip


def test_a_folder_of_volumes_goes_on_after_a_faulty_one(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cts"
    folder.mkdir()
    write_volume(folder / "b.nii.gz", some_ct())
    (folder / "a.nii.gz").write_bytes((folder / "b.nii.gz").read_bytes()[:1000])
    with pytest.raises(DataFaults, match=r"a\.nii\.gz"):
        predict_command(
            checkpoint, str(folder), OutputOptions(("nifti",)), to=tmp_path / "out", series_uid=None, data_root=None,
            part=None, force=False, as_json=True,
        )  # fmt: skip
    assert (tmp_path / "out" / "b" / "segmentation" / "bladder.nii.gz").is_file()
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [fault["path"] for fault in summary["faults"]] == [str(folder / "a.nii.gz")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b", "summary.json"]


def test_a_manifest_says_which_cases(checkpoint: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "mine.yaml"
    manifest.write_text("manifest: mine\nlayout: folder\nfolder: mine\n")
    write_series(tmp_path / "mine" / "one", some_ct(), patient_id="one", uid_seed="one")
    code, printed = predict(
        checkpoint, manifest, "--data-root", tmp_path, "--output", "rtstruct", "--to", tmp_path / "out", "--json"
    )
    assert code == 0, printed
    assert [case["case_id"] for case in json.loads(printed)["cases"]] == ["one"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--output", "dose"), "none of rtstruct, seg, nifti, report"),
        (("--uid-root", "abc"), "a UID root is numbers"),
        (("--roi-type", "liver=ORGAN"), "the model finds bladder"),
        (("--roi-type", "bladder=LIVER"), "none of AVOIDANCE"),
        (("--output", "rtstruct"), "a.nii.gz|a is none"),
        (("--part", "test"), "are of manifests"),
    ],
)
def test_what_means_nothing_is_refused_before_any_work(
    checkpoint: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    write_volume(tmp_path / "a.nii.gz", some_ct())
    result = CliRunner().invoke(
        app, ["predict", str(checkpoint), str(tmp_path / "a.nii.gz"), *arguments, "--to", str(tmp_path / "out")]
    )
    assert isinstance(result.exception, ConfigError)
    assert any(part in str(result.exception) for part in message.split("|"))
    assert not (tmp_path / "out").exists()


def test_a_case_that_cannot_be_written_leaves_nothing_behind(
    checkpoint: Path, examination: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mirrored(masks: list[np.ndarray]) -> list[np.ndarray]:
        return [polygon[:, ::-1] for polygon in masks]

    monkeypatch.setattr("medpipe.dicom.write_rtstruct.join_holes", mirrored)
    from medpipe.dicom.read_back import WrittenOtherwise

    with pytest.raises(WrittenOtherwise, match="voxels differ"):
        predict_command(
            checkpoint, str(examination), OutputOptions(("rtstruct",)), to=tmp_path / "out", series_uid=None,
            data_root=None, part=None, force=False, as_json=True,
        )  # fmt: skip
    assert not list((tmp_path / "out").iterdir())
    shutil.rmtree(tmp_path / "out")
