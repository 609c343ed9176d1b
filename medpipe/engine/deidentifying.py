"""`medpipe deidentify`: a folder of DICOM files to another one without identities, and a report of what was changed."""

import csv
import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medpipe.config.errors import ConfigError, Problem
from medpipe.geometry.atomic import written_beside
from medpipe.geometry.faults import DataFault, DataFaults
from medpipe.stages.stage import write_json

if TYPE_CHECKING:
    from pydicom import Dataset

    from medpipe.dicom.deidentification.profile import Changes, Options

REPORT_FILE = "deidentification.json"


@dataclass(frozen=True)
class DeidentifyRequest:
    """The command's options as given."""

    key: Path
    retain_dates: bool = False
    retain_characteristics: bool = False
    clean_descriptors: bool = False
    words: Path | None = None
    keep_private: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    keep_regions: bool = False
    uid_root: str = "2.25."
    mapping: Path | None = None
    skip_refused: bool = False


@dataclass
class Outcome:
    """What became of the files; `identities` (pseudonym -> original) go to the mapping alone, if one was asked for."""

    written: int = 0
    patients: set[str] = field(default_factory=set)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    masked: int = 0
    refused: list[DataFault] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)
    identities: dict[str, str] = field(default_factory=dict)


def wrong(message: str) -> ConfigError:
    return ConfigError([Problem("medpipe deidentify", None, None, message)])


def deidentify_command(source: Path, to: Path, request: DeidentifyRequest, *, as_json: bool) -> int:
    """De-identify every DICOM file below `source` into `to`; the exit code. Refused files are raised as DataFaults."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise wrong(f"{to}: files are written into a new or empty folder")
    if source.is_dir() and to.resolve().is_relative_to(source.resolve()):
        raise wrong(f"{to} lies within {source}, which is read whole")
    for path in (request.key, request.mapping):
        if path is not None and path.resolve().is_relative_to(to.resolve()):
            raise wrong(f"{path} would lie beside the de-identified files, and undo them: keep it elsewhere")
    options, made_key = options_of(request)
    if made_key:
        print(
            f"made a new key: {request.key}; keep it secret, and with it files that come later match", file=sys.stderr
        )
    outcome = Outcome()
    for path in files_of(source):
        try:
            _one(path, to, options, outcome)
        except DataFault as fault:
            outcome.refused.append(fault)
        except OSError as error:
            print(f"medpipe deidentify: {error.filename or to}: {error.strerror or error}", file=sys.stderr)
            return 1
    document = report_of(outcome, request)
    if outcome.written:
        write_json(to / REPORT_FILE, document)
        _write_mapping(request.mapping, outcome.identities)
    tell(document, to, as_json=as_json)
    if outcome.refused and not request.skip_refused:
        raise DataFaults(outcome.refused)
    return 0 if outcome.written else 3


def options_of(request: DeidentifyRequest) -> "tuple[Options, bool]":
    """The profile's options, checked; and whether the key was made now."""
    from medpipe.dicom.deidentification.keyed import Keyed, read_key
    from medpipe.dicom.deidentification.pixels import Rectangle
    from medpipe.dicom.deidentification.profile import Options
    from medpipe.dicom.writing import checked_root

    try:
        root = checked_root(request.uid_root)
        masks = tuple(Rectangle.parse(text) for text in request.masks)
        private = frozenset(private_of(text) for text in request.keep_private)
    except ValueError as error:
        raise wrong(str(error)) from None
    key, made = read_key(request.key)
    words = known_words(request.words) if request.clean_descriptors else frozenset()
    return Options(
        Keyed(key, root), request.retain_dates, request.retain_characteristics, request.clean_descriptors, words,
        private, masks, request.keep_regions,
    ), made  # fmt: skip


def private_of(text: str) -> tuple[int, str, int]:
    """GROUP,CREATOR,ELEMENT such as 0019,GEMS_ACQU_01,1B: an element's number without its block."""
    parts = [part.strip() for part in text.split(",")]
    try:
        group, element = int(parts[0], 16), int(parts[-1], 16)
        if len(parts) < 3 or group % 2 == 0 or not 0 <= element <= 0xFF:
            raise ValueError
    except ValueError:
        raise ValueError(
            f"a private element is GROUP,CREATOR,ELEMENT in hexadecimal, such as 0019,GEMS_ACQU_01,1B, got {text!r}"
        ) from None
    return group, ",".join(parts[1:-1]), element


def known_words(extra: Path | None) -> frozenset[str]:
    """Words that descriptions may keep: data/vocabularies/descriptor_words.txt, names of structures, and the user's."""
    from medpipe.config.share import share_folder
    from medpipe.datasets.manifest import load_manifest
    from medpipe.dicom.deidentification.words import words_of

    texts: list[str] = []
    for path in (share_folder("data") / "vocabularies" / "descriptor_words.txt", extra):
        if path is not None:
            try:
                lines = path.read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise wrong(f"{path}: cannot be read as text: {error}") from None
            texts += [line for line in lines if not line.startswith("#")]
    for path in sorted((share_folder("data") / "manifests").glob("*.yaml")):
        for name, structure in load_manifest(path.stem).structures.items():
            texts += [name, *structure.names]
    return frozenset(words_of(texts))


def files_of(source: Path) -> list[Path]:
    from medpipe.dicom.reading import dicom_files

    return [source] if source.is_file() else dicom_files(source)


def _one(path: Path, to: Path, options: "Options", outcome: Outcome) -> None:
    """One file, written under its new UIDs and read back; DataFault where it is refused."""
    from medpipe.dicom.deidentification.profile import Refused
    from medpipe.dicom.reading import is_meant_as_dicom, read_dataset, text

    try:
        dataset = read_dataset(path, with_pixels=True)
    except DataFault:
        if is_meant_as_dicom(path):
            raise
        outcome.passed_over.append(path.name)
        return
    original = text(dataset, "PatientID")
    try:
        changes = _changed(path, dataset, to, options)
    except Refused as refused:
        raise DataFault(path, str(refused)) from None
    outcome.written += 1
    outcome.masked += changes.masked
    outcome.counts.update(changes.counts)
    outcome.patients.add(str(dataset.PatientID))
    outcome.identities[str(dataset.PatientID)] = original


def _changed(path: Path, dataset: "Dataset", to: Path, options: "Options") -> "Changes":
    """De-identified in place and written. DataFault for values that cannot be read or written again."""
    from medpipe.dicom.deidentification.profile import Refused, deidentify
    from medpipe.dicom.reading import faults_by_name, lenient

    @faults_by_name
    def change(_: Path) -> "Changes | Refused":
        try:
            with lenient():
                changes = deidentify(dataset, options)
                folder = to / dataset.PatientID / dataset.SeriesInstanceUID
                _write(folder / f"{dataset.SOPInstanceUID}.dcm", dataset)
                return changes
        except Refused as refused:
            return refused

    found = change(path)
    if isinstance(found, Refused):
        raise found
    return found


def _write(path: Path, dataset: "Dataset") -> None:
    from medpipe.dicom.reading import read_dataset

    if path.exists():
        raise ValueError("its SOP instance UID was there already: a duplicate")
    with written_beside(path) as partial:
        dataset.save_as(partial, enforce_file_format=True)
        again = read_dataset(partial, with_pixels=True)
        assert again.SOPInstanceUID == dataset.SOPInstanceUID


def _write_mapping(path: Path | None, identities: dict[str, str]) -> None:
    if path is None:
        return
    with written_beside(path) as partial:
        partial.touch(mode=0o600)
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["pseudonym", "patient_id"])
            writer.writerows(sorted(identities.items()))


def report_of(outcome: Outcome, request: DeidentifyRequest) -> dict[str, Any]:
    """What was done, by attribute, without any value of any file."""
    from medpipe.dicom.deidentification.table import EDITION
    from medpipe.version import __version__

    return {
        "profile": f"Basic Application Level Confidentiality Profile, {EDITION}",
        "medpipe": __version__,
        "options": {
            "retain_longitudinal_dates_modified": request.retain_dates,
            "retain_patient_characteristics": request.retain_characteristics,
            "clean_descriptors": request.clean_descriptors,
            "private_elements_kept": list(request.keep_private),
            "pixels_masked": [*request.masks, *(["outside ultrasound regions"] if request.keep_regions else [])],
        },
        "files_written": outcome.written,
        "files_masked": outcome.masked,
        "patients": len(outcome.patients),
        "changes": [
            {"attribute": keyword, "what": what, "files_or_items": count}
            for (keyword, what), count in sorted(outcome.counts.items())
        ],
        # By number: a file's name may be that of a patient. Names are printed, on the trusted side.
        "refused": Counter(fault.reason for fault in outcome.refused),
        "not_dicom": len(outcome.passed_over),
        "not_done": "faces in head CT and MR, and text in pixels that no mask covers, are not removed",
    }


def tell(document: dict[str, Any], to: Path, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(document, indent=2))
        return
    print(f"{document['files_written']} files of {document['patients']} patients written to {to}")
    kinds = Counter[str]()
    for change in document["changes"]:
        kinds[change["what"]] += 1
    print("attributes: " + (", ".join(f"{count} {what}" for what, count in sorted(kinds.items())) or "none changed"))
    if document["not_dicom"]:
        print(f"{document['not_dicom']} files are not DICOM, passed over")
    print(f"note: {document['not_done']}")
