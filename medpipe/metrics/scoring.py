"""All scores of one structure, or of every structure of a case."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np

from medpipe.metrics.definitions import nsd_column
from medpipe.metrics.masks import check_mask_pair

if TYPE_CHECKING:
    from medpipe.metrics.label_maps import StructurePair

Status = Literal["scored", "missed", "false", "absent"]


@final
@dataclass(frozen=True)
class Score:
    """The scores of one predicted mask against its reference, and what kind of case it was.

    status: `scored` both masks hold voxels; `missed` the prediction is empty; `false` the reference is empty;
    `absent` both are. Missed and false: Dice, IoU, NSD 0, distances infinite. Absent: all NaN.
    nsd, nsd_area: one a tolerance in mm, counted in voxels and by area.
    """

    status: Status
    dice: float
    iou: float
    hd_mm: float
    hd95_mm: float
    hd95_pooled_mm: float
    hd95_mean_mm: float
    hd95_area_mm: float
    assd_mm: float
    asd_mm: float
    nsd: Mapping[float, float]
    nsd_area: Mapping[float, float]
    volume_ref_ml: float
    volume_pred_ml: float

    @property
    def volume_difference_ml(self) -> float:
        """Prediction less reference; NaN where both are empty."""
        return self.volume_pred_ml - self.volume_ref_ml if self.status != "absent" else math.nan

    @property
    def volume_ratio(self) -> float:
        """Prediction over reference: 0 missed, infinite false, NaN absent."""
        if self.volume_ref_ml:
            return self.volume_pred_ml / self.volume_ref_ml
        return math.inf if self.volume_pred_ml else math.nan

    def row(self) -> dict[str, Any]:
        """The columns of scores.csv that a score fills."""
        values = {name: value for name, value in vars(self).items() if name not in ("nsd", "nsd_area")}
        tolerances = {nsd_column(tolerance): value for tolerance, value in self.nsd.items()}
        by_area = {nsd_column(tolerance, by_area=True): value for tolerance, value in self.nsd_area.items()}
        volumes = {"volume_difference_ml": self.volume_difference_ml, "volume_ratio": self.volume_ratio}
        return {**values, **volumes, **tolerances, **by_area}


@final
@dataclass(frozen=True, eq=False)
class LabelledMap:
    """Structures that exclude each other: a label map (D, H, W) and the value of each; 0 and others are background."""

    array: np.ndarray
    values: Mapping[str, int]

    def mask(self, structure: str) -> np.ndarray | None:
        """The structure's voxels; None where the map does not know it."""
        value = self.values.get(structure)
        return None if value is None else self.array == value

    def mask_is_known(self, structure: str) -> bool:
        """Whether the map has a value for the structure."""
        return structure in self.values


@final
@dataclass(frozen=True, eq=False)
class Masks:
    """Structures that may overlap: one mask each, bool (D, H, W)."""

    masks: Mapping[str, np.ndarray]

    def mask(self, structure: str) -> np.ndarray | None:
        """The structure's voxels; None where there is no such mask."""
        return self.masks.get(structure)

    def mask_is_known(self, structure: str) -> bool:
        """Whether there is such a mask."""
        return structure in self.masks


Structures = LabelledMap | Masks  # both: mask, mask_is_known


def score_masks(
    mask_ref: np.ndarray, mask_pred: np.ndarray, *, spacing_mm: Sequence[float], tolerances_mm: Sequence[float]
) -> Score:
    """Every score of one structure; surfaces are extracted once and distances looked up once.

    mask_ref, mask_pred: bool, on one grid (the reference's), spacing_mm along its axes; tolerances_mm of the NSD.
    """
    from medpipe.metrics.label_maps import LabelMapPair

    check_mask_pair(mask_ref, mask_pred, spacing_mm)
    pair = LabelMapPair.of_masks(mask_ref, mask_pred, spacing_mm).structure(1)
    return _score(pair, *(work(pair) for work in _works(tolerances_mm)))


def score_label_maps(
    ref: np.ndarray,
    pred: np.ndarray,
    labels: Sequence[int],
    *,
    spacing_mm: Sequence[float],
    tolerances_mm: Sequence[float],
    num_threads: int = 1,
) -> dict[int, Score]:
    """Every score of each label of two label maps (D, H, W) on one grid, found in one pass over both."""
    from medpipe.metrics.label_maps import LabelMapPair, over_structures

    if not labels:
        return {}
    maps = LabelMapPair.of(ref, pred, labels, spacing_mm, num_threads=num_threads)
    found = over_structures(maps, labels, _works(tolerances_mm), num_threads=num_threads)
    return {label: _score(maps.structure(label), *found[label]) for label in labels}


def score_structures(
    ref: Structures,
    pred: Structures,
    structures: Sequence[str],
    *,
    spacing_mm: Sequence[float],
    tolerances_mm: Sequence[float],
    num_threads: int = 1,
) -> dict[str, Score]:
    """Every score of the structures of one case; the reference knows all of them, one that `pred` lacks is missed."""
    options = {"spacing_mm": spacing_mm, "tolerances_mm": tolerances_mm}
    if isinstance(ref, LabelledMap) and isinstance(pred, LabelledMap):
        values = {name: ref.values[name] for name in structures}
        renumbered = _renumbered(pred, values)
        scores = score_label_maps(ref.array, renumbered, list(values.values()), num_threads=num_threads, **options)
        return {name: scores[value] for name, value in values.items()}
    scored = {}
    for name in structures:
        mask_ref, mask_pred = ref.mask(name), pred.mask(name)
        assert mask_ref is not None, f"the reference does not know {name}"
        scored[name] = score_masks(mask_ref, np.zeros_like(mask_ref) if mask_pred is None else mask_pred, **options)
    return scored


def _renumbered(labelled: LabelledMap, values: Mapping[str, int]) -> np.ndarray:
    """The map with the values that another map gives to the same structures; as it is where they are the same."""
    used = {value for value in labelled.values.values() if value}
    if all(labelled.values.get(name) == value for name, value in values.items()):
        return labelled.array
    highest = max(int(labelled.array.max()), *used, 0) if used else int(labelled.array.max())
    kind = np.uint8 if max(values.values()) < 256 else np.int16 if max(values.values()) < 2**15 else np.int32
    table = np.zeros(highest + 1, dtype=kind)
    for name, value in values.items():
        if name in labelled.values:
            table[labelled.values[name]] = value
    return table[labelled.array]


def _works(tolerances_mm: Sequence[float]) -> tuple[Callable[["StructurePair"], dict[str, Any]], ...]:
    """The two halves of a score, each with a look-up of its own, as work for a thread."""

    def by_voxel(pair: "StructurePair") -> dict[str, Any]:
        distances = pair.distances()
        return {
            "hd_mm": distances.hd_mm(),
            "hd95_mm": distances.hd95_mm(),
            "hd95_pooled_mm": distances.hd95_pooled_mm(),
            "hd95_mean_mm": distances.hd95_mean_mm(),
            "assd_mm": distances.assd_mm(),
            "asd_mm": distances.asd_mm(),
            "nsd": {float(tolerance): distances.nsd(tolerance) for tolerance in tolerances_mm},
        }

    def by_area(pair: "StructurePair") -> dict[str, Any]:
        distances = pair.area_distances()
        nsd = {float(tolerance): distances.nsd(tolerance) for tolerance in tolerances_mm}
        return {"hd95_area_mm": distances.hd95_mm(), "nsd_area": nsd}

    return by_voxel, by_area


def _score(pair: "StructurePair", by_voxel: dict[str, Any], by_area: dict[str, Any]) -> Score:
    both, union = pair.num_ref + pair.num_pred, pair.num_ref + pair.num_pred - pair.num_common
    voxel_ml = math.prod(pair.maps.spacing_mm) / 1000
    return Score(
        status=status_of(has_reference=pair.num_ref > 0, has_prediction=pair.num_pred > 0),
        dice=2 * pair.num_common / both if both else math.nan,
        iou=pair.num_common / union if union else math.nan,
        volume_ref_ml=pair.num_ref * voxel_ml,
        volume_pred_ml=pair.num_pred * voxel_ml,
        **by_voxel,
        **by_area,
    )


def status_of(*, has_reference: bool, has_prediction: bool) -> Status:
    """Which of the four cases a pair of masks is."""
    if has_reference:
        return "scored" if has_prediction else "missed"
    return "false" if has_prediction else "absent"
