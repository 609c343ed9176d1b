"""What the Basic Application Level Confidentiality Profile (PS3.15 Table E.1-1, edition 2026c) asks of each attribute.

The table is that of `dicom-anonymizer` (BSD-3), which generates it from the standard. Its own engine is not used: it
leaves attributes within sequences as they are, and makes UIDs at random, which differ from run to run.
"""

from enum import StrEnum
from functools import cache

EDITION = "PS3.15 2026c Table E.1-1"


class Action(StrEnum):
    """Of the table's compound codes the one that keeps every object valid: X/Z empties, X/D, Z/D and X/Z/D replace."""

    remove = "removed"
    empty = "emptied"
    dummy = "replaced by a dummy"
    uid = "UID replaced"
    items = "items cleaned"  # of a sequence that must stay: the same table for what is in it


# Retain Patient Characteristics Option, column of Table E.1-1: kept (K). Those marked C there are free text, and go.
PATIENT_CHARACTERISTICS = (
    "PatientAge", "PatientSex", "PatientSize", "PatientWeight", "EthnicGroup", "EthnicGroupCodeSequence",
    "EthnicGroups", "PregnancyStatus", "SmokingStatus", "PatientSexNeutered",
)  # fmt: skip

# Free text that the Clean Descriptors Option cleans instead of removing. A subset of its column: what describes a
# technique or a region. Comments, histories and reasons are prose about a person, and go.
DESCRIPTORS = (
    "StudyDescription", "SeriesDescription", "ProtocolName", "AcquisitionProtocolDescription",
    "AcquisitionDeviceProcessingDescription", "RequestedProcedureDescription", "PerformedProcedureStepDescription",
    "ScheduledProcedureStepDescription", "DerivationDescription", "ContrastBolusAgent", "StructureSetLabel",
    "StructureSetName", "StructureSetDescription", "ROIName", "ROIDescription", "ROIGenerationDescription",
    "ROIObservationLabel", "ROIObservationDescription", "RTPlanLabel", "RTPlanName", "RTPlanDescription",
    "BeamDescription", "DoseReferenceDescription", "PrescriptionDescription", "FractionGroupDescription",
    "ContributionDescription", "TreatmentSite", "SetupTechniqueDescription", "FixationDeviceDescription",
    "ShieldingDeviceDescription", "BolusDescription",
)  # fmt: skip


_GRAPHIC_ANNOTATION = 0x00700001  # a presentation state is nothing without it; its text is replaced, item by item


@cache
def actions() -> tuple[dict[int, Action], tuple[tuple[int, int, Action], ...]]:
    """Tag -> action, and (tag, mask, action) of repeating groups such as 60xx,3000."""
    from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as table

    codes = {
        "D_TAGS": Action.dummy, "Z_TAGS": Action.empty, "X_TAGS": Action.remove, "U_TAGS": Action.uid,
        "Z_D_TAGS": Action.dummy, "X_Z_TAGS": Action.empty, "X_D_TAGS": Action.dummy,
        "X_Z_D_TAGS": Action.dummy, "X_Z_U_STAR_TAGS": Action.items,
    }  # fmt: skip
    single: dict[int, Action] = {}
    repeating = []
    for name, action in codes.items():
        for entry in getattr(table, name):
            tag = entry[0] << 16 | entry[1]
            if len(entry) == 4:
                repeating.append((tag, entry[2] << 16 | entry[3], action))
            else:
                single[tag] = action
    return single, tuple(repeating)


def action_of(tag: int, vr: str) -> Action | None:
    """The action for an attribute; None keeps it.

    What the table does not name is kept, but not a name, a date, a UID or what the dictionary does not know either:
    attributes newer than the table may hold them. A sequence that is to be replaced goes: a dummy item helps nobody.
    """
    single, repeating = actions()
    found = single.get(tag)
    if found is None:
        found = next((action for known, mask, action in repeating if tag & mask == known & mask), None)
    if found is Action.dummy and vr == "SQ":
        return Action.items if tag == _GRAPHIC_ANNOTATION else Action.remove
    if found is not None:
        return found
    if vr in ("PN", "DA", "DT", "UN"):
        return Action.remove
    return Action.uid if vr == "UI" else None
