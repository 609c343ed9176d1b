"""From a manifest to its cases: one examination each, with its patient, its image and its labels."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from medpipe.config.base import Config, execution
from medpipe.datasets.manifest import Manifest, load_manifest
from medpipe.datasets.phantom.pelvis import PelvisConfig


class PhantomSource(Config):
    """How the phantoms of `data: {source: phantom}` depart from what each manifest says of its stand-in."""

    num_cases: int | None = Field(default=None, ge=1)  # of every data set
    options: dict[str, Any] = Field(
        default_factory=dict
    )  # over the manifest's options, for instance {spacing_mm: [4, 4, 4]}

    @field_validator("options")
    @classmethod
    def _are_options_of_a_phantom(cls, options: dict[str, Any]) -> dict[str, Any]:
        PelvisConfig.model_validate_json(json.dumps(options), strict=True)
        return options


class DataConfig(Config):
    """Where the cases come from. Fingerprints hold the content of the files, so that a moved folder changes nothing."""

    source: Literal["files", "phantom"] = "files"
    root: Path | None = execution(None)  # the folder below which each manifest's own folder lies
    cache: Path = execution(Path(".cache/medpipe"))  # phantoms, prepared volumes, content hashes: all can be deleted
    scratch: Path | None = execution(
        None, description="a folder on a disk of each node, to which prepared cases are copied before a training"
    )
    phantom: PhantomSource = Field(default_factory=PhantomSource)


class CasesConfig(Config):
    """Some cases of one data set."""

    manifest: str  # by name (data/manifests) or a path
    part: Literal["all", "train", "test"] = "all"
    max_cases: int | None = Field(default=None, ge=1)  # the first by case id, for trying things out
    resample_labels: bool = False  # labels on another grid than their image: resample them instead of refusing the case


@dataclass(frozen=True)
class Case:
    """One examination of one patient.

    image    a NIfTI file, or a folder that holds a DICOM series (`series_uid` where it holds several)
    labels   a label map (NIfTI), a folder of mask files, an RTSTRUCT (.dcm), or None where nothing is annotated
    label_values   structure -> values in the label map; empty where the labels are no label map
    dicom_patient_id   PatientID in the header, whatever `patient_id` was taken from
    listed_part   what the data set's own table says of the case ("train", "val", "test"), if anything
    """

    case_id: str
    patient_id: str
    image: Path
    labels: Path | None
    manifest: Manifest = field(repr=False)
    label_values: dict[str, tuple[int, ...]] = field(default_factory=dict, repr=False)
    series_uid: str | None = None
    dicom_patient_id: str | None = None
    listed_part: str | None = None
    resample_labels: bool = False

    @property
    def structures(self) -> tuple[str, ...]:
        """All structures that the manifest names, in its order."""
        return tuple(self.manifest.structures)


def list_cases(cases: CasesConfig, data: DataConfig, base: Path | None = None) -> list[Case]:
    """The chosen cases, by case id. Phantoms are generated on first use.

    base   the folder that a manifest given as a path is relative to

    Raises DataFaults with every fault of the listing (a label without its image, a missing file, one id twice).
    """
    from medpipe.datasets.splits import select_part

    listed = list_all(load_manifest(cases.manifest, base), data)
    chosen = select_part(listed, cases.part, source=data.source)[: cases.max_cases]
    resample = cases.resample_labels
    return [case if case.resample_labels == resample else replace(case, resample_labels=resample) for case in chosen]


def list_all(manifest: Manifest, data: DataConfig) -> list[Case]:
    """Every case of a data set, by case id."""
    from medpipe.datasets.layouts import list_layout
    from medpipe.datasets.phantom_source import phantom_manifest_and_folder

    if data.source == "phantom":
        manifest, folder = phantom_manifest_and_folder(manifest, data)
    else:
        folder = data_folder(manifest, data)
    return list_layout(manifest, folder)


def data_folder(manifest: Manifest, data: DataConfig) -> Path:
    """The folder of a data set's files; raises ValueError where `data.root` is missing."""
    if data.root is None:
        raise ValueError(
            f"manifest {manifest.manifest}: data.root is not set; give data.root=/path/to/data "
            "or data.source=phantom for generated cases"
        )
    return data.root.expanduser() / manifest.folder


def patients(cases: Sequence[Case]) -> list[str]:
    """The patients of the cases, each once, sorted."""
    return sorted({case.patient_id for case in cases})
