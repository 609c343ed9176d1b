"""Phantoms in the place of a data set: generated on first use, kept in the cache, listed like any other cases."""

from pathlib import Path

from medpipe.datasets.cases import DataConfig
from medpipe.datasets.manifest import Layout, Manifest, PatientsConfig

LAYOUT_OF_FORM: dict[str, Layout] = {
    "nifti_masks": "totalsegmentator",
    "nifti_label_map": "nnunet",
    "dicom": "dicom_rtstruct",
}


def phantom_manifest_and_folder(manifest: Manifest, data: DataConfig) -> tuple[Manifest, Path]:
    """The manifest as it reads its stand-in, and the folder of the phantoms, which are there when this returns."""
    stand_in = manifest.phantom
    if stand_in is None:
        raise ValueError(f"manifest {manifest.manifest} has no `phantom:` stand-in; add one, or give data.source=files")
    folder = _write(manifest, stand_in, data)
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
