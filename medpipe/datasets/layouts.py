"""The folders that data sets come in, each listed as cases: which file is whose image, which are its labels.

Nothing is read but names, tables and DICOM headers. Faults are collected, so that one pass names them all.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medpipe.datasets.cases import Case
from medpipe.datasets.manifest import Layout, Manifest
from medpipe.datasets.structure_names import normalise_name
from medpipe.datasets.tables import read_table
from medpipe.geometry.faults import DataFault, DataFaults

NIFTI_ENDINGS = (".nii.gz", ".nii")
CHANNEL = re.compile(r"_(\d{4})$")
LABEL_FAULT = "image without labels although other cases have them; add them, or set if_absent: not_annotated"


def list_layout(manifest: Manifest, folder: Path) -> list[Case]:
    """All cases below `folder`, by case id. Raises DataFaults, all at once."""
    if not folder.is_dir():
        raise DataFaults([DataFault(folder, f"no such folder; manifest {manifest.manifest} expects its files there")])
    faults: list[DataFault] = []
    cases = LISTERS[manifest.layout](manifest, folder, faults)
    if not manifest.structures:
        cases = [case if case.labels is None else replace(case, labels=None) for case in cases]
    cases = _with_patients(cases, manifest, folder, faults)
    for case_id, count in Counter(case.case_id for case in cases).items():
        if count > 1:
            faults.append(DataFault(folder, f"case id {case_id} stands for {count} cases; ids must be unique"))
    if manifest.structures and manifest.if_absent == "absent" and any(case.labels for case in cases):
        faults += [DataFault(case.image, LABEL_FAULT) for case in cases if case.labels is None]
    if not cases and not faults:
        faults.append(DataFault(folder, f"no case of layout {manifest.layout} ({EXPECTED[manifest.layout]})"))
    if faults:
        raise DataFaults(faults)
    return sorted(cases, key=lambda case: case.case_id)


def stem(path: Path) -> str:
    """A NIfTI file's name without its ending."""
    return next((path.name[: -len(ending)] for ending in NIFTI_ENDINGS if path.name.endswith(ending)), path.stem)


def nifti_files(folder: Path) -> list[Path]:
    """The NIfTI files of a folder, hidden ones left out."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.name.endswith(NIFTI_ENDINGS) and path.name[0] != ".")


def nifti_named(folder: Path, name: str) -> Path | None:
    """`name`.nii.gz or `name`.nii, whichever is there."""
    return next((folder / (name + end) for end in NIFTI_ENDINGS if (folder / (name + end)).is_file()), None)


def list_nnunet(manifest: Manifest, folder: Path, faults: list[DataFault]) -> list[Case]:
    """imagesTr/ID_0000.nii.gz, labelsTr/ID.nii.gz, dataset.json with the names of the label values."""
    label_values = _label_values(manifest, folder / "dataset.json", faults)
    labels = {stem(path): path for path in nifti_files(folder / "labelsTr")}
    cases = []
    for path in nifti_files(folder / "imagesTr"):
        channel = CHANNEL.search(stem(path))
        if channel and channel[1] != "0000":
            faults.append(DataFault(path, f"channel {channel[1]}: medpipe reads CT, one channel (_0000) a case"))
            continue
        case_id = CHANNEL.sub("", stem(path))
        cases.append(Case(case_id, case_id, path, labels.pop(case_id, None), manifest, label_values))
    faults += [DataFault(path, "labels without an image in imagesTr") for path in labels.values()]
    return cases


def list_totalsegmentator(manifest: Manifest, folder: Path, faults: list[DataFault]) -> list[Case]:
    """ID/ct.nii.gz, ID/segmentations/STRUCTURE.nii.gz; meta.csv may name the parts."""
    meta = folder / "meta.csv"
    parts = {row["image_id"]: row.get("split", "") for row in read_table(meta, ("image_id",))} if meta.is_file() else {}
    cases = []
    for path in sorted(entry for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."):
        image = nifti_named(path, "ct")
        if image is None:
            faults.append(DataFault(path, "no ct.nii.gz in this case's folder"))
            continue
        masks = path / "segmentations"
        labels = masks if masks.is_dir() else None
        cases.append(Case(path.name, path.name, image, labels, manifest, listed_part=parts.get(path.name) or None))
    return cases


def list_table(manifest: Manifest, folder: Path, faults: list[DataFault]) -> list[Case]:
    """A CSV with columns case_id and image; patient_id, labels and split as far as known. Paths are relative to it."""
    table = folder / manifest.table
    label_values = _label_values(manifest, folder / "dataset.json", faults)
    root, cases = folder.absolute(), []
    for row in read_table(table, ("case_id", "image")):
        image = root / row["image"]
        labels = root / row["labels"] if row.get("labels") else None
        missing = [path for path in (image, labels) if path is not None and not path.exists()]
        faults += [
            DataFault(path, f"no such file; {table.name} names it for case {row['case_id']}") for path in missing
        ]
        if missing:
            continue
        values = label_values if labels is not None and labels.name.endswith(NIFTI_ENDINGS) else {}
        patient_id = row.get("patient_id") or row["case_id"]
        cases.append(
            Case(row["case_id"], patient_id, image, labels, manifest, values, listed_part=row.get("split") or None)
        )
    return cases


def list_folder(manifest: Manifest, folder: Path, faults: list[DataFault]) -> list[Case]:
    """Images without labels: NIfTI files, and folders that hold DICOM series, that match the manifest's `glob`."""
    from medpipe.datasets.dicom_layout import series_cases

    cases = []
    for path in sorted(path for path in folder.glob(manifest.glob) if path.name[0] != "."):
        case_id = "_".join(path.relative_to(folder).parts)
        if path.is_dir():
            cases += series_cases(manifest, path, case_id, faults)
        elif path.name.endswith(NIFTI_ENDINGS):
            case_id = case_id[: len(case_id) - len(path.name)] + stem(path)
            cases.append(Case(case_id, case_id, path, None, manifest))
    return cases


def list_dicom_rtstruct(manifest: Manifest, folder: Path, faults: list[DataFault]) -> list[Case]:
    """One folder an examination, with a CT series and an RTSTRUCT anywhere below it."""
    from medpipe.datasets.dicom_layout import list_examinations

    return list_examinations(manifest, folder, faults)


LISTERS: dict[Layout, Callable[[Manifest, Path, list[DataFault]], list[Case]]] = {
    "nnunet": list_nnunet,
    "totalsegmentator": list_totalsegmentator,
    "dicom_rtstruct": list_dicom_rtstruct,
    "table": list_table,
    "folder": list_folder,
}
EXPECTED: dict[Layout, str] = {
    "nnunet": "imagesTr/*_0000.nii.gz, labelsTr/*.nii.gz, dataset.json",
    "totalsegmentator": "*/ct.nii.gz, */segmentations/*.nii.gz",
    "dicom_rtstruct": "one folder a case with a CT series and an RTSTRUCT",
    "table": "a CSV with columns case_id, patient_id, image, labels",
    "folder": "NIfTI files or folders of DICOM series that match `glob`",
}


def _with_patients(cases: Sequence[Case], manifest: Manifest, folder: Path, faults: list[DataFault]) -> list[Case]:
    rule = manifest.patients
    if rule.table is not None:
        table = {
            row["case_id"]: row["patient_id"] for row in read_table(folder / rule.table, ("case_id", "patient_id"))
        }
        missing = [case for case in cases if case.case_id not in table]
        faults += [DataFault(folder / rule.table, f"no patient for case {case.case_id}") for case in missing]
        return [replace(case, patient_id=table.get(case.case_id, case.case_id)) for case in cases]
    if rule.pattern is None:
        return list(cases)
    found = []
    for case in cases:
        match = re.search(rule.pattern, case.case_id)
        if match is None:
            faults.append(
                DataFault(case.image, f"case {case.case_id}: the id does not match patients: {rule.pattern!r}")
            )
        found.append(replace(case, patient_id=match[1]) if match else case)
    return found


def _label_values(manifest: Manifest, path: Path, faults: list[DataFault]) -> dict[str, tuple[int, ...]]:
    """Structure -> its values in the label maps, from the manifest and, where it is silent, from dataset.json."""
    listed = _dataset_json_labels(path, faults) if path.is_file() else {}
    named = {normalise_name(name): values for name, values in listed.items()}
    values: dict[str, tuple[int, ...]] = {}
    for name, structure in manifest.structures.items():
        of_name = next(
            (named[key] for alias in (name, *structure.names) if (key := normalise_name(alias)) in named), ()
        )
        if structure.labels and of_name and set(structure.labels) != set(of_name):
            reason = f"{name} has label {_listed(of_name)} here, {_listed(structure.labels)} in the manifest"
            faults.append(DataFault(path, reason + "; two versions of a label list? mend the manifest"))
        values[name] = structure.labels or of_name
        if not values[name] and manifest.if_absent == "absent":
            known = ", ".join(listed) or "no names"
            faults.append(DataFault(path, f"no label value for {name}: neither in the manifest nor here ({known})"))
    return {name: found for name, found in values.items() if found}


def _dataset_json_labels(path: Path, faults: list[DataFault]) -> dict[str, tuple[int, ...]]:
    """Name -> values. Version 2 writes name: value or name: [values], version 1 "value": name."""
    try:
        labels: dict[str, Any] = json.loads(path.read_text(encoding="utf-8-sig"))["labels"]
        values = {
            (str(value) if key.isdigit() else key): _values(int(key) if key.isdigit() else value)
            for key, value in labels.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        faults.append(DataFault(path, f"`labels` cannot be read: {error!r}; expected {{name: value}}"))
        return {}
    return {name: found for name, found in values.items() if found != (0,) and name != "ignore"}


def _values(value: Any) -> tuple[int, ...]:
    return tuple(int(entry) for entry in value) if isinstance(value, list) else (int(value),)


def _listed(values: Sequence[int]) -> str:
    return " and ".join(str(value) for value in values)
