"""The metrics of a scored procedure that models are compared by: the columns of a file of phase scores."""

from collections.abc import Mapping
from types import MappingProxyType

from medpipe.metrics.metric import Metric
from medpipe.metrics.phases import PHASES

# Stands in every file of phase scores, as DEFINITION in those of structures; raised when a definition changes.
PHASE_DEFINITION = "medpipe-phases-1"

_OF_A_VIDEO: Mapping[str, Metric] = {
    "accuracy": Metric("Accuracy", "", True, "Share of a procedure's scored frames with the right phase."),
    "balanced_accuracy": Metric("Balanced accuracy", "", True, "Mean recall over the phases that the reference holds."),
    "macro_f1": Metric(
        "Macro F1", "", True, "Mean F1 by frame over the phases that the procedure or its prediction holds."
    ),
    "weighted_f1": Metric("Weighted F1", "", True, "Mean F1 by frame, weighted by the reference's frames."),
    "weighted_jaccard": Metric("Weighted Jaccard", "", True, "Mean Jaccard, weighted by the reference's frames."),
    "edit": Metric(
        "Edit score", "%", True, "100 (1 - Levenshtein distance of the sequences of phases / length of the longer one)."
    ),
    **{
        f"f1_at_{overlap}": Metric(
            f"F1@{overlap}",
            "%",
            True,
            f"F1 over a procedure's segments: right where the reference's best segment of the phase overlaps by "
            f"{overlap} % of the union, each once.",
        )
        for overlap in (10, 25, 50)
    },
    "boundary_error_s": Metric(
        "Boundary error",
        "s",
        False,
        "Mean time from a boundary of the reference to the nearest predicted one into the same phase.",
    ),
    "calibration_error": Metric(
        "Calibration error", "", False, "Expected calibration error of the predicted phase's probability, 15 bins."
    ),
    "withdrawal_absolute_error_s": Metric(
        "Withdrawal error", "s", False, "|predicted - reference withdrawal time|; undefined where one has no caecum."
    ),
    "published_withdrawal_error": Metric(
        "Published withdrawal error",
        "%",
        False,
        "|predicted - reference frames of classes 2 to 8| / reference frames: early and late errors cancel in it.",
    ),
}

PHASE_METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        **_OF_A_VIDEO,
        **{f"f1_{name}": Metric(f"F1 of {name}", "", True, f"F1 by frame of {name}.") for name in PHASES},
        **{
            f"jaccard_{name}": Metric(f"Jaccard of {name}", "", True, f"Jaccard by frame of {name}.") for name in PHASES
        },
    }
)
