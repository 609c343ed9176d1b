"""The profile with its options on one object, in place: every attribute at every depth, and what the standard adds."""

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from medpipe.dicom.deidentification.keyed import Keyed, shifted
from medpipe.dicom.deidentification.pixels import Rectangle, mask_pixels, why_prose, why_text
from medpipe.dicom.deidentification.table import DESCRIPTORS, EDITION, PATIENT_CHARACTERISTICS, Action, action_of
from medpipe.dicom.deidentification.words import cleaned
from medpipe.dicom.reading import text
from medpipe.version import __version__

if TYPE_CHECKING:
    from pydicom import DataElement, Dataset

# Dummies by value representation; what stands in no list is emptied.
_DUMMIES: dict[str, Any] = {
    **dict.fromkeys(("AE", "CS"), "ANONYMOUS"),
    **dict.fromkeys(("LO", "LT", "PN", "SH", "ST", "UC", "UT"), "ANONYMIZED"),
    **dict.fromkeys(("DS", "IS"), "0"),
    **dict.fromkeys(("FD", "FL", "SL", "SS", "UL", "US"), 0),
    **{"AS": "000Y", "DA": "19000101", "TM": "000000", "DT": "19000101000000", "UR": "urn:anonymized"},
}
_DATES = ("DA", "DT", "TM")
# Dates that are no part of a course in time: the option for longitudinal dates does not keep them.
_NEVER_SHIFTED = ("PatientBirthDate", "PatientBirthTime", "PatientDeathDateInAlternativeCalendar")
_OWN_WORDS = frozenset({"anonymized", "anonymous", "medpipe"})  # of dummies: a set may come anonymised already
_LEAST_WORD = 4  # letters of a name or number that may not be found in the result


class Refused(ValueError):
    """An object that cannot be de-identified as asked; it is not written."""


@dataclass(frozen=True)
class Options:
    """The options of PS3.15 E.3; `words` are those that clean descriptions may keep, private elements by creator."""

    keyed: Keyed
    retain_dates: bool = False
    retain_characteristics: bool = False
    clean_descriptors: bool = False
    words: frozenset[str] = frozenset()
    keep_private: frozenset[tuple[int, str, int]] = frozenset()  # (group, creator, element without its block)
    masks: tuple[Rectangle, ...] = ()
    keep_regions: bool = False


@dataclass
class Changes:
    """(keyword, what was done) -> how often; and whether pixels were masked."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    masked: bool = False

    def note(self, element: "DataElement", what: str) -> None:
        self.counts[element.keyword or f"private {element.tag}", what] += 1


def deidentify(dataset: "Dataset", options: Options) -> Changes:
    """Apply the profile to a dataset that was read whole. Raises Refused, and leaves it half done then."""
    reason = why_prose(dataset)
    if reason:
        raise Refused(reason)
    changes = Changes()
    reason = why_text(dataset)
    if reason:
        try:
            changes.masked = mask_pixels(dataset, options.masks, keep_regions=options.keep_regions)
        except (ValueError, AttributeError, RuntimeError, NotImplementedError) as error:
            raise Refused(f"its pixels cannot be masked: {error}") from error
        if not changes.masked:
            raise Refused(f"{reason}: say which pixels to mask, or leave it out")
    patient_id, issuer = who(dataset), text(dataset, "IssuerOfPatientID")
    words = identity_words(dataset)
    days = options.keyed.shift_days(patient_id, issuer) if options.retain_dates else 0
    _Cleaner(options, changes, days, words).clean(dataset)
    pseudonym = options.keyed.pseudonym(patient_id, issuer)
    dataset.PatientID = dataset.PatientName = pseudonym
    _state_what_was_done(dataset, options, changes)
    left = left_over(dataset, words)
    if left:
        raise Refused(f"{', '.join(left)} still holds a word of a patient's or physician's name or number")
    return changes


def who(dataset: "Dataset") -> str:
    """What tells patients apart: PatientID; without one name and birth date; without these the study."""
    named = f"{text(dataset, 'PatientName')}\x1f{text(dataset, 'PatientBirthDate')}"
    return text(dataset, "PatientID") or (named if named != "\x1f" else text(dataset, "StudyInstanceUID"))


@dataclass
class _Cleaner:
    """Walks a dataset; a tree of items deep is one walk."""

    options: Options
    changes: Changes
    days: int
    identity: frozenset[str]

    def clean(self, dataset: "Dataset") -> None:
        for tag in list(dataset.keys()):
            element = dataset[tag]
            if element.tag.is_private:
                self._private(dataset, element)
            else:
                self._standard(dataset, element)

    def _private(self, dataset: "Dataset", element: "DataElement") -> None:
        """Dropped unless listed; a creator stays with what it created."""
        tag = element.tag
        if tag.is_private_creator:
            creator = str(element.value).strip()
            block = tag.element << 8
            if any(
                (tag.group, creator, other.tag.element & 0xFF) in self.options.keep_private
                for other in dataset
                if other.tag.group == tag.group and other.tag.element & 0xFF00 == block
            ):
                return
        else:
            creator = str(dataset.get((tag.group, tag.element >> 8), _Nothing).value or "").strip()
            if (tag.group, creator, tag.element & 0xFF) in self.options.keep_private:
                if element.VR == "SQ":
                    self._items(element)
                    return
                if element.VR not in ("PN", "DA", "DT", "UI"):
                    self.changes.note(element, "kept as listed")
                    return
        self.changes.note(element, "private, removed")
        del dataset[tag]

    def _standard(self, dataset: "Dataset", element: "DataElement") -> None:
        action = action_of(int(element.tag), element.VR)
        if action is not None and self._retained(dataset, element, action):
            return
        if action is Action.remove:
            del dataset[element.tag]
        elif action is Action.empty:
            element.value = [] if element.VR == "SQ" else None
        elif action is Action.dummy:
            element.value = _DUMMIES.get(element.VR)
        elif action is Action.uid:
            if not self._uid(element):
                return
        elif element.VR == "SQ":
            self._items(element)
            return
        else:
            return
        self.changes.note(element, str(action))

    def _retained(self, dataset: "Dataset", element: "DataElement", action: Action) -> bool:
        """Kept, shifted or cleaned by an option; True where that is all there is to do."""
        options, keyword = self.options, element.keyword
        if options.retain_characteristics and keyword in PATIENT_CHARACTERISTICS:
            if keyword == "PatientAge" and str(element.value or "")[-1:] == "Y" and str(element.value) > "089Y":
                element.value = "090Y"  # few enough people are older that their age names them
            self.changes.note(element, "kept, patient characteristic")
            return True
        if options.retain_dates and element.VR in _DATES and keyword not in _NEVER_SHIFTED and action is not Action.uid:
            return self._shift(element)
        if options.clean_descriptors and keyword in DESCRIPTORS and element.VR != "SQ":
            words = options.words - self.identity
            element.value = cleaned(str(element.value or ""), words) or None
            if element.value is None and action is Action.dummy:
                return False
            self.changes.note(element, "cleaned")
            return True
        return False

    def _shift(self, element: "DataElement") -> bool:
        if element.VR == "TM" or not element.value:
            return True
        values = element.value if element.VM > 1 else [element.value]
        moved = [shifted(str(value), element.VR, self.days) for value in values]
        if None in moved:
            return False  # no date: the basic profile decides
        element.value = moved if element.VM > 1 else moved[0]
        self.changes.note(element, "shifted")
        return True

    def _uid(self, element: "DataElement") -> bool:
        """Instance UIDs by key; those that DICOM itself registers say what a thing is, and stay."""
        if not element.value:
            return False
        values = list(element.value) if element.VM > 1 else [element.value]
        mapped = [str(v) if str(v).startswith("1.2.840.10008.") else self.options.keyed.uid(str(v)) for v in values]
        if mapped == [str(value) for value in values]:
            return False
        element.value = mapped if element.VM > 1 else mapped[0]
        return True

    def _items(self, element: "DataElement") -> None:
        for item in element.value or []:
            self.clean(item)


class _Nothing:
    value = ""


def _state_what_was_done(dataset: "Dataset", options: Options, changes: Changes) -> None:
    """PS3.15 E.2: identity removed, by which method (codes of CID 7050), what became of time; a clean header."""
    from pydicom import Dataset

    codes = [("113100", "Basic Application Confidentiality Profile")]
    if changes.masked:
        codes.append(("113101", "Clean Pixel Data Option"))
    if options.clean_descriptors:
        codes.append(("113105", "Clean Descriptors Option"))
    if options.retain_dates:
        codes.append(("113107", "Retain Longitudinal Temporal Information Modified Dates Option"))
    if options.retain_characteristics:
        codes.append(("113108", "Retain Patient Characteristics Option"))
    if options.keep_private:
        codes.append(("113111", "Retain Safe Private Option"))
    items = []
    for value, meaning in codes:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
        items.append(item)
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = f"medpipe {__version__}, {EDITION}"
    dataset.DeidentificationMethodCodeSequence = items
    dataset.LongitudinalTemporalInformationModified = "MODIFIED" if options.retain_dates else "REMOVED"
    meta = dataset.file_meta
    for keyword in list(meta.keys()):
        if meta[keyword].keyword not in (
            "FileMetaInformationGroupLength", "FileMetaInformationVersion", "MediaStorageSOPClassUID",
            "TransferSyntaxUID",
        ):  # fmt: skip
            del meta[keyword]
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.preamble = b"\0" * 128


def identity_words(dataset: "Dataset") -> frozenset[str]:
    """Words of four letters or digits and more that name the patient or a physician."""
    found: set[str] = set()
    for element in dataset.iterall():
        if element.VR == "PN" or element.keyword in ("PatientID", "OtherPatientIDs", "AccessionNumber"):
            found.update(_words(str(element.value or "")))
    return frozenset(found - _OWN_WORDS)


def left_over(dataset: "Dataset", words: frozenset[str]) -> list[str]:
    """Keywords of text that still holds one of the words."""
    found = []
    for element in dataset.iterall():
        if element.VR in ("AE", "LO", "LT", "PN", "SH", "ST", "UC", "UT", "UN"):
            value = element.value
            content = value.decode("latin-1") if isinstance(value, bytes) else str(value or "")
            if _words(content) & words:
                found.append(element.keyword or str(element.tag))
    return found


def _words(content: str) -> set[str]:
    normalised = "".join(letter.lower() if letter.isalnum() else " " for letter in content)
    return {word for word in normalised.split() if len(word) >= _LEAST_WORD}
