"""Names of structures outside: SNOMED codes (data/vocabularies/snomed.yaml) and TG-263 names (the manifests)."""

from collections.abc import Sequence
from functools import cache

from medpipe.config.base import Config
from medpipe.config.share import share_folder
from medpipe.dicom.write_seg import Code, SegmentCode, local_code


class ConceptConfig(Config):
    """A code with its meaning."""

    code: str
    meaning: str


class StructureCode(ConceptConfig):
    """The type of a structure; its category is anatomy where none is given."""

    side: str | None = None
    category: str = "anatomy"


class StructureCodes(Config):
    """The file data/vocabularies/snomed.yaml."""

    categories: dict[str, ConceptConfig]
    sides: dict[str, ConceptConfig]
    structures: dict[str, StructureCode]


@cache
def snomed() -> StructureCodes:
    from medpipe.config.reader import read_tree
    from medpipe.config.validation import validate

    return validate(StructureCodes, read_tree(share_folder("data") / "vocabularies" / "snomed.yaml"))


def segment_codes(structures: Sequence[str], notes: list[str]) -> dict[str, SegmentCode]:
    """Structure -> its code: by its name, else by its first word (ctv_high_risk), else a local one with a note."""
    table = snomed()
    codes: dict[str, SegmentCode] = {}
    for structure in structures:
        found = table.structures.get(structure) or _by_first_word(structure, table)
        if found is None:
            codes[structure] = local_code(structure)
            notes.append(f"{structure}: no SNOMED code known, coded locally (99MEDPIPE)")
            continue
        side = table.sides[found.side] if found.side else None
        codes[structure] = SegmentCode(
            _code(table.categories[found.category]), _code(found), _code(side) if side else None
        )
    return codes


def tg263_names(structures: Sequence[str], notes: list[str]) -> dict[str, str]:
    """Structure -> TG-263 name, as the manifests that come with medpipe give it; the structure's own name without."""
    known = _tg263()
    names: dict[str, str] = {}
    for structure in structures:
        found = known.get(structure, set())
        names[structure] = next(iter(found)) if len(found) == 1 else structure
        if len(found) != 1:
            why = f"manifests disagree ({', '.join(sorted(found))})" if found else "no manifest gives one"
            notes.append(f"{structure}: without a TG-263 name, {why}; the ROI is named {structure}")
    for structure, name in list(names.items()):
        if list(names.values()).count(name) > 1:
            names[structure] = structure  # two structures of one TG-263 name would be one region to an importer
    return names


@cache
def _tg263() -> dict[str, set[str]]:
    from medpipe.datasets.manifest import load_manifest

    known: dict[str, set[str]] = {}
    for path in sorted((share_folder("data") / "manifests").glob("*.yaml")):
        for name, structure in load_manifest(path.stem).structures.items():
            if structure.tg263:
                known.setdefault(name, set()).add(structure.tg263)
    return known


def _by_first_word(structure: str, table: StructureCodes) -> StructureCode | None:
    """Targets and applicators alone: `bladder_wall` is no bladder."""
    found = table.structures.get(structure.split("_")[0])
    return found if found is not None and found.category in ("concept", "object") else None


def _code(concept: ConceptConfig) -> Code:
    return Code(concept.code, "SCT", concept.meaning)
