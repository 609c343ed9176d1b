"""One case of a folder of predictions against its reference: what a worker of `medpipe evaluate` does."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from medpipe.datasets.label_folders import LabelSource
from medpipe.geometry.faults import DataFault

if TYPE_CHECKING:
    from medpipe.datasets.label_sources import LabelReader


@dataclass(frozen=True)
class FolderCase:
    """What is compared with what, and how."""

    reference: LabelSource
    prediction: LabelSource | None  # None: there is none, so every structure is missed
    names_ref: Mapping[int, str]
    names_pred: Mapping[int, str]
    aliases: Mapping[str, tuple[str, ...]]
    structures: tuple[str, ...]  # empty: all that the reference holds
    tolerances_mm: tuple[float, ...]
    resample: bool
    num_threads: int = 1


@dataclass(frozen=True)
class CaseScores:
    """rows of scores.csv without model and patient; or the fault that kept the case from being scored."""

    case_id: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    not_annotated: tuple[str, ...] = ()  # predicted, but not in the reference
    known: tuple[str, ...] = ()  # structures of the reference
    dicom_patient_id: str = ""
    fault: DataFault | None = None


def score_folder_case(case: FolderCase) -> CaseScores:
    """Read both sides, bring the prediction to the reference's grid, score every structure of the reference."""
    try:
        return _scored(case)
    except DataFault as fault:
        return CaseScores(case.reference.case_id, fault=fault)


def _known_structures(case: FolderCase, reference: "LabelReader", prediction: "LabelReader | None") -> list[str]:
    """What the reference can hold; of two label maps without names also the values of the prediction alone."""
    known = list(reference.structures)
    if prediction is None or case.names_ref or case.names_pred:
        return known
    sides = (reference.source, prediction.source)
    nameless = [source for source in sides if source.form == "label_map"]
    if len(nameless) == 1:
        raise DataFault(
            nameless[0].path, "nothing says which value is which structure, while the other side's structures have "
            "names: put a dataset.json beside it, or give a --manifest with `label:`",
        )  # fmt: skip
    if nameless:
        known += [name for name in prediction.structures if name not in known]
    return known


def _scored(case: FolderCase) -> CaseScores:
    from medpipe.datasets.label_sources import LabelReader
    from medpipe.metrics.definitions import DEFINITION
    from medpipe.metrics.scoring import LabelledMap, Masks, Structures, score_structures

    reference = LabelReader(case.reference, case.names_ref, case.aliases, resample=False)
    prediction = None
    if case.prediction is not None:
        prediction = LabelReader(case.prediction, case.names_pred, case.aliases, resample=case.resample)
    notes: list[str] = []
    grid = reference.grid
    if grid is None:
        if prediction is None or prediction.grid is None:
            raise DataFault(case.reference.path, "contours without their CT beside them: there is no grid to score on")
        grid = prediction.grid
        notes.append("the reference is contours without a CT: scored on the prediction's grid")
    known = _known_structures(case, reference, prediction)
    structures = [name for name in known if not case.structures or name in case.structures]
    found_ref = reference.on(grid)
    if isinstance(found_ref, LabelledMap):  # a label of the prediction alone is a false structure, not an unknown one
        values = {name: int(name.removeprefix("label_")) for name in structures if name not in found_ref.values}
        found_ref = LabelledMap(found_ref.array, {**found_ref.values, **values})
    found_pred: Structures = Masks({}) if prediction is None else prediction.on(grid)
    scores = score_structures(
        found_ref,
        found_pred,
        structures,
        spacing_mm=grid.spacing_mm,
        tolerances_mm=case.tolerances_mm,
        num_threads=case.num_threads,
    )
    resampled = prediction is not None and prediction.resampled
    rows = [
        {"case_id": case.reference.case_id, "structure": name, **score.row(), "definition": DEFINITION,
         "resampled": resampled}
        for name, score in scores.items()
    ]  # fmt: skip
    predicted = () if prediction is None else prediction.structures
    return CaseScores(
        case_id=case.reference.case_id,
        rows=rows,
        notes=[*notes, *reference.notes, *(prediction.notes if prediction else ())],
        not_annotated=tuple(name for name in predicted if name not in known),
        known=tuple(known),
        dicom_patient_id=reference.patient_id,
    )
