"""Training on Lightning's Trainer, ended at any step boundary and gone on with to the same weights.

Lightning's own progress state is not used: it counts epochs, and a resume in the middle of one is not exact. Each call
of `fit` is a Trainer with one epoch of the steps that are left. The learning rate is a function of the step, samples
are named by the step, torch's generators are seeded anew at every step by (seed, step, rank). Everything else stands in
the checkpoint: weights, optimiser, average, loss scaling.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from pytorch_lightning import Trainer

from medpipe.tasks.checkpoints import CHECKPOINT_FILE, best_path, load_state, read_checkpoint
from medpipe.tasks.lightning_context import quiet_lightning, signals_of_the_caller
from medpipe.tasks.loading import KeyedBatches, explain_dead_worker, keyed_loader
from medpipe.tasks.options import TrainingConfig
from medpipe.tasks.step_boundaries import OnStep, StepBoundaries, Validate, identity_of
from medpipe.tasks.task import Task


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
        run = StepBoundaries(task, config, folder, seed, should_stop, validate, on_step, state)
        _train(run, dataset)
        if not run.finished:
            return FitResult(False, run.step, run.best_step, run.best_score)
        state = load_state(folder / CHECKPOINT_FILE)
    _hand_over(task, state, config, folder)
    return FitResult(True, state["step"], state["best_step"], state["best_score"])


def _hand_over(task: Task, state: dict[str, Any], config: TrainingConfig, folder: Path) -> None:
    """Leave the task with the weights that `config` asks for."""
    task.load_state_dict(state["weights"])
    if config.keep == "best" and state["best_step"] is not None:
        task.network.load_state_dict(load_state(best_path(folder, state["best_step"]))["weights"])
    elif state["average"] is not None:
        task.network.load_state_dict(state["average"])


def _train(run: StepBoundaries, dataset: Any) -> None:
    """Let Lightning run the steps that are left, without its files, messages and signal handling."""
    config = run.config
    with quiet_lightning(), signals_of_the_caller(run):
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
                run.validate_what_is_pending(trainer)
        except (RuntimeError, ConnectionError, EOFError) as error:
            explained = explain_dead_worker(error, config.num_workers)
            if explained is None:
                raise
            raise explained from error
        finally:
            run.close()
