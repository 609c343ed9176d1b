"""Segmentations as tools leave them: which cases a folder holds, in which form, and the names of label values."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from medpipe.datasets.layouts import NIFTI_ENDINGS
from medpipe.datasets.manifest import Manifest
from medpipe.datasets.structure_names import AmbiguousName, resolve_names
from medpipe.geometry.faults import DataFault

Form = Literal["label_map", "masks", "rtstruct"]


@dataclass(frozen=True)
class LabelSource:
    """One case's segmentation: a label map's file, a folder of masks, or an RTSTRUCT (its CT may lie beside it)."""

    case_id: str
    form: Form
    path: Path


def find_label_sources(root: Path) -> dict[str, LabelSource]:
    """The cases below a folder, by id; or the one that a file is.

    `<case>.nii[.gz]` is a label map, `<case>/` (or `<case>/segmentations/`) with NIfTI files one mask a structure,
    `<case>.dcm` or a DICOM file in `<case>/` an RTSTRUCT. Other files are passed over.

    Raises DataFault: nothing there, one case in two forms, several structure sets in one case.
    """
    if not root.exists():
        raise DataFault(root, "no such file or folder")
    entries = [root] if root.is_file() else sorted(path for path in root.iterdir() if not path.name.startswith("."))
    found: dict[str, LabelSource] = {}
    for path in entries:
        source = _folder(path) if path.is_dir() else _file(path)
        if source is None:
            continue
        if source.case_id in found:
            raise DataFault(
                path, f"case {source.case_id} is also in {found[source.case_id].path.name}; keep one of them"
            )
        found[source.case_id] = source
    if not found:
        raise DataFault(
            root, "holds no segmentation: expected <case>.nii.gz, <case>/ with one mask a structure, or RTSTRUCT files"
        )
    return found


def _file(path: Path) -> LabelSource | None:
    if path.name.lower().endswith(NIFTI_ENDINGS):
        return LabelSource(stem_of(path), "label_map", path)
    if path.suffix.lower() == ".dcm" and _holds_contours(path):
        return LabelSource(path.stem, "rtstruct", path)
    return None


def _folder(path: Path) -> LabelSource | None:
    from medpipe.dicom.reading import dicom_files

    below = path / "segmentations"
    folder = below if below.is_dir() else path
    if mask_files(folder):
        return LabelSource(path.name, "masks", folder)
    structure_sets = [file for file in dicom_files(path) if _holds_contours(file)]
    if len(structure_sets) > 1:
        listed = ", ".join(file.name for file in structure_sets)
        raise DataFault(path, f"holds {len(structure_sets)} structure sets, one is expected: {listed}")
    return LabelSource(path.name, "rtstruct", structure_sets[0]) if structure_sets else None


def _holds_contours(path: Path) -> bool:
    """Whether a file is an RTSTRUCT. DataFault for a .dcm that cannot be read: passed over, its case would be lost."""
    from medpipe.dicom.reading import read_dataset
    from medpipe.dicom.rtstruct import is_rtstruct

    if is_rtstruct(path):
        return True
    if path.suffix.lower() == ".dcm":
        read_dataset(path, with_pixels=False, keywords=("SOPClassUID", "SOPInstanceUID"))
    return False


def mask_files(folder: Path) -> dict[str, Path]:
    """Stem -> NIfTI file of a folder."""
    return {stem_of(path): path for path in sorted(folder.iterdir()) if path.name.lower().endswith(NIFTI_ENDINGS)}


def stem_of(path: Path) -> str:
    """A NIfTI file's name without its ending."""
    ending = next(ending for ending in NIFTI_ENDINGS if path.name.lower().endswith(ending))
    return path.name[: -len(ending)]


def label_names(root: Path, manifest: Manifest | None) -> dict[int, str]:
    """Value -> structure of the label maps below `root`: from the manifest and, where it gives a structure no value, a
    dataset.json of nnU-Net or a predictions.json of medpipe in the folder or above it; empty where nothing says."""
    if manifest is None:
        return _names_beside(root)
    given = {value: name for name, structure in manifest.structures.items() for value in structure.labels}
    without = {name: names for name, names in manifest.aliases.items() if not manifest.structures[name].labels}
    beside = _names_beside(root) if without else {}
    try:
        chosen = resolve_names(list(beside.values()), without).chosen
    except AmbiguousName as error:
        raise DataFault(root, str(error)) from None
    values = list(beside)
    return {**{values[index]: name for name, index in chosen.items()}, **given}


def _names_beside(root: Path) -> dict[int, str]:
    folder = root if root.is_dir() else root.parent
    for place in (folder, folder.parent, folder.parent.parent):
        if (place / "dataset.json").is_file():
            return _of_nnunet(place / "dataset.json")
        if (place / "predictions.json").is_file():
            return _of_medpipe(place / "predictions.json", folder)
    return {}


def _of_nnunet(path: Path) -> dict[int, str]:
    """Both forms that nnU-Net has had: {"bladder": 1} and {"1": "bladder"}."""
    content = _json(path)
    labels = content.get("labels") if isinstance(content, Mapping) else None
    if not isinstance(labels, Mapping):
        raise DataFault(path, 'names no label values: expected {"labels": {"bladder": 1, ...}}')
    names: dict[int, str] = {}
    for key, value in labels.items():
        name, number = (value, key) if str(key).isdigit() else (key, value)
        if not str(number).isdigit():
            raise DataFault(path, f"label {name!r} is {number!r}; regions of several labels are not supported")
        if int(number) == 0 or name == "ignore":
            continue
        if names.setdefault(int(number), str(name)) != str(name):
            raise DataFault(path, f"label {int(number)} has two names, {names[int(number)]} and {name}")
    return names


def _of_medpipe(path: Path, folder: Path) -> dict[int, str]:
    content = _json(path)
    if not isinstance(content, Mapping) or "models" not in content:  # another tool's file of that name
        return {}
    models = content["models"]
    mine = [model for model in models if (path.parent / model["folder"]).resolve() == folder.resolve()]
    return {index + 1: name for index, name in enumerate(mine[0]["structures"])} if mine else {}


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataFault(path, f"not JSON: {error}") from error
