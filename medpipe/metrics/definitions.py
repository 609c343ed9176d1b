"""The table of metrics, and the sentence that defines each number; every report prints them."""

import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import final

from medpipe.metrics.metric import Metric
from medpipe.metrics.phase_metrics import PHASE_METRICS

# Stands in every file of scores: numbers made by different definitions must never be compared with each other. It is
# raised when a definition below changes.
DEFINITION = "medpipe-1"


_FIXED: Mapping[str, Metric] = MappingProxyType(
    {
        "dice": Metric(
            "Dice", "", True, "Twice the voxels common to reference and prediction over the sum of both masks' voxels."
        ),
        "iou": Metric("IoU", "", True, "Voxels common to reference and prediction over the voxels of either."),
        "hd_mm": Metric(
            "HD",
            "mm",
            False,
            "Hausdorff distance: the largest distance from a surface voxel of either mask to the surface of the other.",
        ),
        "hd95_mm": Metric(
            "HD95",
            "mm",
            False,
            "The larger of the two directed 95th percentiles of the surface distances (reference to prediction, "
            "prediction to reference), with linear interpolation. Not the pooled percentile of MedPy and nnU-Net v1, "
            "nor the mean of the two directed ones.",
        ),
        "hd95_pooled_mm": Metric(
            "HD95 pooled",
            "mm",
            False,
            "The 95th percentile of the surface distances of both directions pooled, as MedPy and nnU-Net v1 have it.",
        ),
        "hd95_mean_mm": Metric(
            "HD95 mean of both", "mm", False, "The mean of the two directed 95th percentiles of the surface distances."
        ),
        "hd95_area_mm": Metric(
            "HD95 by area",
            "mm",
            False,
            "As DeepMind's surface-distance: distances between the corners of voxels on both surfaces, each weighted "
            "by its area of surface; the larger of the two directed distances at which 95 % of the area is reached.",
        ),
        "assd_mm": Metric(
            "ASSD",
            "mm",
            False,
            "Average symmetric surface distance: the mean of the surface distances of both directions, pooled.",
        ),
        "asd_mm": Metric(
            "ASD",
            "mm",
            False,
            "Average surface distance from the prediction's surface to the reference's, one direction.",
        ),
        "volume_difference_ml": Metric(
            "Volume difference", "ml", None, "Volume of the prediction less that of the reference."
        ),
        "volume_ratio": Metric(
            "Volume ratio",
            "",
            None,
            "Volume of the prediction over that of the reference; infinite where that is empty.",
        ),
    }
)

_NSD = re.compile(r"nsd_(area_)?(\d+(?:\.\d+)?)mm")


@final
class _Metrics(Mapping[str, Metric]):
    """The fixed metrics, those with a tolerance in their name (nsd_2mm, nsd_area_1.5mm), and those of phases."""

    def __getitem__(self, column: str) -> Metric:
        if column in _FIXED:
            return _FIXED[column]
        if column in PHASE_METRICS:
            return PHASE_METRICS[column]
        found = _NSD.fullmatch(column)
        if found is None:
            raise KeyError(column)
        tolerance = f"{float(found[2]):g} mm"
        if found[1]:
            return Metric(
                f"NSD by area at {tolerance}",
                "",
                True,
                f"Surface Dice as DeepMind's surface-distance: the share of both surfaces' area within {tolerance} of "
                "the other surface.",
            )
        return Metric(
            f"NSD at {tolerance}",
            "",
            True,
            f"Normalised surface Dice: the share of the surface voxels of both masks within {tolerance} of the other "
            "surface; counted in voxels, not weighted by area.",
        )

    def __iter__(self) -> Iterator[str]:
        return iter(_FIXED)

    def __len__(self) -> int:
        return len(_FIXED)


# Key: the column of scores.csv. Order: the order of the tables. Iteration gives the fixed ones of structures alone.
METRICS: Mapping[str, Metric] = _Metrics()


def nsd_column(tolerance_mm: float, *, by_area: bool = False) -> str:
    """The column of the NSD at a tolerance."""
    return f"nsd_{'area_' if by_area else ''}{tolerance_mm:g}mm"


def metrics_in(columns: Iterable[str]) -> list[str]:
    """The metrics among some columns: the fixed ones in their order, then the NSD by voxel and by area as they come."""
    given = list(columns)
    tolerant = [name for name in given if _NSD.fullmatch(name)]
    by_area = [name for name in tolerant if name.startswith("nsd_area_")]
    return [name for name in _FIXED if name in given] + [name for name in tolerant if name not in by_area] + by_area


_RULES: Mapping[str, str] = MappingProxyType(
    {
        "surface": "A mask's voxels less its erosion by the six face neighbours, the image border counting as outside. "
        "Distances run between voxel centres in mm.",
        "grid": "Scores are computed on the grid of the reference.",
        "missed": "The reference holds the structure, the prediction does not: Dice, IoU and NSD are 0, distances "
        "infinite. Counted, never dropped.",
        "false": "The prediction holds a structure that the reference does not: Dice, IoU and NSD are 0, distances "
        "infinite. Counted, never dropped.",
        "absent": "Neither mask holds the structure: undefined, left out of n and counted apart.",
        "n": "Patients with a defined score. Several examinations of one patient (or several networks' predictions of "
        "it) are averaged first; one missed among them makes the patient's mean distance infinite. Missed, false and "
        "absent count patients, the first two those with at least one such examination.",
        "mean ± SD": "Mean and sample standard deviation (n - 1) over the patients with a finite value: of distances, "
        "over those neither missed nor false, so read it beside these two counts.",
        "median [IQR]": "Median, first and third quartile over all n patients, infinite values included in their "
        "place (order statistics with linear interpolation; between a finite and an infinite one: infinite).",
        "mean Dice": "Of a case: the mean over its structures with a defined Dice. Of a model: the mean of its "
        "structures' means, so that every structure counts the same.",
    }
)


def definitions(columns: Iterable[str] = ()) -> dict[str, str]:
    """Name -> the sentence that defines it, for each number of a report; `columns`: of its scores, else all fixed."""
    names = metrics_in(columns) or list(_FIXED)
    return {**{METRICS[name].title: METRICS[name].definition for name in names}, **_RULES}
