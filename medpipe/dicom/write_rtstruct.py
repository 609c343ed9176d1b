"""Masks as an RTSTRUCT that refers to their CT series, along voxel edges, read back and compared before it is kept."""

import colorsys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from medpipe.dicom.contours import mask_to_contours
from medpipe.dicom.keyholes import join_holes
from medpipe.dicom.maker import Model, contributing_equipment, study_module, with_frame_of_reference
from medpipe.dicom.read_back import check_rtstruct
from medpipe.dicom.rtstruct import RtStruct
from medpipe.dicom.series import Series
from medpipe.dicom.structure_masks import StructureMasks
from medpipe.dicom.writing import RESEARCH_USE, UID_ROOT, add_maker, decimals, save, seeded_uid
from medpipe.geometry.atomic import written_beside
from medpipe.geometry.volume import MaskStack
from medpipe.geometry.world import flip_points

if TYPE_CHECKING:
    from pydicom import Dataset

Holes = Literal["keyhole", "inner"]

_RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
_STUDY = "1.2.840.10008.3.1.2.3.1"  # the retired class that RT Referenced Study Sequence asks for
_TARGETS = {"ctv": "CTV", "gtv": "GTV", "ptv": "PTV", "applicator": "BRACHY_ACCESSORY", "body": "EXTERNAL"}


def write_rtstruct(
    path: Path | str,
    masks: MaskStack | StructureMasks,
    series: Series,
    *,
    roi_names: Mapping[str, str] | None = None,
    interpreted_types: Mapping[str, str] | None = None,
    description: str = "automatic segmentation",
    holes: Holes = "keyhole",
    model: Model | None = None,
    uid_root: str = UID_ROOT,
    notes: list[str] | None = None,
) -> RtStruct:
    """Write the masks as regions of interest on the slices of `series`; returns the file as it was read back.

    The masks may have any axes as long as they lie on the series' voxels; structures may overlap, and an empty one
    gives a region without contours. Unapproved, generated automatically, research use only; the same masks give the
    same bytes.

    roi_names          structure -> ROI name; the structure's own name without
    interpreted_types  structure -> RT ROI Interpreted Type; by the name's first word without (CTV, GTV, PTV, ORGAN ...)
    holes              joined to the outline by a keyhole, or inner contours by exclusive or (as some planning systems
                       write them, of type CLOSED_PLANAR like all others)
    model              what segmented: named in Contributing Equipment, with the weights' checksum
    uid_root           under which new UIDs are made

    Before the file gets its name it is read back and compared with the masks in patient coordinates, by the images it
    refers to. ValueError if the masks do not lie on the series' grid, if names repeat or do not fit.
    """
    path = Path(path)
    series = with_frame_of_reference(series, uid_root, notes)
    masks = (masks if isinstance(masks, StructureMasks) else StructureMasks(masks)).on_series_grid(series.volume.grid)
    names = [dict(roi_names or {}).get(structure, structure) for structure in masks.structures]
    unfit = [name for name in names if not 1 <= len(name) <= 64 or name != name.strip() or "\\" in name]
    if len(set(names)) != len(names) or unfit:
        raise ValueError(f"ROI names differ, have 1 to 64 characters, no backslash and no blank at an end, got {names}")
    types = [dict(interpreted_types or {}).get(s, _interpreted_type(s)) for s in masks.structures]
    dataset = _header(series, masks, names, description, uid_root, holes, model)
    for number, (mask, name, kind) in enumerate(zip(masks.masks(), names, types, strict=True), start=1):
        _add_roi(dataset, number, name, kind, _contour_items(mask, series, holes), series)
    with written_beside(path) as partial:
        save(dataset, partial)
        found = check_rtstruct(partial, masks, names, series)
    return replace(found, path=path, rois=tuple(replace(roi, path=path) for roi in found.rois))


def _header(
    series: Series, masks: StructureMasks, names: list[str], description: str, uid_root: str, holes: Holes,
    model: Model | None,
) -> "Dataset":  # fmt: skip
    """Everything but the regions of interest. No time of writing: the same input gives the same bytes."""
    from pydicom import Dataset

    identity = (series.series_uid, "\x1e".join(names), description, masks.digest())
    # Other outlines or another model are another object, even where the voxels are the same.
    identity = (*identity, holes, model.weights_sha256 if model else "")
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = _RTSTRUCT
    dataset.SOPInstanceUID = seeded_uid("rtstruct instance", *identity, root=uid_root)
    dataset.Modality = "RTSTRUCT"
    add_maker(dataset)
    if model is not None:
        dataset.ContributingEquipmentSequence = [contributing_equipment(model, uid_root)]
    for keyword, value in study_module(series).items():
        setattr(dataset, keyword, value)
    dataset.StudyInstanceUID = series.study_uid
    dataset.SeriesInstanceUID = seeded_uid("rtstruct series", *identity, root=uid_root)
    dataset.SeriesNumber = None
    dataset.SeriesDescription = f"{description}, {RESEARCH_USE}"[:64]
    dataset.OperatorsName = ""
    dataset.InstanceNumber = 1
    dataset.FrameOfReferenceUID = series.frame_of_reference_uid
    dataset.PositionReferenceIndicator = ""
    dataset.StructureSetLabel = "RESEARCH ONLY"  # 16 characters at most
    dataset.StructureSetName = f"{description}, {RESEARCH_USE}"[:64]
    dataset.StructureSetDescription = f"{description} by {dataset.Manufacturer}: {RESEARCH_USE}, not for clinical use"
    dataset.StructureSetDate = ""
    dataset.StructureSetTime = ""
    dataset.ReferencedFrameOfReferenceSequence = [_frame_reference(series)]
    dataset.StructureSetROISequence = []
    dataset.ROIContourSequence = []
    dataset.RTROIObservationsSequence = []
    dataset.ApprovalStatus = "UNAPPROVED"
    return dataset


def _frame_reference(series: Series) -> "Dataset":
    from pydicom import Dataset

    images, study, frame = Dataset(), Dataset(), Dataset()
    images.SeriesInstanceUID = series.series_uid
    images.ContourImageSequence = [_image_reference(series, d) for d in range(len(series.sop_uids))]
    study.ReferencedSOPClassUID = _STUDY
    study.ReferencedSOPInstanceUID = series.study_uid
    study.RTReferencedSeriesSequence = [images]
    frame.FrameOfReferenceUID = series.frame_of_reference_uid
    frame.RTReferencedStudySequence = [study]
    return frame


def _image_reference(series: Series, d: int) -> "Dataset":
    from pydicom import Dataset

    reference = Dataset()
    reference.ReferencedSOPClassUID = series.sop_class_uid
    reference.ReferencedSOPInstanceUID = series.sop_uids[d]
    return reference


def _contour_items(mask: NDArray[np.bool_], series: Series, holes: Holes) -> list["Dataset"]:
    from pydicom import Dataset

    items = []
    for d in np.flatnonzero(mask.any(axis=(1, 2))):
        outlines = mask_to_contours(mask[d])
        for polygon in join_holes(outlines) if holes == "keyhole" else outlines:
            index = np.column_stack([np.full(len(polygon), d), polygon])
            points = flip_points(series.volume.grid.index_to_world(index))
            item = Dataset()
            item.ContourImageSequence = [_image_reference(series, int(d))]
            item.ContourGeometricType = "CLOSED_PLANAR"
            item.NumberOfContourPoints = len(points)
            item.ContourData = decimals(points.ravel())
            items.append(item)
    return items


def _add_roi(dataset: "Dataset", number: int, name: str, kind: str, items: list["Dataset"], series: Series) -> None:
    from pydicom import Dataset

    roi, contours, observation = Dataset(), Dataset(), Dataset()
    roi.ROINumber = number
    roi.ReferencedFrameOfReferenceUID = series.frame_of_reference_uid
    roi.ROIName = name
    roi.ROIGenerationAlgorithm = "AUTOMATIC"
    roi.ROIGenerationDescription = RESEARCH_USE
    contours.ROIDisplayColor = _colour(number)
    contours.ReferencedROINumber = number
    if items:
        contours.ContourSequence = items
    observation.ObservationNumber = number
    observation.ReferencedROINumber = number
    observation.RTROIInterpretedType = kind
    observation.ROIInterpreter = ""
    dataset.StructureSetROISequence.append(roi)
    dataset.ROIContourSequence.append(contours)
    dataset.RTROIObservationsSequence.append(observation)


def _interpreted_type(structure: str) -> str:
    return _TARGETS.get(structure.lower().split("_")[0], "ORGAN")


def _colour(number: int) -> list[int]:
    """Hues a golden angle apart, so that neighbours in the list are told apart."""
    return [round(255 * part) for part in colorsys.hsv_to_rgb(number * 0.381966 % 1, 0.8, 0.95)]
