"""Masks as a DICOM SEG on their CT series, by highdicom: binary, coded segments, every frame read back and compared."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medpipe.dicom.maker import Model, contributing_equipment, study_module, with_frame_of_reference
from medpipe.dicom.read_back import WrittenOtherwise, check_grid, check_same, images_of
from medpipe.dicom.reading import numbers, read_dataset, text
from medpipe.dicom.series import Series
from medpipe.dicom.slices import KEYWORDS, Slice
from medpipe.dicom.structure_masks import StructureMasks
from medpipe.dicom.writing import MANUFACTURER, RESEARCH_USE, UID_ROOT, decimals, seeded_uid
from medpipe.geometry.atomic import written_beside
from medpipe.geometry.volume import MaskStack
from medpipe.version import __version__

if TYPE_CHECKING:
    from pydicom import Dataset

_CLOSE_MM = 0.01


@dataclass(frozen=True)
class Code:
    """A coded concept, such as (89837001, SCT, Bladder)."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class SegmentCode:
    """What a segment is: category, type, and the side of the body where there are two."""

    category: Code
    type: Code
    side: Code | None = None


ANATOMY = Code("91723000", "SCT", "Anatomical Structure")


def local_code(structure: str) -> SegmentCode:
    """A code of medpipe's own for a structure that no coding scheme at hand knows."""
    value = hashlib.sha256(structure.encode()).hexdigest()[:16]  # SH holds 16: names that differ later would be one
    return SegmentCode(ANATOMY, Code(value, "99MEDPIPE", structure[:64]))


def write_seg(
    path: Path | str,
    masks: MaskStack | StructureMasks,
    series: Series,
    *,
    codes: Mapping[str, SegmentCode] | None = None,
    description: str = "automatic segmentation",
    model: Model | None = None,
    uid_root: str = UID_ROOT,
    notes: list[str] | None = None,
) -> None:
    """Write the masks as a binary segmentation of `series`; structures may overlap, an empty one has no frames.

    codes   structure -> what it is; without, a local code (99MEDPIPE) of the structure's name

    Before the file gets its name every frame is read back and compared in patient coordinates. ValueError if the masks
    do not lie on the series' grid.
    """
    path = Path(path)
    series = with_frame_of_reference(series, uid_root, notes)
    masks = (masks if isinstance(masks, StructureMasks) else StructureMasks(masks)).on_series_grid(series.volume.grid)
    model = model or Model("medpipe", "")
    identity = (series.series_uid, description, masks.digest(), model.weights_sha256)
    dataset = _segmentation(masks, series, dict(codes or {}), description, model, uid_root, identity)
    with written_beside(path) as partial:
        dataset.save_as(partial, enforce_file_format=True)
        check_seg(partial, masks, series)


def check_seg(path: Path, masks: StructureMasks, series: Series) -> None:
    """WrittenOtherwise unless the frames of each segment, placed by their own position, are its structure's mask."""
    images = images_of(series)
    check_grid(path, masks, series, images)
    header = read_dataset(path, with_pixels=True)
    if text(header, "FrameOfReferenceUID") != series.frame_of_reference_uid:
        raise WrittenOtherwise(f"{path}: another frame of reference after writing")
    labels = [text(item, "SegmentLabel") for item in header.SegmentSequence]
    if labels != [_label(structure) for structure in masks.structures]:
        raise WrittenOtherwise(f"{path}: segments {labels} after writing")
    frames = _frames(path, header, series, images)
    current, found = 0, np.zeros(masks.grid.shape, dtype=bool)
    seen: set[int] = set()
    # highdicom writes segment after segment, so one mask at a time is enough.
    for number, d, frame in (*frames, (0, 0, None)):
        if number != current:
            if current:
                check_same(path, masks.structures[current - 1], masks.mask(masks.structures[current - 1]), found)
            if number in seen:
                raise WrittenOtherwise(f"{path}: the frames of segment {number} do not follow each other")
            seen.add(number)
            current, found = number, np.zeros(masks.grid.shape, dtype=bool)
        if frame is not None:
            found[d] = frame
    for number, structure in enumerate(masks.structures, start=1):
        if number not in seen and masks.mask(structure).any():
            raise WrittenOtherwise(f"{path}: {structure}: no frames after writing")


def _frames(
    path: Path, header: "Dataset", series: Series, images: dict[str, Slice]
) -> Iterator[tuple[int, int, NDArray[np.bool_]]]:
    """Segment number, slice d and pixels of each frame; the slice by the frame's place, checked with its reference."""
    shared = header.SharedFunctionalGroupsSequence[0]
    orientation = numbers(shared.PlaneOrientationSequence[0], "ImageOrientationPatient", 6, path)
    spacing = numbers(shared.PixelMeasuresSequence[0], "PixelSpacing", 2, path)
    places = np.stack([images[uid].position for uid in series.sop_uids])
    first = images[series.sop_uids[0]]
    turned = np.abs(orientation - np.concatenate([first.row_direction, first.column_direction])).max()
    if turned > 1e-5 or np.abs(spacing - first.spacing_mm).max() > 1e-5:
        raise WrittenOtherwise(f"{path}: other orientation or pixel spacing than the images'")
    for index, item in enumerate(header.PerFrameFunctionalGroupsSequence):
        position = numbers(_group(item, shared, "PlanePositionSequence"), "ImagePositionPatient", 3, path)
        off_mm = np.linalg.norm(places - position, axis=1)
        d = int(np.argmin(off_mm))
        source = _group(item, shared, "DerivationImageSequence").SourceImageSequence[0].ReferencedSOPInstanceUID
        if off_mm[d] > _CLOSE_MM or source != series.sop_uids[d]:
            raise WrittenOtherwise(f"{path}: a frame lies {off_mm[d]:.3f} mm off the nearest image, or names another")
        segment = _group(item, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber
        yield int(segment), d, _frame_bits(header, index)


def _group(frame: "Dataset", shared: "Dataset", keyword: str) -> "Dataset":
    """A functional group of a frame; what all frames have in common stands once, with the shared ones."""
    return (frame if keyword in frame else shared)[keyword].value[0]


def _frame_bits(header: "Dataset", index: int) -> NDArray[np.bool_]:
    """(H, W) of one frame: bits follow each other across frames, the lowest of a byte first (PS3.5 8.1.1).

    pydicom's frame iterator cannot: it expects each frame to begin on a byte.
    """
    rows, columns = int(header.Rows), int(header.Columns)
    first, last = index * rows * columns, (index + 1) * rows * columns
    content = np.frombuffer(header.PixelData, np.uint8, count=-(-last // 8) - first // 8, offset=first // 8)
    bits = np.unpackbits(content, bitorder="little")[first % 8 :][: rows * columns]
    return bits.reshape(rows, columns).astype(bool)


def _segmentation(
    masks: StructureMasks, series: Series, codes: dict[str, SegmentCode], description: str, model: Model,
    uid_root: str, identity: tuple[str, ...],
) -> Any:  # fmt: skip
    import highdicom as hd

    image = masks.image
    pixels = np.moveaxis(image.array, 0, -1).view(np.uint8) if isinstance(image, MaskStack) else image.array
    dataset = hd.seg.Segmentation(
        source_images=[_source(series, path) for path in series.paths],
        pixel_array=pixels if pixels.dtype == np.uint8 else pixels.astype(np.uint16),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _segment(number, structure, codes.get(structure) or local_code(structure), model, uid_root, identity)
            for number, structure in enumerate(masks.structures, start=1)
        ],
        series_instance_uid=seeded_uid("seg series", *identity, root=uid_root),
        series_number=1,
        sop_instance_uid=seeded_uid("seg instance", *identity, root=uid_root),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MANUFACTURER,
        software_versions=__version__,
        device_serial_number="0",
        content_label="RESEARCH_ONLY",
        content_description=f"{description}, {RESEARCH_USE}"[:64],
        content_creator_name="medpipe^",
        series_description=f"{description}, {RESEARCH_USE}"[:64],
        specific_character_set="ISO_IR 192",
    )
    if model.weights_sha256:
        equipment = dataset.get("ContributingEquipmentSequence", [])
        dataset.ContributingEquipmentSequence = [*equipment, contributing_equipment(model, uid_root)]
    return dataset


def _source(series: Series, path: Path) -> "Dataset":
    """A slice's header as highdicom needs it: what links and places it, and a study without invalid values."""
    from pydicom import Dataset

    header = read_dataset(path, with_pixels=False, keywords=KEYWORDS)
    source = Dataset()
    for keyword in KEYWORDS:
        if keyword in header and keyword != "SeriesDescription":
            source[keyword] = header[keyword]
    for keyword, value in study_module(series).items():
        setattr(source, keyword, value)
    # One study and series for all, whatever a de-identification left in the single files: see `read_series`.
    source.StudyInstanceUID, source.SeriesInstanceUID = series.study_uid, series.series_uid
    if not text(source, "SliceThickness"):
        source.SliceThickness = decimals([series.volume.spacing_mm[0]])[0]  # highdicom asks for one
    source.FrameOfReferenceUID = series.frame_of_reference_uid
    source.PositionReferenceIndicator = ""
    source.BitsAllocated, source.BitsStored, source.PixelRepresentation = 16, 16, 1
    return source


def _segment(
    number: int, structure: str, code: SegmentCode, model: Model, uid_root: str, identity: tuple[str, ...]
) -> Any:
    import highdicom as hd
    from highdicom.sr.coding import CodedConcept
    from pydicom.sr.codedict import codes as dicom_codes

    item = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=_label(structure),
        segmented_property_category=CodedConcept(*_parts(code.category)),
        segmented_property_type=CodedConcept(*_parts(code.type)),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=model.name[:64],
            family=dicom_codes.DCM.ArtificialIntelligence,
            version=model.version,
            parameters={"weights_sha256": model.weights_sha256} if model.weights_sha256 else None,
        ),
        tracking_uid=seeded_uid("segment", structure, *identity, root=uid_root),
        tracking_id=structure[:64],
    )
    if code.side is not None:
        item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
            CodedConcept(*_parts(code.side))
        ]
    return item


def _parts(code: Code) -> tuple[str, str, str]:
    return code.value, code.scheme, code.meaning


def _label(structure: str) -> str:
    return structure[:64]
