"""The files that predictions are handed over in: one label map a case, or one mask a structure where they overlap."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from medpipe.geometry.faults import DataFault
from medpipe.stages.stage import write_json

if TYPE_CHECKING:
    from medpipe.datasets.reading import CaseContent
    from medpipe.geometry.volume import LabelMap, MaskStack
    from medpipe.metrics.scoring import Structures

PREDICTIONS_FILE = "predictions.json"
MEMBERS_FILE = "members.json"  # of a training stage: its networks


@dataclass(frozen=True)
class PredictedModel:
    """One model (an ensemble over folds) whose predictions lie in `folder`; label `i + 1` is `structures[i]`."""

    title: str
    stage: str
    share: float
    folder: str  # relative to the prediction stage's folder
    output: Literal["softmax", "sigmoid"]
    structures: tuple[str, ...]
    num_networks: int


@dataclass(frozen=True)
class Predictions:
    """What a prediction stage left: which models, on which cases (as the values that select them)."""

    models: tuple[PredictedModel, ...]
    cases_json: str


@dataclass(frozen=True)
class Prediction:
    """The predicted structures of one case, on the grid of its image."""

    masks: dict[str, np.ndarray]  # (D, H, W) bool


def case_path(folder: Path, model: PredictedModel, case_id: str) -> Path:
    """The label map's file, or the folder of masks."""
    base = folder / model.folder / case_id
    return base if model.output == "sigmoid" else base.with_name(f"{case_id}.nii.gz")


def write_prediction(path: Path, prediction: "LabelMap | MaskStack") -> None:
    """Write a label map, or a folder of masks which is renamed into place when it is whole."""
    import shutil

    from medpipe.geometry.nifti import write_label_map, write_mask
    from medpipe.geometry.volume import LabelMap

    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(prediction, LabelMap):
        write_label_map(path, prediction)
        return
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    for structure, mask in zip(prediction.structures, prediction.array, strict=True):
        write_mask(temporary / f"{structure}.nii.gz", mask, prediction.affine)
    temporary.rename(path)


def prediction_of(folder: Path, model: PredictedModel, case_id: str) -> Prediction:
    """Read the prediction of one case. Raises DataFault where it is missing."""
    from medpipe.geometry.nifti import read_label_map

    path = case_path(folder, model, case_id)
    if not path.exists():
        raise DataFault(path, f"no prediction of {model.title} for case {case_id}")
    if model.output == "softmax":
        labels = read_label_map(path).array
        return Prediction({name: labels == index + 1 for index, name in enumerate(model.structures)})
    return Prediction({name: read_label_map(path / f"{name}.nii.gz").array > 0 for name in model.structures})


def predicted_structures(folder: Path, model: PredictedModel, case_id: str) -> "Structures":
    """The prediction of one case, a label map kept whole. Raises DataFault where it is missing."""
    from medpipe.geometry.nifti import read_label_map
    from medpipe.metrics.scoring import LabelledMap, Masks

    path = case_path(folder, model, case_id)
    if model.output == "softmax" and path.exists():
        return LabelledMap(read_label_map(path).array, {name: i + 1 for i, name in enumerate(model.structures)})
    return Masks(prediction_of(folder, model, case_id).masks)


def reference_structures(content: "CaseContent", structures: tuple[str, ...]) -> "Structures | None":
    """The annotated structures of a case, a label map kept whole; None where it has no labels."""
    from medpipe.geometry.volume import MaskStack
    from medpipe.metrics.scoring import LabelledMap, Masks

    labels = content.labels
    if labels is None or isinstance(labels, MaskStack):
        return None if labels is None else Masks(reference_masks(content, structures))
    values = {name: index + 1 for index, name in enumerate(structures) if content.annotated[index]}
    return LabelledMap(labels.array, values)


def reference_masks(content: "CaseContent", structures: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Structure -> mask of every annotated structure of a case."""
    from medpipe.geometry.volume import MaskStack

    labels = content.labels
    if labels is None:
        return {}
    pairs = [(index, name) for index, name in enumerate(structures) if content.annotated[index]]
    if isinstance(labels, MaskStack):
        return {name: labels.array[index] for index, name in pairs}
    return {name: labels.array == index + 1 for index, name in pairs}


def write_predictions(folder: Path, predictions: Predictions) -> None:
    """Keep what was predicted, for the stages that come."""
    write_json(folder / PREDICTIONS_FILE, asdict(predictions))


def read_predictions(folder: Path) -> Predictions:
    """What a prediction stage left."""
    import json

    kept = json.loads((folder / PREDICTIONS_FILE).read_text(encoding="utf-8"))
    models = tuple(PredictedModel(**{**model, "structures": tuple(model["structures"])}) for model in kept["models"])
    return Predictions(models, kept["cases_json"])
