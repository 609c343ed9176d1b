"""The hard inputs of clinical and public data, as real files: each refused by name, or handled and noted."""

import gzip
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from medpipe.datasets.cases import Case
from medpipe.datasets.checks import CaseLine, CheckReport, check_cases
from medpipe.datasets.layouts import list_layout
from medpipe.datasets.manifest import Manifest
from medpipe.datasets.reading import read_case
from medpipe.geometry.faults import DataFaults
from medpipe.geometry.nifti import read_label_map, read_volume, write_label_map, write_mask, write_volume
from medpipe.geometry.volume import LabelMap, Volume

Make = Callable[..., Manifest]
Write = Callable[..., Path]


@pytest.fixture
def toy(tmp_path: Path, manifest: Make, write_nnunet: Write) -> "Toy":
    return Toy(write_nnunet(tmp_path / "set", ids=("p1",)), manifest)


class Toy:
    """One case in the nnU-Net layout, to be spoilt."""

    def __init__(self, folder: Path, manifest: Make) -> None:
        self.folder, self.manifest = folder, manifest
        self.image = folder / "imagesTr/p1_0000.nii.gz"
        self.labels = folder / "labelsTr/p1.nii.gz"

    def cases(self, **changes: object) -> list[Case]:
        return list_layout(self.manifest(**changes), self.folder)

    def check(self, **changes: object) -> CheckReport:
        return check_cases(self.cases(**changes))

    def line(self, **changes: object) -> CaseLine:
        return self.check(**changes).lines[0]

    def fault(self, path: Path, **changes: object) -> str:
        """The one fault, which names `path` and the case."""
        report = self.check(**changes)
        with pytest.raises(DataFaults):
            report.raise_if_faulty()
        (fault,) = report.faults
        assert fault.path == path
        assert fault.reason.startswith("case p1: ")
        assert "FAULT" in report.lines[0].text()
        return fault.reason

    def change_labels(self, change: Callable[[NDArray], NDArray], affine: NDArray | None = None) -> None:
        old = read_label_map(self.labels)
        write_label_map(self.labels, LabelMap(change(old.array), old.affine if affine is None else affine))

    def change_image(self, change: Callable[[NDArray], NDArray]) -> None:
        old = read_volume(self.image)
        write_volume(self.image, Volume(change(old.array).astype(np.float32), old.affine))


def has(notes: Sequence[str], text: str) -> bool:
    return any(text in note for note in notes)


def test_a_sound_case_has_no_faults_and_one_line(toy: Toy) -> None:
    report = toy.check()
    assert report.faults == ()
    # 6 x 6 x 10 and 6 x 4 x 5 voxels of 3 x 2 x 2 mm
    assert report.lines[0].structures == {"bladder": (360, pytest.approx(4.32)), "rectum": (120, pytest.approx(1.44))}
    text = report.lines[0].text()
    assert text.startswith("p1 | 20 x 24 x 28 | 3 x 2 x 2 mm | -10")
    assert text.endswith("bladder 4.3 ml, rectum 1.4 ml")


def test_row_1_labels_40_mm_off_are_refused(toy: Toy) -> None:
    affine = read_label_map(toy.labels).affine.copy()
    affine[0, 3] += 40
    toy.change_labels(lambda labels: labels, affine)
    reason = toy.fault(toy.labels)
    assert "origin is off by 40.00 mm" in reason
    assert "resample_labels: true" in reason


def test_row_1_labels_with_a_flipped_axis_are_refused(toy: Toy) -> None:
    affine = read_label_map(toy.labels).affine.copy()
    affine[:, 2] *= -1
    toy.change_labels(lambda labels: labels, affine)
    assert "turned by 0.00, 0.00, 180.00 degrees" in toy.fault(toy.labels)


def test_row_1_labels_off_by_rounding_are_accepted(toy: Toy) -> None:
    affine = read_label_map(toy.labels).affine.copy()
    affine[:3, 3] += 0.05
    toy.change_labels(lambda labels: labels, affine)
    assert toy.check().faults == ()


def test_row_2_labels_one_slice_shorter_are_refused(toy: Toy) -> None:
    toy.change_labels(lambda labels: labels[:-1])
    assert "(19, 24, 28) against (20, 24, 28)" in toy.fault(toy.labels)


def test_rows_1_and_2_labels_on_another_grid_are_resampled_on_request(toy: Toy) -> None:
    toy.change_labels(lambda labels: labels[:-1])
    (case,) = toy.cases()
    asked = Case(**{**case.__dict__, "resample_labels": True})
    report = check_cases([asked])
    assert report.faults == ()
    assert has(report.lines[0].notes, "resampled to the grid of its CT")
    assert report.lines[0].structures["bladder"][0] == 360


def test_row_3_a_structure_that_is_absent_is_counted_as_such(toy: Toy) -> None:
    toy.change_labels(lambda labels: np.where(labels == 2, 0, labels))
    line = toy.line()
    assert line.structures["rectum"] == (0, 0.0)
    assert "rectum -" in line.text()
    assert line.faults == ()


@pytest.mark.parametrize(("if_absent", "annotated"), [("absent", True), ("not_annotated", False)])
def test_row_4_a_missing_file_is_absent_or_not_annotated_as_the_manifest_says(
    tmp_path: Path, manifest: Make, write_masks: Write, if_absent: str, annotated: bool
) -> None:
    write_masks(tmp_path)
    (tmp_path / "s0001/segmentations/rectum.nii.gz").unlink()
    toy = manifest(layout="totalsegmentator", structures={"bladder": {}, "rectum": {}}, if_absent=if_absent)
    cases = list_layout(toy, tmp_path)
    assert read_case(cases[0]).annotated == (True, annotated)
    line = check_cases(cases).lines[0]
    assert has(line.notes, "rectum: no file or region of interest")
    assert ("rectum not annotated" in line.text()) is not annotated


def test_row_4_an_empty_mask_file_is_an_absent_structure(tmp_path: Path, manifest: Make, write_masks: Write) -> None:
    write_masks(tmp_path, masks={"bladder": np.ones((20, 24, 28), bool), "rectum": np.zeros((20, 24, 28), bool)})
    toy = manifest(layout="totalsegmentator", structures={"bladder": {}, "rectum": {}}, if_absent="not_annotated")
    assert read_case(list_layout(toy, tmp_path)[0]).annotated == (True, True)


def test_row_5_a_slight_shear_is_projected_and_noted_a_strong_one_refused(toy: Toy) -> None:
    image = nib.load(toy.image)
    for shear, is_refused in ((5e-5, False), (0.02, True)):
        affine = image.affine.copy()
        affine[0, 1] += shear * 2
        spoilt = nib.Nifti1Image(np.asarray(image.dataobj), affine)
        spoilt.set_qform(None, code=0)
        nib.save(spoilt, toy.image)
        if is_refused:
            assert "shear" in toy.fault(toy.image)
        else:
            assert has(toy.line().notes, "projected to the nearest rotation")


def test_row_6_sform_and_qform_that_disagree_are_noted(toy: Toy) -> None:
    image = nib.load(toy.image)
    other = image.affine.copy()
    other[:3, 3] += 25
    image.set_qform(other, code=1)
    nib.save(image, toy.image)
    line = toy.line()
    assert line.faults == ()
    assert has(line.notes, "qform")


def test_row_9_metal_is_noted(toy: Toy) -> None:
    def add_metal(hu: NDArray) -> NDArray:
        hu[10, 10, 10:13] = 30_000
        return hu

    toy.change_image(add_metal)
    assert has(toy.line().notes, "3 voxels lie above 3071 HU")


def test_row_10_stored_values_without_their_rescale_are_refused(toy: Toy) -> None:
    toy.change_image(lambda hu: np.clip(hu + 1024, 0, 4095))
    assert "never applied" in toy.fault(toy.image)


def test_row_10_a_rescale_applied_twice_is_refused(toy: Toy) -> None:
    toy.change_image(lambda hu: hu - 1024)
    assert "applied twice" in toy.fault(toy.image)


def test_row_10_the_check_can_be_left_out_for_images_that_are_not_ct(toy: Toy) -> None:
    toy.change_image(lambda hu: np.clip(hu + 1024, 0, 4095))
    assert toy.check(hounsfield=False).faults == ()


def test_row_11_padding_outside_the_circle_is_noted(toy: Toy) -> None:
    def pad(hu: NDArray) -> NDArray:
        hu[:, 0] = -3024
        return hu

    toy.change_image(pad)
    assert has(toy.line().notes, "below -1024 HU (padding or artefact, down to -3024)")


@pytest.mark.parametrize(("axes", "is_refused"), [((1,), False), ((3,), True)])
def test_row_12_a_fourth_axis_of_one_is_dropped_a_longer_one_refused(
    toy: Toy, axes: tuple[int, ...], is_refused: bool
) -> None:
    image = nib.load(toy.image)
    array = np.asarray(image.dataobj)
    nib.save(nib.Nifti1Image(np.stack([array] * axes[0], axis=-1), image.affine), toy.image)
    if is_refused:
        assert "time series or several channels" in toy.fault(toy.image)
    else:
        assert has(toy.line().notes, "axes of length 1 removed")


def test_row_12_colour_is_refused(toy: Toy) -> None:
    array = np.zeros((28, 24, 20), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(array, nib.load(toy.image).affine), toy.image)
    assert "RGB" in toy.fault(toy.image)


def test_row_13_big_endian_files_are_read(toy: Toy) -> None:
    image = nib.load(toy.labels)
    swapped = nib.Nifti1Image(np.asarray(image.dataobj).astype(">i2"), image.affine, nib.Nifti1Header(endianness=">"))
    nib.save(swapped, toy.labels)
    assert toy.line().structures["bladder"][0] == 360


def test_row_13_labels_over_255_keep_their_value(toy: Toy) -> None:
    toy.change_labels(lambda labels: np.where(labels == 2, np.int16(300), labels.astype(np.int16)))
    assert toy.line(structures={"bladder": {"label": 1}, "rectum": {"label": 300}}).structures["rectum"][0] == 120


def test_row_13_float_labels_are_rounded_within_a_thousandth_or_refused(toy: Toy) -> None:
    image = nib.load(toy.labels)
    array = np.asarray(image.dataobj).astype(np.float32)
    nib.save(nib.Nifti1Image(array * np.float32(0.9999), image.affine), toy.labels)
    assert toy.line().structures["rectum"][0] == 120
    nib.save(nib.Nifti1Image(array * np.float32(0.9), image.affine), toy.labels)
    assert "labels are integers" in toy.fault(toy.labels)


def test_row_13_negative_labels_are_refused(toy: Toy) -> None:
    image = nib.load(toy.labels)
    nib.save(nib.Nifti1Image(-np.asarray(image.dataobj).astype(np.int16), image.affine), toy.labels)
    assert "negative label -2" in toy.fault(toy.labels)


def test_row_13_labels_that_nobody_named_are_refused_with_their_count(toy: Toy) -> None:
    toy.change_labels(lambda labels: np.where(labels == 2, 7, labels))
    assert "does not name: 7 (120 voxels)" in toy.fault(toy.labels)
    assert toy.check(other_labels="background").faults == ()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_row_14_nan_and_infinity_are_refused(toy: Toy, value: float) -> None:
    def spoil(hu: NDArray) -> NDArray:
        hu[3, 4, 5] = value
        return hu

    toy.change_image(spoil)
    assert "1 voxels are NaN or infinite, the first at (d, h, w) = (3, 4, 5)" in toy.fault(toy.image)


@pytest.mark.parametrize("spoil", ["truncated", "crc", "empty", "renamed"])
def test_row_15_a_damaged_file_is_refused_before_training(toy: Toy, spoil: str) -> None:
    content = toy.image.read_bytes()
    if spoil == "truncated":
        toy.image.write_bytes(content[: len(content) // 2])
    elif spoil == "crc":
        toy.image.write_bytes(content[:-8] + bytes(4) + content[-4:])
    elif spoil == "empty":
        toy.image.write_bytes(b"")
    else:
        toy.image.write_bytes(gzip.decompress(content))
        assert has(toy.line().notes, "not compressed, although named")
        return
    assert toy.fault(toy.image)


def test_row_15_every_damaged_file_is_listed_not_the_first_alone(
    tmp_path: Path, manifest: Make, write_nnunet: Write
) -> None:
    write_nnunet(tmp_path)
    for case_id in ("p1_a", "p2_a"):
        (tmp_path / f"imagesTr/{case_id}_0000.nii.gz").write_bytes(b"")
    report = check_cases(list_layout(manifest(), tmp_path), jobs=2)
    assert [fault.path.name for fault in report.faults] == ["p1_a_0000.nii.gz", "p2_a_0000.nii.gz"]
    assert report.lines[1].faults == ()


@pytest.mark.parametrize("overlapping", [False, True])
def test_row_16_overlap_is_reported_in_voxels(
    tmp_path: Path, manifest: Make, write_masks: Write, overlapping: bool
) -> None:
    first, second = np.zeros((2, 20, 24, 28), dtype=bool)
    first[5:10, 5:10, 5:10] = True
    second[9:12, 5:10, 5:10] = True
    write_masks(tmp_path, masks={"uterus": first, "ctv_high_risk": second})
    toy = manifest(layout="totalsegmentator", structures={"uterus": {}, "ctv_high_risk": {}}, overlapping=overlapping)
    line = check_cases(list_layout(toy, tmp_path)).lines[0]
    outcome = "both are kept" if overlapping else "ctv_high_risk wins"
    assert has(line.notes, f"ctv_high_risk overlaps uterus in 25 voxels; {outcome}")
    assert line.structures["uterus"][0] == (125 if overlapping else 100)
    assert line.structures["ctv_high_risk"][0] == 75


def test_rows_18_and_20_one_image_under_two_patients_is_a_leak(
    tmp_path: Path, manifest: Make, write_nnunet: Write
) -> None:
    write_nnunet(tmp_path, ids=("p1_a", "p2_a"))
    # The same voxels in another compression and data type: the files differ, the image does not.
    image = nib.load(tmp_path / "imagesTr/p1_a_0000.nii.gz")
    whole = np.rint(np.asarray(image.dataobj))
    nib.save(nib.Nifti1Image(whole.astype(np.int16), image.affine), tmp_path / "imagesTr/p1_a_0000.nii.gz")
    nib.save(nib.Nifti1Image(whole.astype(np.float32), image.affine), tmp_path / "imagesTr/p2_a_0000.nii.gz")
    cases = list_layout(manifest(patients={"pattern": "^(p[0-9])"}), tmp_path)
    (fault,) = check_cases(cases).faults
    assert "case p2_a of patient p2 has the same image as case p1_a of patient p1" in str(fault)
    one_patient = list_layout(manifest(patients={"pattern": "^(p)"}), tmp_path)
    assert check_cases(one_patient).faults == ()


def test_row_21_labels_of_background_alone_are_flagged(toy: Toy) -> None:
    toy.change_labels(lambda labels: labels * 0)
    assert has(toy.line().notes, "the labels hold only background")


def test_row_22_a_structure_of_five_voxels_is_kept_and_warned_of(toy: Toy) -> None:
    def shrink(labels: NDArray) -> NDArray:
        few = np.where(labels == 1, 1, 0).astype(np.uint8)
        few[3, 3, 3:8] = 2
        return few

    toy.change_labels(shrink)
    line = toy.line()
    assert line.structures["rectum"][0] == 5
    assert has(line.notes, "rectum has only 5 voxels")


def test_row_24_odd_names_links_and_read_only_folders_are_no_obstacle(
    tmp_path: Path, manifest: Make, write_nnunet: Write
) -> None:
    real = write_nnunet(tmp_path / "Ärzte & Söhne (2024)/gyn data", ids=("Fall ü 1",))
    (tmp_path / "link").symlink_to(real)
    real.chmod(0o555)
    try:
        assert check_cases(list_layout(manifest(), tmp_path / "link")).faults == ()
    finally:
        real.chmod(0o755)


def test_labels_under_a_wrong_masks_name_do_not_pass_for_a_mask(
    tmp_path: Path, manifest: Make, write_masks: Write
) -> None:
    write_masks(tmp_path)
    shutil.copy(tmp_path / "s0001/segmentations/bladder.nii.gz", tmp_path / "b.nii.gz")
    labels = read_label_map(tmp_path / "b.nii.gz")
    labels.array[0, 0, :3] = 2
    write_label_map(tmp_path / "s0001/segmentations/bladder.nii.gz", labels)
    toy = manifest(layout="totalsegmentator", structures={"bladder": {}, "rectum": {}})
    (fault,) = check_cases(list_layout(toy, tmp_path)).faults
    assert "a mask holds 0 and one other value" in fault.reason


def test_an_image_on_the_grid_of_the_masks_alone_counts(tmp_path: Path, manifest: Make, write_masks: Write) -> None:
    write_masks(tmp_path)
    short = read_label_map(tmp_path / "s0001/segmentations/rectum.nii.gz")
    write_mask(tmp_path / "s0001/segmentations/rectum.nii.gz", short.array[:-1], short.affine)
    toy = manifest(layout="totalsegmentator", structures={"bladder": {}, "rectum": {}})
    (fault,) = check_cases(list_layout(toy, tmp_path)).faults
    assert fault.path.name == "rectum.nii.gz"
