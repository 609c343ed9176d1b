"""`medpipe dose` on phantoms: RTDOSE and RTSTRUCT of two fractions, external beam, predicted contours, bad input."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydicom import dcmread

from medpipe.config.errors import ConfigError
from medpipe.datasets.manifest import load_manifest
from medpipe.dicom.rtstruct import read_rtstruct
from medpipe.dicom.series import Series, read_series
from medpipe.engine.dose_plan import DosePlan, plan_of_command, plan_of_options, read_plan
from medpipe.engine.dosing import compute_course, dose_command
from medpipe.geometry.faults import DataFault
from medpipe.geometry.nifti import write_mask, write_volume
from medpipe.geometry.volume import Grid, MaskStack, Volume
from medpipe.metrics.dosimetry import eqd2

ORGANS = ("ctv_high_risk", "bladder", "rectum", "sigmoid_colon")
STRENGTH = 7.0 * 15**2  # Gy mm2: 7 Gy at 15 mm from the source


def around(source_mm: np.ndarray, points_mm: np.ndarray) -> np.ndarray:
    """Gy of an inverse square around a point."""
    return STRENGTH / np.maximum(((points_mm - source_mm) ** 2).sum(axis=1), 1.0)


def dose_grid(source_mm: np.ndarray, half_mm: float = 90.0, spacing_mm: float = 2.5) -> Grid:
    num = int(2 * half_mm / spacing_mm) + 1
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])[:, [2, 1, 0, 3]]  # d along z, w along x
    affine[:3, 3] = source_mm - half_mm
    return Grid((num, num, num), affine)


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two fractions of one phantom: CT, RTSTRUCT and an RTDOSE around the middle of the target."""
    from medpipe.datasets.phantom.pelvis import PelvisConfig
    from medpipe.datasets.phantom.write import write_phantoms

    folder = tmp_path_factory.mktemp("dose") / "phantoms"
    config = PelvisConfig(spacing_mm=(5.0, 3.0, 3.0), fractions=2, missing_sigmoid_share=0, missing_uterus_share=0)
    write_phantoms(folder, config, 2, first_seed=7, form="dicom", structures=ORGANS)
    return folder


def source_of(case: Path) -> np.ndarray:
    """The middle of the target, RAS mm."""
    roi = next(roi for roi in read_rtstruct(case / "rtstruct.dcm").rois if "CTV" in roi.name.upper())
    return np.concatenate([contour.points_mm for contour in roi.contours]).mean(axis=0)


@pytest.fixture(scope="module")
def fractions(patient: Path, rtdose_writer: Callable[..., Path]) -> list[Path]:
    cases = sorted(path for path in patient.iterdir() if path.is_dir())
    for case in cases:
        source = source_of(case)
        grid = dose_grid(source)
        gy = around(source, grid.index_to_world(np.indices(grid.shape).reshape(3, -1).T)).reshape(grid.shape)
        series = read_series(case / "ct")
        rtdose_writer(
            case / "rtdose.dcm", gy, grid, frame_uid=series.frame_of_reference_uid, patient_id=series.patient_id
        )
    return cases


def shifted_masks(case: Path, shift_mm: float) -> tuple[Series, MaskStack]:
    """The references moved to the front by whole voxels: a prediction that is off by a known length."""
    from medpipe.datasets.structure_names import resolve_names
    from medpipe.dicom.linking import roi_masks

    series, structures = read_series(case / "ct"), read_rtstruct(case / "rtstruct.dcm")
    chosen = resolve_names(structures.names, load_manifest("gynecologic_brachytherapy").aliases).chosen
    stack = roi_masks(structures, series, {name: structures.names[index] for name, index in chosen.items()})
    voxels = round(shift_mm / series.volume.spacing_mm[1])
    return series, MaskStack(np.roll(stack.array, voxels, axis=2), stack.affine, stack.structures)


def predicted_folder(case: Path, folder: Path, shift_mm: float) -> Path:
    _, masks = shifted_masks(case, shift_mm)
    for name in masks.structures:
        write_mask(folder / f"{name}.nii.gz", masks.mask(name), masks.affine)
    return folder


def test_two_fractions_with_external_beam_and_prediction(
    fractions: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["prescription_gy: 7", "external_beam: {dose_gy: 45, num_fractions: 25}", "fractions:"]
    for case in fractions:
        predicted = predicted_folder(case, tmp_path / "predicted" / case.name, 3.0)
        lines.append(f"  - {{dose: {case}/rtdose.dcm, structures: {case}/rtstruct.dcm, predicted: {predicted}}}")
    (tmp_path / "plan.yaml").write_text("\n".join(lines) + "\n")
    assert dose_command(read_plan(tmp_path / "plan.yaml"), output=tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "D2cc" in printed
    assert "The lowest dose inside the hottest 2, 1 or 0.1 cm3" in printed
    table = pd.read_csv(tmp_path / "out" / "dose.csv")
    assert len(table) == 2 * 2 * len(ORGANS)
    assert (table["outside_share"] == 0).all()
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    total = {(one["structure"], one["quantity"], one["contour"]): one["total_eqd2_gy"] for one in summary["totals"]}
    for structure, quantity, alpha_beta in (("rectum", "d2cc", 3), ("ctv_high_risk", "d90", 10)):
        mine = table[(table["structure"] == structure) & (table["contour"] == "reference")][f"{quantity}_gy"]
        expected = eqd2(1.8, alpha_beta, 25) + sum(eqd2(dose, alpha_beta) for dose in mine)
        assert total[structure, quantity, "reference"] == pytest.approx(expected, abs=1e-9)
    status = {(aim["source"], aim["structure"], aim["quantity"]): aim["status"] for aim in summary["aims"]}
    rectum = total["rectum", "d2cc", "reference"]
    assert status["astro", "rectum", "d2cc"] == (
        "met" if rectum < 65 else "within hard limit" if rectum < 75 else "exceeded"
    )
    assert status["astro", "bowel", "d2cc"] == "not assessed"
    differences = pd.read_csv(tmp_path / "out" / "differences.csv")
    mine = differences[(differences["structure"] == "bladder") & (differences["quantity"] == "d2cc")]
    first = mine[mine["fraction"] == "1"].iloc[0]
    assert first["difference_gy"] == pytest.approx(first["predicted_gy"] - first["reference_gy"])
    assert first["difference_gy"] != 0
    assert 0 < first["near_assd_mm"] <= 3.3
    html = (tmp_path / "out" / "dose.html").read_text()
    assert "http" not in html.replace("http://www.w3.org", "")
    assert "data:image/" in html


def test_d2cc_and_d90_follow_from_the_masks_own_voxels(fractions: list[Path]) -> None:
    """Against the closed dose at finely divided voxels, without any interpolation of a dose grid."""
    from medpipe.metrics.dosimetry import dose_volume

    case = fractions[0]
    course = compute_course(plan_of_options([case / "rtdose.dcm"], [case / "rtstruct.dcm"], prescription_gy=7))
    series, masks = shifted_masks(case, 0.0)
    source = source_of(case)
    for name, quantity in (("rectum", "d2cc"), ("bladder", "d2cc"), ("sigmoid_colon", "d1cc")):
        index = np.argwhere(masks.mask(name))
        parts = np.stack(np.meshgrid((np.arange(10) + 0.5) / 10 - 0.5, *[(np.arange(7) + 0.5) / 7 - 0.5] * 2), -1)
        points = series.volume.grid.index_to_world((index[:, None] + parts.reshape(1, -1, 3)).reshape(-1, 3))
        gy = around(source, points).reshape(-1, 1, 1)
        exact = dose_volume(gy, np.ones(gy.shape, bool), series.volume.grid.voxel_ml / 490)
        found = next(dose for dose in course.doses if dose.structure == name)
        assert found.volume_ml == pytest.approx(exact.total_ml)
        assert found.doses_gy[quantity] == pytest.approx(exact.quantity(quantity), rel=3e-3)


def test_the_same_contours_differ_in_nothing(fractions: list[Path]) -> None:
    case = fractions[0]
    course = compute_course(plan_of_options([case / "rtdose.dcm"], [case], [case / "rtstruct.dcm"]))
    assert {one.difference_gy for one in course.differences if one.fraction} == {0.0}
    assert {(row["dice"], row["near_hd95_mm"], row["near_assd_mm"]) for row in course.surfaces} == {(1.0, 0.0, 0.0)}


def test_without_external_beam_no_aim_is_assessed(fractions: list[Path]) -> None:
    case = fractions[0]
    files = {"doses": [case / "rtdose.dcm"], "structures": [case / "rtstruct.dcm"]}
    assert {check.status for check in compute_course(plan_of_options(**files)).checks} == {"not assessed"}
    without = compute_course(plan_of_options(**files, external_beam_gy=0))
    assert {check.status for check in without.checks if check.aim.structure == "rectum"} == {"met"}


def test_a_grid_of_all_fractions_is_divided(fractions: list[Path]) -> None:
    case = fractions[0]
    one = {"dose": case / "rtdose.dcm", "structures": case / "rtstruct.dcm", "delivered": 4}
    plain = compute_course(DosePlan.model_validate({"fractions": (one,)}))
    divided = compute_course(DosePlan.model_validate({"fractions": ({**one, "dose_of": "all_fractions"},)}))
    for a, b in zip(plain.doses, divided.doses, strict=True):
        assert b.doses_gy["d2cc"] == pytest.approx(a.doses_gy["d2cc"] / 4)
    total = next(one for one in plain.totals if one.structure == "rectum" and one.quantity == "d2cc")
    rectum = next(dose for dose in plain.doses if dose.structure == "rectum")
    assert total.total_gy == pytest.approx(4 * eqd2(rectum.doses_gy["d2cc"], 3))


def test_nifti_of_gy_and_label_map(fractions: list[Path], tmp_path: Path) -> None:
    """The same fraction as NIfTI files gives the same numbers, to the float32 of the file."""
    from medpipe.dicom.rtdose import read_rtdose
    from medpipe.geometry.nifti import write_label_map
    from medpipe.geometry.volume import LabelMap

    case = fractions[0]
    rtdose = read_rtdose(case / "rtdose.dcm").dose
    write_volume(tmp_path / "dose.nii.gz", Volume(rtdose.gy.astype(np.float32), rtdose.affine))
    _, masks = shifted_masks(case, 0.0)
    labels = np.zeros(masks.shape, np.uint8)
    for value, name in enumerate(("bladder", "rectum"), start=1):
        labels[masks.mask(name)] = value
    write_label_map(tmp_path / "labels.nii.gz", LabelMap(labels, masks.affine))
    plan = DosePlan.model_validate(
        {
            "fractions": ({"dose": tmp_path / "dose.nii.gz", "structures": tmp_path / "labels.nii.gz"},),
            "label_values": {"bladder": 1, "rectum": 2},
            "target": None,
        }
    )
    of_nifti = {dose.structure: dose for dose in compute_course(plan).doses}
    of_dicom = compute_course(plan_of_options([case / "rtdose.dcm"], [case / "rtstruct.dcm"]))
    for dose in of_dicom.doses:
        if dose.structure in of_nifti:
            assert of_nifti[dose.structure].doses_gy["d2cc"] == pytest.approx(dose.doses_gy["d2cc"], rel=1e-5)
    assert set(of_nifti) == {"bladder", "rectum"}


def spoiled(path: Path, copy: Path, **attributes: object) -> Path:
    dataset = dcmread(path)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.save_as(copy)
    return copy


def test_another_frame_of_reference_is_refused(fractions: list[Path], tmp_path: Path) -> None:
    case = fractions[0]
    dose = spoiled(case / "rtdose.dcm", tmp_path / "other.dcm", FrameOfReferenceUID="1.2.3")
    with pytest.raises(DataFault, match=r"frame of reference is 1\.2\.3.*do not lie in one space"):
        compute_course(plan_of_options([dose], [case / "rtstruct.dcm"]))


def test_another_patient_is_refused(fractions: list[Path], tmp_path: Path) -> None:
    case = fractions[0]
    dose = spoiled(case / "rtdose.dcm", tmp_path / "other.dcm", PatientID="someone else")
    with pytest.raises(DataFault, match=r"is of patient 'someone else'"):
        compute_course(plan_of_options([dose], [case / "rtstruct.dcm"]))


def test_a_structure_beyond_the_dose_grid_is_refused_or_counted(
    fractions: list[Path], tmp_path: Path, rtdose_writer: Callable[..., Path]
) -> None:
    case = fractions[0]
    source = source_of(case)
    grid = dose_grid(source, half_mm=35.0)
    gy = around(source, grid.index_to_world(np.indices(grid.shape).reshape(3, -1).T)).reshape(grid.shape)
    frame = read_series(case / "ct").frame_of_reference_uid
    dose = rtdose_writer(tmp_path / "small.dcm", gy, grid, frame_uid=frame)
    with pytest.raises(
        DataFault, match=r"bladder lies beyond the dose grid with [\d.]+% of its volume.*outside: count"
    ):
        compute_course(plan_of_options([dose], [case / "rtstruct.dcm"], names=["bladder"]))
    small = compute_course(plan_of_options([dose], [case / "rtstruct.dcm"], names=["bladder"], outside="count"))
    whole = compute_course(plan_of_options([case / "rtdose.dcm"], [case / "rtstruct.dcm"], names=["bladder"]))
    counted, full = (next(d for d in one.doses if d.structure == "bladder") for one in (small, whole))
    assert 0 < counted.outside_share < 1
    assert counted.volume_ml == pytest.approx(full.volume_ml)
    assert counted.doses_gy["d2cc"] == pytest.approx(full.doses_gy["d2cc"], rel=2e-3)
    assert any("counted as 0 Gy" in note for note in small.notes)
    far = Grid(grid.shape, grid.affine + np.array([[0, 0, 0, 500.0], [0] * 4, [0] * 4, [0] * 4]))
    dose = rtdose_writer(tmp_path / "far.dcm", gy, far, frame_uid=frame)
    with pytest.raises(DataFault, match="wholly beyond the dose grid"):
        compute_course(plan_of_options([dose], [case / "rtstruct.dcm"], outside="count"))


def test_a_missing_or_empty_target_is_refused(fractions: list[Path], tmp_path: Path) -> None:
    case = fractions[0]
    _, masks = shifted_masks(case, 0.0)
    write_mask(tmp_path / "masks" / "bladder.nii.gz", masks.mask("bladder"), masks.affine)
    plan = plan_of_options([case / "rtdose.dcm"], [tmp_path / "masks"])
    with pytest.raises(DataFault, match=r"target ctv_high_risk is not among its structures \(bladder\)"):
        compute_course(plan)
    write_mask(tmp_path / "masks" / "HRCTV.nii.gz", np.zeros(masks.shape, bool), masks.affine)
    with pytest.raises(DataFault, match="target ctv_high_risk is empty"):
        compute_course(plan)
    course = compute_course(plan_of_options([case / "rtdose.dcm"], [tmp_path / "masks"], target=None))
    target = next(dose for dose in course.doses if dose.structure == "ctv_high_risk")
    assert np.isnan(target.doses_gy["d90"])
    assert any("ctv_high_risk is empty" in note for note in course.notes)


def test_an_organ_under_2_ml_has_no_d2cc(fractions: list[Path], tmp_path: Path) -> None:
    case = fractions[0]
    _, masks = shifted_masks(case, 0.0)
    organ = np.zeros(masks.shape, bool)
    d, h, w = np.argwhere(masks.mask("rectum"))[0]
    organ[d, h : h + 6, w : w + 6] = True  # 36 voxels of about 40 mm3
    write_mask(tmp_path / "masks" / "rectum.nii.gz", organ, masks.affine)
    course = compute_course(
        plan_of_options([case / "rtdose.dcm"], [tmp_path / "masks"], target=None, external_beam_gy=0)
    )
    (rectum,) = course.doses
    assert 1 < rectum.volume_ml < 2
    assert np.isnan(rectum.doses_gy["d2cc"])
    assert rectum.doses_gy["d1cc"] > 0
    assert any("under 2 cm3: no D2cc" in note for note in course.notes)
    check = next(check for check in course.checks if check.aim.structure == "rectum")
    assert (check.status, check.reason.startswith("undefined in fraction 1")) == ("not assessed", True)


def test_wrong_plans_are_refused_with_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="2 --dose, 1 --reference"):
        plan_of_options([Path("a"), Path("b")], [Path("c")])
    with pytest.raises(ConfigError, match="no fraction"):
        plan_of_options([], [])
    (tmp_path / "plan.yaml").write_text("fractions: [{dose: a.dcm, structure: b.dcm}]\n")
    with pytest.raises(ConfigError, match=r"plan\.yaml:1:\d+: unknown key 'structure'"):
        read_plan(tmp_path / "plan.yaml")
    with pytest.raises(ConfigError, match="'rectums' is not in the manifest"):
        compute_course(plan_of_options([Path("a")], [Path("b")], names=["rectums"]))
    with pytest.raises(DataFault, match="No such file"):
        compute_course(plan_of_options([tmp_path / "a.dcm"], [tmp_path / "b.dcm"]))


def test_a_plan_and_options_exclude_each_other_and_results_stay(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("fractions: [{dose: a.dcm, structures: b.dcm}]\n")
    assert plan_of_command(plan, [], [], [], {"target": None}).fractions[0].dose == tmp_path / "a.dcm"
    with pytest.raises(ConfigError, match="options for fractions, doses or names go into that file"):
        plan_of_command(plan, [], [], [], {"alpha_beta_target": 8.0})
    options = plan_of_command(None, [Path("a")], [Path("b")], [], {"target": "none", "names": ["rectum"]})
    assert options.target is None
    assert options.structures == ("rectum",)
    with pytest.raises(ConfigError, match="step_mm"):
        plan_of_command(None, [Path("a")], [Path("b")], [], {"step_mm": 5.0})
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds results already"):
        dose_command(options, output=tmp_path)


def test_a_real_structure_set_without_its_ct(
    real_data: Path, tmp_path: Path, rtdose_writer: Callable[..., Path]
) -> None:
    """A patient's contours as published, an invented dose around the target: volumes and D90 by polygon area."""
    path = real_data / "brachytherapy" / "PDR" / "RS.PDR.dcm"
    structures = read_rtstruct(path)
    target = structures.roi("ctv")
    source = np.concatenate([contour.points_mm for contour in target.contours]).mean(axis=0)
    grid = dose_grid(source, half_mm=130.0)
    gy = around(source, grid.index_to_world(np.indices(grid.shape).reshape(3, -1).T)).reshape(grid.shape)
    dose = rtdose_writer(tmp_path / "dose.dcm", gy, grid, frame_uid=structures.frame_of_reference_uids[0])
    manifest = tmp_path / "clinic.yaml"
    manifest.write_text(
        "manifest: clinic\nlayout: dicom_rtstruct\nfolder: x\n"
        "structures: {ctv_high_risk: {aliases: [ctv]}, bladder: {}, rectum: {}}\n"
    )
    course = compute_course(plan_of_options([dose], [path], manifest=str(manifest), external_beam_gy=45))
    for name, roi in (("ctv_high_risk", "ctv"), ("bladder", "bladder"), ("rectum", "rectum")):
        found = next(one for one in course.doses if one.structure == name)
        area = 0.0
        for contour in structures.roi(roi).contours:
            x, y = contour.points_mm[:, 0], contour.points_mm[:, 1]
            area += abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2
        assert found.volume_ml == pytest.approx(area * 2.0 / 1000, rel=5e-3)  # planes 2 mm apart
        assert found.doses_gy["d0_1cc"] > found.doses_gy["d1cc"] > found.doses_gy["d2cc"] > 0
    assert any("no CT of it" in note for note in course.notes)
