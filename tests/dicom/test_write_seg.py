from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from medpipe.dicom.maker import Model
from medpipe.dicom.read_back import WrittenOtherwise
from medpipe.dicom.series import Series
from medpipe.dicom.structure_masks import StructureMasks
from medpipe.dicom.write_seg import Code, SegmentCode, write_seg
from medpipe.dicom.write_series import write_series
from medpipe.geometry.volume import Affine, LabelMap, MaskStack


def masks_of(path: Path, series: Series) -> dict[str, np.ndarray]:
    """Segment label -> mask on the slices of the series, by highdicom's own reader."""
    import highdicom as hd

    seg = hd.seg.segread(path)
    numbers = list(range(1, seg.number_of_segments + 1))
    array = seg.get_pixels_by_source_instance(list(series.sop_uids), numbers, assert_missing_frames_are_empty=True)
    return {seg.get_segment_description(number).segment_label: array[..., number - 1] > 0 for number in numbers}


def test_highdicom_reads_the_same_voxels_on_every_kind_of_grid(
    affine: Affine, make_volume, make_masks, tmp_path: Path
) -> None:
    series = write_series(tmp_path / "ct", make_volume(affine), patient_id="p", uid_seed="s")
    masks = make_masks(affine)
    write_seg(tmp_path / "seg.dcm", masks, series)
    again = masks_of(tmp_path / "seg.dcm", series)
    for structure in masks.structures:
        np.testing.assert_array_equal(again[structure], masks.mask(structure))


def test_a_label_map_is_written_as_its_masks_are(series: Series, make_masks, tmp_path: Path) -> None:
    stack = make_masks(series.volume.affine)
    labels = np.zeros(series.volume.shape, np.uint8)
    labels[stack.mask("bladder")], labels[stack.mask("ctv_high_risk")] = 2, 1
    structures = StructureMasks(LabelMap(labels, series.volume.affine), stack.structures)
    write_seg(tmp_path / "seg.dcm", structures, series)
    for number, (name, mask) in enumerate(masks_of(tmp_path / "seg.dcm", series).items(), start=1):
        assert name == stack.structures[number - 1]
        np.testing.assert_array_equal(mask, labels == number)


def test_codes_model_and_research_use_stand_in_the_object(series: Series, make_masks, tmp_path: Path) -> None:
    bladder = SegmentCode(
        Code("91723000", "SCT", "Anatomical Structure"),
        Code("89837001", "SCT", "Bladder"),
        Code("7771000", "SCT", "Left"),
    )
    write_seg(
        tmp_path / "seg.dcm", make_masks(series.volume.affine), series, codes={"bladder": bladder},
        model=Model("gyn", "a" * 64), uid_root="1.2.3",
    )  # fmt: skip
    written, image = dcmread(tmp_path / "seg.dcm"), dcmread(series.paths[0])
    assert written.SOPInstanceUID.startswith("1.2.3.")
    assert "research use only" in written.SeriesDescription
    assert "research use only" in written.ContentDescription
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert written[keyword].value == image[keyword].value
    ctv, coded, _ = written.SegmentSequence
    assert coded.SegmentedPropertyTypeCodeSequence[0].CodeValue == "89837001"
    modifier = coded.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0]
    assert modifier.CodeMeaning == "Left"
    assert ctv.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator == "99MEDPIPE"
    assert any("a" * 64 in item.ContributionDescription for item in written.ContributingEquipmentSequence)
    assert coded.SegmentAlgorithmType == "AUTOMATIC"


def test_empty_masks_alone_are_written(series: Series, tmp_path: Path) -> None:
    empty = MaskStack(np.zeros((2, *series.volume.shape), bool), series.volume.affine, ("bladder", "rectum"))
    write_seg(tmp_path / "seg.dcm", empty, series)
    assert not any(mask.any() for mask in masks_of(tmp_path / "seg.dcm", series).values())


@pytest.mark.parametrize("slices", [(3,), (1, 2)])
def test_one_segment_and_one_frame_are_written(series: Series, tmp_path: Path, slices: tuple[int, ...]) -> None:
    mask = np.zeros((1, *series.volume.shape), bool)
    mask[0, list(slices), 3:9, 5:17] = True
    write_seg(tmp_path / "seg.dcm", MaskStack(mask, series.volume.affine, ("bladder",)), series)
    np.testing.assert_array_equal(masks_of(tmp_path / "seg.dcm", series)["bladder"], mask[0])


def test_a_file_that_reads_back_otherwise_is_never_left_behind(
    series: Series, make_masks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medpipe.dicom import write_seg as module

    faithful = module._segmentation

    def mirrored(masks: StructureMasks, *rest: object) -> object:
        stack = masks.image
        return faithful(StructureMasks(MaskStack(stack.array[..., ::-1], stack.affine, stack.structures)), *rest)

    monkeypatch.setattr(module, "_segmentation", mirrored)
    with pytest.raises(WrittenOtherwise, match="voxels differ"):
        write_seg(tmp_path / "seg.dcm", make_masks(series.volume.affine), series)
    assert [path.name for path in tmp_path.iterdir()] == ["ct"]
