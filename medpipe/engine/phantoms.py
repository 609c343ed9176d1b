"""`medpipe phantom`: seeded phantoms into a folder, in a layout that a manifest can name."""

from collections.abc import Sequence
from pathlib import Path

from medpipe.config.origin import Origin
from medpipe.config.overrides import apply_overrides
from medpipe.config.tree import MappingNode
from medpipe.config.validation import validate
from medpipe.datasets.phantom.pelvis import PelvisConfig

FORMS = {"masks": "nifti_masks", "label-map": "nifti_label_map", "dicom": "dicom"}
LAYOUTS = {"masks": "totalsegmentator", "label-map": "nnunet", "dicom": "dicom_rtstruct"}


def phantom_command(kind: str, output: Path, cases: int, seed: int, form: str, options: Sequence[str]) -> int:
    """Generate `cases` phantoms; the exit code."""
    from medpipe.datasets.phantom.write import write_phantoms

    assert kind == "pelvis"
    tree = apply_overrides(
        MappingNode({}, Origin("command line")), list(options), known_keys=list(PelvisConfig.model_fields)
    )
    config = validate(PelvisConfig, tree)
    write_phantoms(output, config, cases, first_seed=seed, form=FORMS[form])
    print(f"{cases} phantoms in {output}, layout {LAYOUTS[form]}")
    return 0
