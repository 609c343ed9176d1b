"""The learning rate as a pure function of the step, so that a resumed training needs no scheduler's state."""

import math

from medpipe.tasks.options import TrainingConfig

POLY_POWER = 0.9  # nnU-Net


def schedule_factor(step: int, config: TrainingConfig) -> float:
    """Share of `config.learning_rate` that step `step` (from 0) uses: linear warm-up, then the schedule.

    poly: (1 - t)^0.9; cosine: (1 + cos(pi t)) / 2; constant: 1; with t running from 0 to below 1 after the warm-up.
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / (config.num_steps - config.warmup_steps)
    if config.schedule == "poly":
        return (1 - done) ** POLY_POWER
    if config.schedule == "cosine":
        return (1 + math.cos(math.pi * done)) / 2
    return 1.0
