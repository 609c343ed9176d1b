"""Validation within a training: Dice over whole volumes of the fold's held-out patients, on the prepared grid."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from medpipe.tasks.options import PredictionConfig

if TYPE_CHECKING:
    from medpipe.datasets.prepared import PreparedCase
    from medpipe.datasets.preprocessing import Preprocessing
    from medpipe.tasks.segmentation_network import SegmentationNetwork


def validation_dice(
    network: "SegmentationNetwork",
    cases: "Sequence[PreparedCase]",
    preprocessing: "Preprocessing",
    *,
    structures: Sequence[str],
    patch_size: tuple[int, int, int],
    config: PredictionConfig,
    should_stop: Callable[[], bool],
) -> dict[str, float] | None:
    """`validation_dice` (mean over structures) and `dice_<structure>` (mean over cases); None where stopped half-way.

    Structures that are absent in reference and prediction, or not annotated, are left out of a case's mean.
    """
    from medpipe.tasks.prediction import predict_prepared
    from medpipe.tasks.sliding_window import PredictionStopped

    device = next(network.parameters()).device
    found: dict[str, list[float]] = {name: [] for name in structures}
    for case in cases:
        try:
            labels = predict_prepared(
                [network],
                np.asarray(case.image()),
                preprocessing,
                patch_size=patch_size,
                output=network.output,
                structures=structures,
                config=config,
                device=device,
                should_stop=should_stop,
            )
        except PredictionStopped:
            return None
        for name, dice in case_dice(case, labels, structures, network.output).items():
            found[name].append(dice)
    means = {name: float(np.nanmean(values)) for name, values in found.items() if not np.all(np.isnan(values))}
    mean = float(np.mean(list(means.values()))) if means else float("nan")
    return {"validation_dice": mean, **{f"dice_{name}": value for name, value in means.items()}}


def case_dice(case: "PreparedCase", labels: np.ndarray, structures: Sequence[str], output: str) -> dict[str, float]:
    """Dice of each structure that is annotated in the case; NaN where neither reference nor prediction has it."""
    from medpipe.datasets.label_store import decode_target
    from medpipe.metrics.overlap import dice

    stored = case.labels()
    if stored is None:
        return {}
    masks = decode_target(np.asarray(stored), case.label_kind, case.structures, structures, "sigmoid")
    return {
        name: dice(masks[index] > 0, labels[index] if output == "sigmoid" else labels == index + 1)
        for index, name in enumerate(structures)
        if case.is_annotated(name)
    }
