"""Training on Lightning's Trainer, ended at any step boundary and gone on with to the same weights.

Lightning's own progress state is not used: it counts epochs, and a resume in the middle of one is not exact. Each call
of `fit` is a Trainer with one epoch of the steps that are left. The learning rate is a function of the step, samples
are named by the step, dropout draws by (seed, sample). Everything else stands in
the checkpoint: weights, optimiser, average, loss scaling.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from medpipe.tasks.checkpoints import agreed_checkpoint, best_path, load_state
from medpipe.tasks.dropout import drops
from medpipe.tasks.lightning_context import quiet_lightning, signals_of_the_caller
from medpipe.tasks.loading import KeyedBatches, explain_dead_worker, keyed_loader
from medpipe.tasks.options import TrainingConfig
from medpipe.tasks.processes import ALONE, Processes
from medpipe.tasks.segmentation_network import lay_out
from medpipe.tasks.step_boundaries import OnStep, StepBoundaries, Validate, identity_of
from medpipe.tasks.task import Task
from medpipe.tasks.trainer import check_normalisation, make_trainer


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
    processes: Processes = ALONE,
) -> FitResult:
    """Train `task` to `config.num_steps`, going on from `folder`'s checkpoint where there is one.

    dataset: samples by number (any int from 0). After a finished training the task holds the weights to hand over: the
    average where `ema_decay` is set, the best where `keep` is "best". `validate(step)` runs with the weights that would
    be handed over, without gradients. Signals belong to the caller, who answers by `should_stop`.

    All `processes` call this together, with the same values, task and data; `validate` must give all of them the same
    figures. They stop together when one is asked to. The first one alone writes.

    Raises ValueError where the checkpoint was made with other values (unless `accept_changes`), LoaderWorkerDied, the
    dataset's own exceptions, FloatingPointError where the loss is not a number.
    """
    if processes.is_first:
        folder.mkdir(parents=True, exist_ok=True)
    identity = identity_of(config, seed)
    state = agreed_checkpoint(folder, identity, accept_changes=accept_changes, processes=processes)
    check_normalisation(task.network, config, processes)
    task.seed, task.optimise, task.processes, task.drops = seed, config, processes, drops(task.network)
    if state is None or state["step"] < config.num_steps or state["pending"] is not None:
        is_sharded = config.strategy == "fsdp" and processes.size > 1
        trained = deepcopy(task) if is_sharded else task  # in shards from there on; the caller's stays whole
        run = StepBoundaries(trained, config, folder, seed, should_stop, validate, on_step, state, processes)
        run.judged = task
        _train(run, dataset)
        if not run.finished:
            return FitResult(False, run.step, run.best_step, run.best_score)
        state = agreed_checkpoint(folder, identity, accept_changes=True, processes=processes)
        assert state is not None, "it was saved"
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
    """Let Lightning run the steps that are left."""
    config, processes = run.config, run.processes
    with quiet_lightning(), signals_of_the_caller(run):
        trainer = make_trainer(config, processes, run, run.folder)
        batches = KeyedBatches(
            run.step, config.num_steps, config.batch_size, rank=processes.rank, num_ranks=processes.size
        )
        loader = keyed_loader(
            dataset, batches, num_workers=config.num_workers, pin_memory=trainer.strategy.root_device.type == "cuda"
        )
        if run.judged is run.task:  # FSDP takes contiguous weights alone
            lay_out(run.task, trainer.strategy.root_device)  # before DDP looks at how the weights lie in memory
        try:
            if len(batches):
                trainer.fit(run.task, loader)
            else:
                run.validate_what_is_pending()
        except (RuntimeError, ConnectionError, EOFError) as error:
            explained = explain_dead_worker(error, config.num_workers)
            if explained is None:
                raise
            raise explained from error
        finally:
            run.close()
