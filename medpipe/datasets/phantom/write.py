"""Phantoms as a data set on disk, in the layouts that clinics and public sets use."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from medpipe.datasets.phantom.pelvis import (
    PELVIC_STRUCTURES,
    PHANTOM_VERSION,
    PelvisConfig,
    Phantom,
    generate_pelvis,
)
from medpipe.datasets.phantom.roi_names import roi_names

Form = Literal["nifti_masks", "nifti_label_map", "dicom"]

MARKER = "phantoms.json"
# The target lies within the uterus, so it has no place in a label map.
LABEL_MAP_STRUCTURES = tuple(name for name in PELVIC_STRUCTURES if name != "ctv_high_risk")


def write_phantoms(
    folder: Path | str,
    config: PelvisConfig,
    num_cases: int,
    first_seed: int = 0,
    form: Form = "nifti_masks",
    structures: Sequence[str] | None = None,
    *,
    jobs: int = 1,
    on_case: Callable[[int, str], None] = lambda index, case_id: None,
) -> tuple[str, ...]:
    """Write cases `first_seed`, `first_seed` + 1, ... (each `config.fractions` times) and return their case ids.

    nifti_masks      CASE/ct.nii.gz, CASE/segmentations/STRUCTURE.nii.gz (empty where the patient lacks the structure;
                     no folder of segmentations where `structures` is empty)
    nifti_label_map  imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz, dataset.json; structures that overlap are refused
    dicom            CASE/ct/*.dcm, CASE/rtstruct.dcm with ROI names as varied as those of clinics; what the patient
                     lacks has no ROI

    A folder that is complete is left as it is, one that was interrupted is completed; several processes may write the
    same folder at once. The same arguments give the same bytes. `on_case` gets the number of a case that was written
    and its id.

    Raises ValueError for a folder that holds something else, and for structures that do not exist or overlap.
    """
    folder = Path(folder)
    names = _checked_structures(structures, form)
    if num_cases < 1:
        raise ValueError(f"num_cases is {num_cases}: expected 1 or more")
    examinations = [(first_seed + n // config.fractions, n % config.fractions) for n in range(num_cases)]
    case_ids = tuple(config.case_id(seed, fraction) for seed, fraction in examinations)
    description = {
        "phantom": f"pelvis, version {PHANTOM_VERSION}",
        "config": config.model_dump(mode="json"),
        "form": form,
        "structures": list(names),
        "case_ids": list(case_ids),
    }
    key = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()
    if _is_complete(folder, key):
        return case_ids
    _mark(folder, {"key": key, "complete": False, **description})
    _write_all(folder, config, examinations, case_ids, form, names, jobs, on_case)
    _mark(folder, {"key": key, "complete": True, **description})
    return case_ids


def _checked_structures(structures: Sequence[str] | None, form: Form) -> tuple[str, ...]:
    if structures is None:
        return LABEL_MAP_STRUCTURES if form == "nifti_label_map" else PELVIC_STRUCTURES
    unknown = [name for name in structures if name not in PELVIC_STRUCTURES]
    if unknown or len(set(structures)) != len(structures):
        raise ValueError(
            f"structures {', '.join(structures)}: expected different ones of {', '.join(PELVIC_STRUCTURES)}"
        )
    if form == "nifti_label_map" and {"ctv_high_risk", "uterus"} <= set(structures):
        raise ValueError(
            "ctv_high_risk and uterus overlap, and a label map holds one structure a voxel: leave one of them out, or "
            "write form=nifti_masks or dicom"
        )
    return tuple(structures)


def _is_complete(folder: Path, key: str) -> bool:
    """Whether the folder holds these very phantoms; ValueError if it holds anything else."""
    marker = folder / MARKER
    if not marker.is_file():
        if folder.is_dir() and any(folder.iterdir()):
            raise ValueError(f"{folder} holds files but no {MARKER}: give an empty folder for the phantoms")
        return False
    found = json.loads(marker.read_text())
    if found.get("key") != key:
        raise ValueError(f"{folder} holds phantoms of other values (see {marker}): delete it or give another folder")
    return bool(found["complete"])


def _mark(folder: Path, content: dict[str, Any]) -> None:
    from medpipe.geometry.atomic import written_beside

    with written_beside(folder / MARKER) as beside:
        beside.write_text(json.dumps(content, indent=1) + "\n")


def _write_all(
    folder: Path,
    config: PelvisConfig,
    examinations: Sequence[tuple[int, int]],
    case_ids: Sequence[str],
    form: Form,
    structures: tuple[str, ...],
    jobs: int,
    on_case: Callable[[int, str], None],
) -> None:
    from medpipe.datasets.workers import work_through

    if form == "nifti_label_map":
        _write_dataset_json(folder, len(case_ids), structures)
    missing = [n for n, case_id in enumerate(case_ids) if not _is_written(folder, case_id, form)]
    work_through(
        partial(_write_case, folder, config, form, structures),
        [examinations[n] for n in missing],
        names=[case_ids[n] for n in missing],
        jobs=jobs,
        what="phantoms",
        on_result=lambda index, _: on_case(missing[index], case_ids[missing[index]]),
    )


def _is_written(folder: Path, case_id: str, form: Form) -> bool:
    """Case folders and files appear whole or not at all; the image of a label map's pair comes last."""
    return _image_path(folder, case_id).exists() if form == "nifti_label_map" else (folder / case_id).is_dir()


def _write_case(
    folder: Path, config: PelvisConfig, form: Form, structures: tuple[str, ...], examination: tuple[int, int]
) -> None:
    seed, fraction = examination
    phantom = generate_pelvis(seed, config, fraction=fraction)
    if form == "nifti_label_map":
        _write_label_map_pair(folder, phantom, structures)
        return
    # Beside the folder and not in it, so that nothing there is ever half a case.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as beside:
        case = Path(beside) / phantom.case_id
        (_write_masks if form == "nifti_masks" else _write_dicom)(case, phantom, structures)
        try:
            os.replace(case, folder / phantom.case_id)
        except OSError:
            # Another process was faster, with the same bytes.
            if not (folder / phantom.case_id).is_dir():
                raise


def _write_masks(case: Path, phantom: Phantom, structures: tuple[str, ...]) -> None:
    from medpipe.geometry.nifti import write_mask, write_volume

    write_volume(case / "ct.nii.gz", phantom.volume)
    for name in structures:
        write_mask(case / "segmentations" / f"{name}.nii.gz", phantom.masks.mask(name), phantom.volume.affine)


def _image_path(folder: Path, case_id: str) -> Path:
    return folder / "imagesTr" / f"{case_id}_0000.nii.gz"


def _write_label_map_pair(folder: Path, phantom: Phantom, structures: tuple[str, ...]) -> None:
    import numpy as np

    from medpipe.geometry.nifti import write_label_map, write_volume
    from medpipe.geometry.volume import LabelMap

    labels = np.zeros(phantom.volume.shape, dtype=np.uint8)
    for value, name in enumerate(structures, start=1):
        mask = phantom.masks.mask(name)
        assert not labels[mask].any(), f"{phantom.case_id}: {name} overlaps another structure of {structures}"
        labels[mask] = value
    write_label_map(folder / "labelsTr" / f"{phantom.case_id}.nii.gz", LabelMap(labels, phantom.volume.affine))
    write_volume(_image_path(folder, phantom.case_id), phantom.volume)


def _write_dataset_json(folder: Path, num_cases: int, structures: tuple[str, ...]) -> None:
    from medpipe.geometry.atomic import written_beside

    content = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **{name: value for value, name in enumerate(structures, start=1)}},
        "numTraining": num_cases,
        "file_ending": ".nii.gz",
    }
    with written_beside(folder / "dataset.json") as beside:
        beside.write_text(json.dumps(content, indent=1) + "\n")


def _write_dicom(case: Path, phantom: Phantom, structures: tuple[str, ...]) -> None:
    import numpy as np

    from medpipe.dicom.write_rtstruct import write_rtstruct
    from medpipe.dicom.write_series import write_series
    from medpipe.geometry.volume import MaskStack

    # The patient as name and values: another phantom version or grid is another examination.
    uid_seed = f"{phantom.case_id} {hashlib.sha256(phantom.volume.array.tobytes()).hexdigest()}"
    series = write_series(case / "ct", phantom.volume, patient_id=phantom.patient_id, uid_seed=uid_seed)
    present = tuple(name for name in structures if phantom.masks.mask(name).any())
    if present:
        masks = MaskStack(np.stack([phantom.masks.mask(name) for name in present]), phantom.volume.affine, present)
        names = roi_names(phantom.seed, present)
        write_rtstruct(case / "rtstruct.dcm", masks, series, roi_names=names, description="generated structures")
