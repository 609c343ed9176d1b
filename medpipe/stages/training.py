"""What the training stages share: prepared cases, progress, the way from a fit to its hand-over."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medpipe.stages.stage import StageRun, StopRequested, cores
from medpipe.tasks.options import TrainingConfig
from medpipe.tasks.world import place_in_array

if TYPE_CHECKING:
    from medpipe.datasets.cases import Case
    from medpipe.datasets.prepared import PreparedCase
    from medpipe.datasets.preprocessing import Preprocessing
    from medpipe.tasks.task import Task


def prepare(
    run: StageRun, cases: "Sequence[Case]", preprocessing: "Preprocessing", jobs: int | None
) -> "list[PreparedCase]":
    """The cases on the prepared grid, from the cache or made now, with progress; processes share them out.

    They lie in `data.scratch` afterwards, where there is one.
    """
    from medpipe.datasets.prepared import prepare_cases
    from medpipe.datasets.scratch import copy_to_scratch, from_scratch

    processes = run.processes
    own = processes.share(cases)
    is_stopped, prepared = False, []
    with run.output.progress("preparing cases", len(own)) as progress:
        try:
            prepared = prepare_cases(
                own,
                preprocessing,
                run.data,
                jobs=cores(jobs, processes),
                first=place_in_array(len(own)),
                on_case=lambda case: progress.advance(),
                should_stop=run.should_stop,
            )
        except StopRequested:
            is_stopped = True
    if processes.any(is_stopped):
        raise StopRequested(run.name)
    prepared = processes.merge_shares(prepared)
    scratch = run.data.scratch
    if scratch is None:
        return prepared
    world = processes.world
    copy_to_scratch(prepared[world.local_rank :: world.local_size], scratch)
    processes.wait()
    return from_scratch(prepared, scratch)


def train(
    run: StageRun,
    task: "Task",
    patches: Any,
    config: TrainingConfig,
    folder: Path,
    *,
    label: str,
    validate: Callable[[int], dict[str, float] | None] | None = None,
) -> dict[str, Any]:
    """Fit with progress, going on from the folder's checkpoint; the facts of the training. Raises StopRequested."""
    from medpipe.tasks.checkpoints import CHECKPOINT_FILE, load_state
    from medpipe.tasks.training import fit

    checkpoint = folder / CHECKPOINT_FILE
    done = load_state(checkpoint)["step"] if checkpoint.exists() else 0
    if done:
        run.output.say(f"{label}: going on from step {done} of {config.num_steps}")
    with run.output.progress(label, config.num_steps, done) as progress:
        result = fit(
            task,
            patches,
            config,
            folder,
            seed=run.seed,
            should_stop=run.should_stop,
            validate=validate,
            on_step=lambda step, figures: progress.advance(note=f"loss {figures['loss']:.3f}"),
            processes=run.processes,
        )
    run.processes.wait()
    if not result.finished:
        raise StopRequested(run.name)
    return {"steps": result.step, "best_step": result.best_step, "best_score": result.best_score}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's generators seeded for the initial weights, and put back afterwards."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
