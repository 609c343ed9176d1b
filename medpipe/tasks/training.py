"""Training on Lightning's Trainer, ended at any step boundary and gone on with to the same weights.

Lightning's own progress state is not used: it counts epochs, and a resume in the middle of one is not exact. Each call
of `fit` is a Trainer with one epoch of the steps that are left. The learning rate is a function of the step, samples
are named by the step, torch's generators are seeded anew at every step by (seed, step, rank), and everything else stands
in the checkpoint: weights, optimiser, average, loss scaling.
"""

import logging
import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from medpipe.tasks.checkpoints import (
    CHECKPOINT_FILE,
    FORMAT,
    best_path,
    load_state,
    read_checkpoint,
    remove_other_best,
    save_atomically,
)
from medpipe.tasks.ema import WeightAverage
from medpipe.tasks.loading import KeyedBatches, SampleFault, explain_dead_worker, keyed_loader
from medpipe.tasks.metrics_file import MetricsFile
from medpipe.tasks.options import TrainingConfig
from medpipe.tasks.schedules import schedule_factor
from medpipe.tasks.segmentation_network import lay_out
from medpipe.tasks.task import Task

# Figures of whole-volume validation after a step; None where it was stopped half-way.
Validate = Callable[[int], dict[str, float] | None]
OnStep = Callable[[int, dict[str, float]], None]


@final
@dataclass(frozen=True)
class FitResult:
    """`finished` is False where the training was asked to stop; the next call of `fit` goes on."""

    finished: bool
    step: int
    best_step: int | None = None
    best_score: float | None = None


def fit(
    task: Task,
    dataset: Any,
    config: TrainingConfig,
    folder: Path,
    *,
    seed: int,
    should_stop: Callable[[], bool],
    validate: Validate | None = None,
    on_step: OnStep | None = None,
    accept_changes: bool = False,
) -> FitResult:
    """Train `task` to `config.num_steps`, going on from `folder`'s checkpoint where there is one.

    dataset: samples by number (any int from 0). After a finished training the task holds the weights to hand over: the
    average where `ema_decay` is set, the best where `keep` is "best". `validate(step)` runs with the weights that would
    be handed over, without gradients. Signals belong to the caller, who answers by `should_stop`.

    Raises ValueError where the checkpoint was made with other values (unless `accept_changes`), LoaderWorkerDied, the
    dataset's own exceptions, FloatingPointError where the loss is not a number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = read_checkpoint(folder, identity_of(config, seed), accept_changes=accept_changes)
    task.seed, task.optimise = seed, config
    if state is None or state["step"] < config.num_steps or state["pending"] is not None:
        run = _Run(task, config, folder, seed, should_stop, validate, on_step, state)
        _train(run, dataset)
        if not run.finished:
            return FitResult(False, run.step, run.best_step, run.best_score)
        state = load_state(folder / CHECKPOINT_FILE)
    _hand_over(task, state, config, folder)
    return FitResult(True, state["step"], state["best_step"], state["best_score"])


def identity_of(config: TrainingConfig, seed: int) -> dict[str, Any]:
    """The values that decide a training's result, as plain values."""
    execution = {
        name
        for name, field in type(config).model_fields.items()
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("execution")
    }
    # `keep` only chooses between weights that are both at hand.
    return {**config.model_dump(mode="json", exclude=execution | {"keep"}), "seed": seed}


def step_seed(seed: int, step: int, rank: int) -> int:
    """A seed for torch's generators that depends on (seed, step, rank) alone."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _hand_over(task: Task, state: dict[str, Any], config: TrainingConfig, folder: Path) -> None:
    """Leave the task with the weights that `config` asks for."""
    task.load_state_dict(state["weights"])
    if config.keep == "best" and state["best_step"] is not None:
        task.network.load_state_dict(load_state(best_path(folder, state["best_step"]))["weights"])
    elif state["average"] is not None:
        task.network.load_state_dict(state["average"])


def _train(run: "_Run", dataset: Any) -> None:
    """Let Lightning run the steps that are left, without its files, messages and signal handling."""
    config = run.config
    with _quiet_lightning(), _signals_of_the_caller(run):
        trainer = Trainer(
            accelerator=config.accelerator,
            devices=config.devices,
            num_nodes=config.num_nodes,
            strategy=config.strategy,
            precision=config.precision,
            gradient_clip_val=config.gradient_clip,
            max_epochs=1,
            callbacks=[run],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            benchmark=False,
            default_root_dir=run.folder,
        )
        # Signals set the caller's flag alone: Lightning's handler would raise in the middle of a step (#20542, #21406).
        trainer._signal_connector.register_signal_handlers = lambda: None
        batches = KeyedBatches(
            run.step, config.num_steps, config.batch_size, rank=trainer.global_rank, num_ranks=trainer.world_size
        )
        loader = keyed_loader(
            dataset, batches, num_workers=config.num_workers, pin_memory=trainer.strategy.root_device.type == "cuda"
        )
        try:
            if len(batches):
                trainer.fit(run.task, loader)
            else:
                run.validate_what_is_pending()
        except RuntimeError as error:
            raise explain_dead_worker(error, config.num_workers) or error from error
        finally:
            run.close()


@final
class _Run(Callback):
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
    ) -> None:
        self.task, self.config, self.folder, self.seed = task, config, folder, seed
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
        remove_other_best(folder, self.best_step)
        self._metrics = MetricsFile(folder, self.step - 1 if self.pending is not None else self.step)
        if state is not None:
            task.load_state_dict(state["weights"])

    @property
    def finished(self) -> bool:
        return self.step >= self.config.num_steps and self.pending is None and self._last_saved == self.step

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        lay_out(self.task, trainer.strategy.root_device)
        if self.config.ema_decay is not None:
            self.average = WeightAverage(self.task.network, self.config.ema_decay)
        if self._state is not None:
            trainer.strategy.load_optimizer_state_dict({"optimizer_states": [self._state["optimiser"]]})
            trainer.precision_plugin.load_state_dict(self._state["loss_scaling"])
            if self.average is not None:
                self.average.load_state_dict(self._state["average"])
            self._state = None  # the memory of a second copy of everything
        if self.pending is not None:
            self._end_of_step(trainer, self.pending)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> int | None:
        if trainer.should_stop:
            return -1  # the stop came while a validation was made up for
        if isinstance(batch, SampleFault):
            batch.throw()
        per_rank = self.config.batch_size // trainer.world_size
        self.task.current_step = self.step
        self.task.first_sample = self.step * self.config.batch_size + trainer.global_rank * per_rank
        torch.manual_seed(step_seed(self.seed, self.step, trainer.global_rank))
        rate = self._learning_rate()
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = rate * group["factor"]
        return None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = float(_loss_of(outputs))
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
        if self.on_step is not None and trainer.is_global_zero:
            self.on_step(self.step, figures)
        self._end_of_step(trainer, figures)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.interrupted = isinstance(exception, KeyboardInterrupt)

    def validate_what_is_pending(self) -> None:
        """Make up for the last step's validation, where nothing else is left to do."""
        assert self.pending is not None
        assert self._state is not None
        state = self._state
        if self.config.ema_decay is not None:
            self.average = WeightAverage(self.task.network, self.config.ema_decay)
            self.average.load_state_dict(state["average"])
        validation = None if self.should_stop() else self._validated(self.task.device)
        if validation is not None:
            self._metrics.add(self.step, {**self.pending, **validation})
            best = {"best_step": self.best_step, "best_score": self.best_score}
            save_atomically({**state, **best, "pending": None}, self.folder / CHECKPOINT_FILE)
            remove_other_best(self.folder, self.best_step)
            self.pending, self._last_saved = None, self.step

    def close(self) -> None:
        self._metrics.close()

    def _learning_rate(self) -> float:
        return self.config.learning_rate * schedule_factor(self.step, self.config)

    def _end_of_step(self, trainer: Trainer, figures: dict[str, float]) -> None:
        """Validate, write the row, save, stop: in this order, so that a checkpoint has its rows on disk."""
        stop = self._asked_to_stop(trainer)
        self.pending = None
        if self._validation_is_due():
            validation = None if stop else self._validated(trainer.strategy.root_device)
            if validation is None:
                stop, self.pending = True, figures
            else:
                figures = {**figures, **validation}
        if trainer.is_global_zero and self.pending is None:
            self._metrics.add(self.step, figures)
        if stop or self.step == self.config.num_steps or self._save_is_due():
            self._save(trainer)
        trainer.should_stop = stop

    def _asked_to_stop(self, trainer: Trainer) -> bool:
        asked = self.should_stop()
        return trainer.strategy.reduce_boolean_decision(asked, all=False) if trainer.world_size > 1 else asked

    def _validation_is_due(self) -> bool:
        every = self.config.validate_every
        at_last = self.step == self.config.num_steps
        return self.validate is not None and (at_last or (every > 0 and self.step % every == 0))

    def _validated(self, device: torch.device) -> dict[str, float] | None:
        """Figures of a validation with the weights to hand over; keeps these where they are the best so far."""
        assert self.validate is not None
        if self.average is None:
            return self._judged(self.task.network.state_dict())
        with self.average.applied():
            return self._judged(self.average.state_dict())

    def _judged(self, weights: dict[str, Tensor]) -> dict[str, float] | None:
        assert self.validate is not None
        self.task.eval()
        with torch.no_grad():
            figures = self.validate(self.step)
        self.task.train()
        if figures is None:
            return None
        score = figures.get(self.task.best_metric, math.nan)
        before = self.best_score
        if not math.isnan(score) and (
            before is None or (score > before if self.task.best_is_highest else score < before)
        ):
            self.best_step, self.best_score = self.step, float(score)
            save_atomically(
                {"step": self.step, "score": float(score), "weights": weights}, best_path(self.folder, self.step)
            )
        return figures

    def _save_is_due(self) -> bool:
        steps, minutes = self.config.save_every_steps, self.config.save_every_minutes
        by_steps = steps is not None and self.step % steps == 0
        return by_steps or (minutes is not None and time.monotonic() - self._last_saved_at >= 60 * minutes)

    def _save(self, trainer: Trainer) -> None:
        state = {
            "format": FORMAT,
            "step": self.step,
            "identity": identity_of(self.config, self.seed),
            "weights": trainer.strategy.lightning_module_state_dict(),
            "optimiser": trainer.strategy.optimizer_state(trainer.optimizers[0]),
            "loss_scaling": trainer.precision_plugin.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "best_step": self.best_step,
            "best_score": self.best_score,
            "pending": self.pending,
        }
        if trainer.is_global_zero:
            save_atomically(state, self.folder / CHECKPOINT_FILE)
            remove_other_best(self.folder, self.best_step)
        self._last_saved, self._last_saved_at = self.step, time.monotonic()


def _loss_of(outputs: Any) -> Tensor:
    return outputs["loss"] if isinstance(outputs, dict) else outputs


@contextmanager
def _signals_of_the_caller(run: _Run) -> Iterator[None]:
    """A KeyboardInterrupt stays one: Lightning ends the process with exit code 1 and leaves Ctrl-C ignored."""
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if run.interrupted:
            raise KeyboardInterrupt from error
        raise
    finally:
        if in_main and before is not None:
            signal.signal(signal.SIGINT, before)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Lightning's hints about devices, workers and its products say nothing about this training."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(pytorch_lightning|lightning_fabric|torch\.utils\.data)\b.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
