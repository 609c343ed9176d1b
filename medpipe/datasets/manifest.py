"""What is true of a data set whoever studies it: its layout, structures, patients, test part and phantom stand-in."""

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from medpipe.config.base import Config
from medpipe.config.share import share_folder
from medpipe.datasets.phantom.pelvis import PelvisConfig
from medpipe.datasets.structure_names import alias_table

Layout = Literal["nnunet", "totalsegmentator", "dicom_rtstruct", "table", "folder"]
SNAKE_CASE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


class StructureConfig(Config):
    """One structure and where its voxels stand: label value(s), file name(s) or names in a structure set."""

    tg263: str | None = None  # AAPM report 263 name; also an alias
    label: int | tuple[int, ...] | None = None  # value(s) in a label map; without it dataset.json's name decides
    file: str | tuple[str, ...] | None = None  # stem(s) below segmentations/; without it the structure's own name
    aliases: tuple[str, ...] = ()  # names in RTSTRUCT and dataset.json; case, accents and separators do not matter

    @property
    def names(self) -> tuple[str, ...]:
        """All names under which the structure may stand in a file."""
        return (self.tg263, *self.aliases) if self.tg263 else self.aliases

    @property
    def labels(self) -> tuple[int, ...]:
        """Label values, merged into the one structure; empty where none is given."""
        if self.label is None:
            return ()
        return (self.label,) if isinstance(self.label, int) else self.label

    def files(self, name: str) -> tuple[str, ...]:
        """Stems of the mask files, merged into the one structure."""
        if self.file is None:
            return (name,)
        return (self.file,) if isinstance(self.file, str) else self.file


class PatientsConfig(Config):
    """How a case's patient is found; without it a case is its own patient (or DICOM's PatientID decides)."""

    table: str | None = None  # CSV with columns case_id, patient_id; relative to the data set's folder
    pattern: str | None = None  # regular expression on the case id; its first group is the patient
    dicom: Literal["patient_id", "folder"] = "patient_id"  # layout dicom_rtstruct: the header's PatientID or the folder

    @field_validator("pattern")
    @classmethod
    def _has_one_group(cls, pattern: str | None) -> str | None:
        if pattern is not None and re.compile(pattern).groups != 1:
            raise ValueError(f"pattern {pattern!r} must hold exactly one group, the patient's part of the case id")
        return pattern


class TestPart(Config):
    """Which patients are never trained on: listed here, in a file of splits, or drawn by patient."""

    __test__ = False  # not a test class, whatever pytest thinks of the name

    patients: tuple[str, ...] | None = None
    file: str | None = None  # one patient a line, below data/splits
    split_column: str | None = None  # of meta.csv or the table of cases; its value "test" marks the case's patient
    share: float | None = Field(default=None, gt=0, lt=1)
    seed: int = 0

    @model_validator(mode="after")
    def _one_of_four(self) -> "TestPart":
        given = [name for name in ("patients", "file", "split_column", "share") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of patients, file, split_column or share, got {given or 'none'}")
        return self


class PhantomStandIn(Config):
    """The phantoms that `data: {source: phantom}` generates in place of this data set."""

    kind: Literal["pelvis"] = "pelvis"
    form: Literal["nifti_masks", "nifti_label_map", "dicom"] = "nifti_masks"
    num_cases: int = Field(default=8, ge=1)
    first_seed: int = Field(ge=0)  # data sets must not share phantoms: keep 10 000 between them
    test_share: float = Field(default=0.25, ge=0, lt=1)
    options: PelvisConfig = Field(default_factory=lambda: PelvisConfig.model_validate({}))


class Manifest(Config):
    """A data set, as its file in data/manifests describes it."""

    manifest: str  # the data set's name
    description: str = ""
    layout: Layout
    folder: str  # relative to data.root
    structures: dict[str, StructureConfig] = Field(default_factory=dict)
    overlapping: bool = False  # True: one mask a structure, sigmoid; False: a label map, softmax
    ignore_label: int | None = None  # label value of voxels that the loss leaves out
    other_labels: Literal["refuse", "background"] = "refuse"  # values of a label map that no structure claims
    if_absent: Literal["absent", "not_annotated"] = "absent"  # what a missing file or region of interest means
    # case -> structure -> name in its structure set, where the aliases are ambiguous
    choose: dict[str, dict[str, str]] = Field(default_factory=dict)
    structure_set: str | None = None  # regular expression on the RTSTRUCT's path, where a folder holds several
    series: str | None = None  # regular expression on the CT series' description or UID, where a folder holds several
    table: str = "cases.csv"  # layout table: case_id, patient_id, image, labels
    glob: str = "*"  # layouts folder and dicom_rtstruct: which entries below the folder are cases
    contours_outside: Literal["refuse", "clip"] = "refuse"  # RTSTRUCT contours that leave the image
    skipped_slices: Literal["refuse", "keep"] = "refuse"  # RTSTRUCT regions with slices left out between contours
    hounsfield: bool = True  # False: the images are not in HU, and the check of air and soft tissue is left out
    patients: PatientsConfig = PatientsConfig()
    test: TestPart | None = None
    phantom: PhantomStandIn | None = None
    licence: str = ""
    citation: str = ""

    @field_validator("structures")
    @classmethod
    def _names_are_snake_case(cls, structures: dict[str, StructureConfig]) -> dict[str, StructureConfig]:
        for name in structures:
            if not SNAKE_CASE.fullmatch(name):
                raise ValueError(f"structure {name!r} must be in snake case, such as sigmoid_colon")
        return structures

    @model_validator(mode="after")
    def _labels_are_distinct(self) -> "Manifest":
        alias_table({name: structure.names for name, structure in self.structures.items()})
        owners: dict[int, str] = {} if self.ignore_label is None else {self.ignore_label: "ignore_label"}
        for name, structure in self.structures.items():
            for value in structure.labels:
                if value == 0:
                    raise ValueError(f"structure {name}: label 0 is background")
                if value in owners:
                    raise ValueError(f"structure {name}: label {value} is already {owners[value]}")
                owners[value] = name
        if self.overlapping and self.ignore_label is not None:
            raise ValueError("ignore_label needs a label map; with overlapping: true there is one mask a structure")
        return self

    @property
    def aliases(self) -> dict[str, tuple[str, ...]]:
        """Structure -> the names under which it may stand in a file."""
        return {name: structure.names for name, structure in self.structures.items()}


def load_manifest(ref: str, base: Path | None = None) -> Manifest:
    """The manifest of that name in data/manifests, or at that path (relative to `base`).

    Errors carry file, line and column; an unknown name lists the known ones.
    """
    from medpipe.config.reader import read_tree
    from medpipe.config.validation import validate

    return validate(Manifest, read_tree(manifest_path(ref, base)))


def manifest_path(ref: str, base: Path | None = None) -> Path:
    """Where the manifest of that name or path lies."""
    if ref.endswith((".yaml", ".yml")) or "/" in ref:
        path = (base or Path()) / Path(ref).expanduser()
        if not path.is_file():
            raise ValueError(f"manifest {ref!r}: no file {path}")
        return path
    folder = share_folder("data") / "manifests"
    path = folder / f"{ref}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
        raise ValueError(f"manifest {ref!r} is neither a path nor one of {known} in {folder}")
    return path
