"""What a written object says about what made it: device, model, weights, and the series it was made from."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from medpipe.dicom.writing import MANUFACTURER, RESEARCH_USE, UID_ROOT, seeded_uid, valid_date, valid_time
from medpipe.version import __version__

if TYPE_CHECKING:
    from pydicom import Dataset

    from medpipe.dicom.series import Series

logger = logging.getLogger(__name__)
_SEXES = ("M", "F", "O")
# DICOM CID 7005, Contributing Equipment Purposes of Reference.
_PROCESSING = ("109102", "DCM", "Processing Equipment")


@dataclass(frozen=True)
class Model:
    """The networks behind an object: a name for people, and the SHA-256 of their weights."""

    name: str
    weights_sha256: str
    version: str = __version__


def study_module(series: "Series") -> dict[str, str]:
    """Patient and study as in the CT, less what is not valid DICOM there (the word UNKNOWN for a date)."""
    found: Mapping[str, str] = series.study
    study = {keyword: found.get(keyword, "") for keyword in (
        "PatientName", "PatientID", "StudyID", "AccessionNumber", "ReferringPhysicianName", "StudyDescription",
    )}  # fmt: skip
    study["PatientBirthDate"] = valid_date(found.get("PatientBirthDate", ""))
    study["StudyDate"] = valid_date(found.get("StudyDate", ""))
    study["StudyTime"] = valid_time(found.get("StudyTime", ""))
    sex = found.get("PatientSex", "")
    study["PatientSex"] = sex if sex in _SEXES else ""
    # SH holds 16 characters, LO 64; an export that broke the rule is not handed on.
    study["StudyID"], study["AccessionNumber"] = study["StudyID"][:16], study["AccessionNumber"][:16]
    study["StudyDescription"] = study["StudyDescription"][:64]
    return study


def with_frame_of_reference(series: "Series", uid_root: str, notes: list[str] | None) -> "Series":
    """The series itself or, where its images name no frame of reference, with one that derives from its UID.

    An object must name a frame. Nothing but this series can share the one made here, and it is the same for every
    object on the series; a random one, as published writers make it, would differ from object to object.
    """
    if series.frame_of_reference_uid:
        return series
    note = f"{series.folder.name}: the CT names no frame of reference; the objects name one made from its series UID"
    logger.warning(note)
    if notes is not None:
        notes.append(note)
    return replace(series, frame_of_reference_uid=seeded_uid("frame of reference", series.series_uid, root=uid_root))


def contributing_equipment(model: Model, uid_root: str = UID_ROOT) -> "Dataset":
    """An item of Contributing Equipment Sequence, as IHE AI Results asks: a device UID for each set of weights."""
    from pydicom import Dataset

    item, purpose = Dataset(), Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = _PROCESSING
    item.PurposeOfReferenceCodeSequence = [purpose]
    item.Manufacturer = MANUFACTURER
    item.ManufacturerModelName = model.name[:64]
    item.SoftwareVersions = [model.version, f"weights sha256 {model.weights_sha256[:48]}"]
    item.DeviceSerialNumber = model.weights_sha256[:64]
    item.DeviceUID = seeded_uid("weights", model.weights_sha256, root=uid_root)
    item.ContributionDescription = (
        f"segmentation by {model.name[:64]}, weights sha256 {model.weights_sha256}, {RESEARCH_USE}"
    )
    return item
