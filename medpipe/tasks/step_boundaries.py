"""What happens between the steps of a training: validation, the row of figures, saving, stopping, the next seed."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from medpipe.tasks.checkpoints import CHECKPOINT_FILE, FORMAT, best_path, remove_other_best, save_atomically
from medpipe.tasks.ema import WeightAverage
from medpipe.tasks.loading import SampleFault
from medpipe.tasks.metrics_file import MetricsFile
from medpipe.tasks.options import TrainingConfig
from medpipe.tasks.processes import Processes
from medpipe.tasks.schedules import schedule_factor
from medpipe.tasks.sharding import load_optimiser_state, optimiser_state, whole_tensors
from medpipe.tasks.task import Task

# Figures of whole-volume validation after a step; None where it was stopped half-way.
Validate = Callable[[int], dict[str, float] | None]
OnStep = Callable[[int, dict[str, float]], None]


def identity_of(config: TrainingConfig, seed: int) -> dict[str, Any]:
    """The values that decide a training's result, as plain values."""
    execution = {
        name
        for name, field in type(config).model_fields.items()
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("execution")
    }
    # `keep` only chooses between weights that are both at hand.
    return {**config.model_dump(mode="json", exclude=execution | {"keep"}), "seed": seed}


def step_seed(seed: int, step: int, first: int) -> int:
    """A seed for torch's own generator that depends on the step and the process's first place in the batch alone."""
    return int(np.random.SeedSequence([seed, step, first]).generate_state(1, np.uint64)[0] >> np.uint64(1))


@final
class StepBoundaries(Callback):
    """What happens at the step boundaries of one call of `fit`."""

    def __init__(
        self,
        task: Task,
        config: TrainingConfig,
        folder: Path,
        seed: int,
        should_stop: Callable[[], bool],
        validate: Validate | None,
        on_step: OnStep | None,
        state: dict[str, Any] | None,
        processes: Processes,
    ) -> None:
        self.task, self.config, self.folder, self.seed = task, config, folder, seed
        self.processes = processes
        # What validation sees: of weights in shards, a whole copy that every process fills beforehand.
        self.judged = task
        self.should_stop, self.validate, self.on_step = should_stop, validate, on_step
        self.step: int = 0 if state is None else state["step"]
        self.best_step: int | None = None if state is None else state["best_step"]
        self.best_score: float | None = None if state is None else state["best_score"]
        # Figures of a step whose validation was cut off by a stop: it is made up for before the next step.
        self.pending: dict[str, float] | None = None if state is None else state["pending"]
        self.average: WeightAverage | None = None
        self.interrupted = False
        self._state = state
        self._last_saved, self._last_saved_at = self.step if state is not None else -1, time.monotonic()
        self._metrics: MetricsFile | None = None  # of the first process alone, as all files are
        if state is not None:
            task.load_state_dict(state["weights"])

    @property
    def finished(self) -> bool:
        return self.step >= self.config.num_steps and self.pending is None and self._last_saved == self.step

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.processes.is_first:
            self._open_files()
        if self.config.ema_decay is not None:
            self.average = WeightAverage(self.task.network, self.config.ema_decay)
        if self._state is not None:
            load_optimiser_state(trainer.optimizers[0], self._state["optimiser"])
            trainer.precision_plugin.load_state_dict(self._state["loss_scaling"])
            if self.average is not None:
                self.average.load_state_dict(self._state["average"])
            self._state = None  # the memory of a second copy of everything
        self.processes.wait()
        if self.pending is not None:
            self._end_of_step(trainer, self.pending, self.processes.any(self.should_stop()), False)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> int | None:
        if trainer.should_stop:
            return -1  # the stop came while a validation was made up for
        if isinstance(batch, SampleFault):
            batch.throw()
        first = self.processes.rank * (self.config.batch_size // self.processes.size)
        self.task.current_step = self.step
        self.task.first_sample = self.step * self.config.batch_size + first
        torch.manual_seed(step_seed(self.seed, self.step, first))
        trainer.optimizers[0].zero_grad(set_to_none=True)
        rate = self._learning_rate()
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = rate * group["factor"]
        return None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        stop, save = self.should_stop(), self._save_is_due(self.step + 1)
        loss, num_stops, num_saves = self.processes.sum([float(outputs["value"]), float(stop), float(save)])
        # 16-mixed skips such a step by itself and lowers its scale; elsewhere the weights are lost.
        if not math.isfinite(loss) and self.config.precision != "16-mixed":
            raise FloatingPointError(
                f"the loss of step {self.step} is {loss}; lower training.learning_rate "
                f"(now {self.config.learning_rate}) or lengthen training.warmup_steps, then start again: "
                "the last save is from before"
            )
        figures = {"loss": loss, "learning_rate": self._learning_rate()}
        self.step += 1
        if self.average is not None:
            self.average.update(self.step)
        self.task.after_step(self.step, self.config.num_steps)
        if self.on_step is not None and self.processes.is_first:
            self.on_step(self.step, figures)
        stop = num_stops > 0 or (self.processes.size == 1 and self.should_stop())
        self._end_of_step(trainer, figures, stop, num_saves > 0)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.interrupted = isinstance(exception, KeyboardInterrupt)

    def validate_what_is_pending(self) -> None:
        """Make up for the last step's validation, where nothing else is left to do."""
        assert self.pending is not None
        assert self._state is not None
        state = self._state
        if self.processes.is_first:
            self._open_files()
        if self.config.ema_decay is not None:
            self.average = WeightAverage(self.task.network, self.config.ema_decay)
            self.average.load_state_dict(state["average"])
        validation = None if self.processes.any(self.should_stop()) else self._validated()
        if validation is None:
            return
        if self._metrics is not None:
            self._metrics.add(self.step, {**self.pending, **validation})
            best = {"best_step": self.best_step, "best_score": self.best_score}
            save_atomically({**state, **best, "pending": None}, self.folder / CHECKPOINT_FILE)
            remove_other_best(self.folder, self.best_step)
        self.processes.wait()
        self.pending, self._last_saved = None, self.step

    def close(self) -> None:
        if self._metrics is not None:
            self._metrics.close()

    def _open_files(self) -> None:
        """Cut metrics back to the resumed step, and remove best weights that the checkpoint does not know."""
        remove_other_best(self.folder, self.best_step)
        self._metrics = MetricsFile(self.folder, self.step - 1 if self.pending is not None else self.step)

    def _learning_rate(self) -> float:
        return self.config.learning_rate * schedule_factor(self.step, self.config)

    def _end_of_step(self, trainer: Trainer, figures: dict[str, float], stop: bool, save: bool) -> None:
        """Validate, write the row, save, stop: in this order, so that a checkpoint has its rows on disk.

        `stop`, `save`: whether any process is asked to; they do so together or not at all.
        """
        self.pending = None
        if self._validation_is_due():
            validation = None if stop else self._validated()
            if validation is None:
                stop, self.pending = True, figures
            else:
                figures = {**figures, **validation}
        if self._metrics is not None and self.pending is None:
            self._metrics.add(self.step, figures)
        if stop or save or self.step == self.config.num_steps:
            self._save(trainer)
        trainer.should_stop = stop

    def _validation_is_due(self) -> bool:
        every = self.config.validate_every
        at_last = self.step == self.config.num_steps
        return self.validate is not None and (at_last or (every > 0 and self.step % every == 0))

    def _validated(self) -> dict[str, float] | None:
        """Figures of a validation with the weights to hand over; keeps these where they are the best so far."""
        assert self.validate is not None
        average = self.average
        if self.judged is not self.task:
            weights = whole_tensors(self.task.network.state_dict() if average is None else average.state_dict())
            self.judged.to(self.task.device).network.load_state_dict(weights)
            return self._judged(weights)
        if average is None:
            return self._judged(self.task.network.state_dict())
        with average.applied():
            return self._judged(average.state_dict())

    def _judged(self, weights: dict[str, Tensor]) -> dict[str, float] | None:
        assert self.validate is not None
        self.judged.eval()
        with torch.no_grad():
            figures = self.validate(self.step)
        self.judged.train()
        if self.processes.any(figures is None) or figures is None:
            return None
        score = figures.get(self.task.best_metric, math.nan)
        before = self.best_score
        if not math.isnan(score) and (
            before is None or (score > before if self.task.best_is_highest else score < before)
        ):
            self.best_step, self.best_score = self.step, float(score)
            if self._metrics is not None:
                best = {"step": self.step, "score": float(score), "weights": weights}
                save_atomically(best, best_path(self.folder, self.step))
        return figures

    def _save_is_due(self, step: int) -> bool:
        steps, minutes = self.config.save_every_steps, self.config.save_every_minutes
        by_steps = steps is not None and step % steps == 0
        return by_steps or (minutes is not None and time.monotonic() - self._last_saved_at >= 60 * minutes)

    def _save(self, trainer: Trainer) -> None:
        state = {
            "format": FORMAT,
            "step": self.step,
            "identity": identity_of(self.config, self.seed),
            "weights": whole_tensors(self.task.state_dict()),
            "optimiser": optimiser_state(trainer.optimizers[0]),
            "loss_scaling": trainer.precision_plugin.state_dict(),
            "average": None if self.average is None else whole_tensors(self.average.state_dict()),
            "best_step": self.best_step,
            "best_score": self.best_score,
            "pending": self.pending,
        }
        if self.processes.is_first:
            save_atomically(state, self.folder / CHECKPOINT_FILE)
            remove_other_best(self.folder, self.best_step)
        self.processes.wait()
        self._last_saved, self._last_saved_at = self.step, time.monotonic()
