"""The table of metrics, and the sentence that defines each number; every report prints them."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import final

# Stands in every file of scores: numbers made by different definitions must never be compared with each other. It is
# raised when a definition below changes.
DEFINITION = "medpipe-1"


@final
@dataclass(frozen=True)
class Metric:
    """How a score is called, read and defined."""

    title: str
    unit: str  # "" for a share between 0 and 1
    higher_is_better: bool
    definition: str

    @property
    def heading(self) -> str:
        return f"{self.title} (mm)" if self.unit else self.title


# Key: the column of scores.csv. Order: the order of the tables.
METRICS: Mapping[str, Metric] = MappingProxyType(
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
        "nsd": Metric(
            "NSD",
            "",
            True,
            "Normalised surface Dice: the share of the surface voxels of both masks that lie within the stated "
            "tolerance of the other surface; counted in voxels, not weighted by area.",
        ),
    }
)

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


def definitions(tolerance_mm: float | None = None) -> dict[str, str]:
    """Name -> the sentence that defines it, for each number of a report; with the NSD's tolerance where it is known."""
    sentences = {metric.title: metric.definition for metric in METRICS.values()}
    if tolerance_mm is not None:
        sentences["NSD"] = sentences["NSD"].replace("the stated tolerance", f"{tolerance_mm:g} mm")
    return {**sentences, **_RULES}
