"""Validation within a training: Dice over whole volumes of the fold's held-out patients, on the prepared grid."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from medpipe.tasks.options import PredictionConfig
from medpipe.tasks.processes import ALONE, Processes

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
    processes: Processes = ALONE,
) -> dict[str, float] | None:
    """`validation_dice` (mean over structures) and `dice_<structure>` (mean over cases); None where stopped half-way.

    Processes share the cases out, each case to one of them, and all return the same figures. Structures that are absent
    in reference and prediction, or not annotated, are left out of a case's mean.
    """
    from medpipe.tasks.prediction import predict_prepared
    from medpipe.tasks.sliding_window import PredictionStopped

    device = next(network.parameters()).device
    own: list[dict[str, float] | None] = []
    for case in processes.share(cases):
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
            own.append(None)
            break
        own.append(case_dice(case, labels, structures, network.output))
    scores = processes.merge_shares(own)
    return None if None in scores else mean_dice([found for found in scores if found is not None], structures)


def mean_dice(scores: Sequence[dict[str, float]], structures: Sequence[str]) -> dict[str, float]:
    """`dice_<structure>`, the means over the cases, and their mean, from the Dice of each structure in each case."""
    values = {name: [found[name] for found in scores if name in found] for name in structures}
    means = {name: float(np.nanmean(of)) for name, of in values.items() if not np.all(np.isnan(of))}
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
