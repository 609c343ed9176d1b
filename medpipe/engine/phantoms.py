"""`medpipe phantom`: seeded phantoms into a folder, in a layout that a manifest can name."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from medpipe.config.origin import Origin
from medpipe.config.overrides import apply_overrides
from medpipe.config.tree import MappingNode
from medpipe.config.validation import validate
from medpipe.datasets.phantom.pelvis import PelvisConfig
from medpipe.datasets.phantom.write import Form, write_phantoms
from medpipe.engine.output import RunOutput
from medpipe.stages.stage import cores

FORMS: dict[str, Form] = {"masks": "nifti_masks", "label-map": "nifti_label_map", "dicom": "dicom"}
LAYOUTS = {"masks": "totalsegmentator", "label-map": "nnunet", "dicom": "dicom_rtstruct"}


def phantom_command(kind: str, output: Path, cases: int, seed: int, form: str, options: Sequence[str]) -> int:
    """Generate `cases` phantoms; the exit code."""
    assert kind == "pelvis"
    tree = apply_overrides(
        MappingNode({}, Origin("command line")), list(options), known_keys=list(PelvisConfig.model_fields)
    )
    config = validate(PelvisConfig, tree)
    speaking = RunOutput(Console(soft_wrap=not sys.stdout.isatty()))
    with speaking.progress("phantoms", cases) as progress:
        write_phantoms(
            output,
            config,
            cases,
            first_seed=seed,
            form=FORMS[form],
            jobs=cores(None),
            on_case=lambda _, case_id: progress.advance(note=case_id),
        )
    print(f"{cases} phantoms in {output}, layout {LAYOUTS[form]}")
    return 0
