"""Phantoms in the place of a data set: generated on first use, kept in the cache, listed like any other cases."""

import hashlib
import json
import logging
import os
from pathlib import Path

from medpipe.datasets.cases import DataConfig
from medpipe.datasets.manifest import Layout, Manifest, PatientsConfig, PhantomStandIn
from medpipe.datasets.phantom.pelvis import PHANTOM_VERSION, PelvisConfig

logger = logging.getLogger(__name__)

MAX_JOBS = 8  # a phantom takes a core two seconds; more processes take longer to start than they save

LAYOUT_OF_FORM: dict[str, Layout] = {
    "nifti_masks": "totalsegmentator",
    "nifti_label_map": "nnunet",
    "dicom": "dicom_rtstruct",
}


def phantom_manifest_and_folder(manifest: Manifest, data: DataConfig) -> tuple[Manifest, Path]:
    """The manifest as it reads its stand-in, and the folder of the phantoms, which are there when this returns.

    Label values and file names are those of the phantoms; a structure that a phantom lacks is absent, not unannotated.
    """
    from medpipe.datasets.phantom.write import write_phantoms

    stand_in = manifest.phantom
    if stand_in is None:
        raise ValueError(f"manifest {manifest.manifest} has no `phantom:` stand-in; add one, or give data.source=files")
    config = phantom_config(stand_in, data)
    num_cases = data.phantom.num_cases or stand_in.num_cases
    folder = data.cache.expanduser().absolute() / "phantoms" / _name(manifest, stand_in, config, num_cases)
    write_phantoms(
        folder,
        config,
        num_cases,
        stand_in.first_seed,
        form=stand_in.form,
        structures=tuple(manifest.structures),
        jobs=min(MAX_JOBS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1),
        on_case=lambda number, case_id: logger.info(
            "%s: phantom %s generated (%d cases)", manifest.manifest, case_id, num_cases
        ),
    )
    structures = {
        name: structure.model_copy(update={"label": None, "file": None})
        for name, structure in manifest.structures.items()
    }
    changes = {
        "layout": LAYOUT_OF_FORM[stand_in.form],
        "structures": structures,
        "patients": PatientsConfig(pattern=r"^(.*?)(?:_fx\d+)?$"),
        "other_labels": "background",
        "if_absent": "absent",
        "glob": "*",
        "series": None,
        "structure_set": None,
    }
    return manifest.model_copy(update=changes), folder


def phantom_config(stand_in: PhantomStandIn, data: DataConfig) -> PelvisConfig:
    """The manifest's options with the workflow's on top."""
    options = {**stand_in.options.model_dump(mode="json", exclude_unset=True), **data.phantom.options}
    return PelvisConfig.model_validate_json(json.dumps(options), strict=True)


def _name(manifest: Manifest, stand_in: PhantomStandIn, config: PelvisConfig, num_cases: int) -> str:
    parts = [
        PHANTOM_VERSION,
        config.model_dump(mode="json"),
        stand_in.form,
        stand_in.first_seed,
        num_cases,
        list(manifest.structures),
    ]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return f"{manifest.manifest}-{digest[:16]}"
