"""Batches by step: the samples of a step are named by its number, and a worker's failure says what it was.

A loader of this module starts at any step and gives what an uninterrupted one would have given there, with any number
of workers.
"""

import signal
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, final

from torch.utils.data import DataLoader, Dataset, Sampler, default_collate


class LoaderWorkerDied(RuntimeError):
    """A process that loads samples ended without an answer."""


@final
@dataclass
class SampleFault:
    """What a worker hands over in place of a sample that it could not make."""

    sample_index: int
    error: Exception
    trace: str

    def throw(self) -> None:
        """Raise the worker's own exception here, with the sample and the worker's trace as a note."""
        which = "a batch" if self.sample_index < 0 else f"sample {self.sample_index}"
        self.error.add_note(f"while loading {which}; in the worker:\n{self.trace}")
        raise self.error


@final
class KeyedBatches(Sampler[list[int]]):
    """Sample numbers of the steps first_step ... num_steps - 1: step * batch_size + position, this rank's share."""

    def __init__(self, first_step: int, num_steps: int, batch_size: int, *, rank: int = 0, num_ranks: int = 1) -> None:
        assert batch_size % num_ranks == 0
        self.steps = range(first_step, num_steps)
        self.batch_size = batch_size
        self.share = range(rank * (batch_size // num_ranks), (rank + 1) * (batch_size // num_ranks))

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            yield [step * self.batch_size + position for position in self.share]


@final
class FaultsAsValues(Dataset):
    """The samples of a dataset; an exception becomes a SampleFault.

    torch would rebuild a worker's exception from its text alone, which loses the kind of those with arguments.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> Any:
        try:
            return self.dataset[index]
        except Exception as error:
            return SampleFault(index, error, traceback.format_exc())


@final
@dataclass(frozen=True)
class Collate:
    """The samples made one batch by `stack`, or the first fault among them."""

    stack: Callable[[list[Any]], Any] = default_collate

    def __call__(self, samples: list[Any]) -> Any:
        fault = next((sample for sample in samples if isinstance(sample, SampleFault)), None)
        if fault is not None:
            return fault
        try:
            return self.stack(samples)
        except Exception as error:
            return SampleFault(-1, error, traceback.format_exc())


def leave_signals_to_the_parent(_worker: int) -> None:
    """Ctrl-C and a scheduler's SIGTERM reach the whole process group; only the training process answers them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def keyed_loader(dataset: Any, batches: KeyedBatches, *, num_workers: int, pin_memory: bool) -> DataLoader:
    """A loader of `batches` of `dataset` in order; a dataset whose samples are not to be stacked has a `collate`."""
    return DataLoader(
        FaultsAsValues(dataset),
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=Collate(getattr(dataset, "collate", default_collate)),
        pin_memory=pin_memory,
        worker_init_fn=leave_signals_to_the_parent,
    )


def explain_dead_worker(error: Exception, num_workers: int) -> LoaderWorkerDied | None:
    """torch's message about a dead worker in words that lead out; None where `error` is something else.

    A worker that dies while it hands a batch over leaves a broken connection before torch has seen that it is dead.
    """
    text = str(error) or type(error).__name__
    was_cut_off = isinstance(error, ConnectionError | EOFError) and num_workers > 0
    if "DataLoader worker" not in text and not was_cut_off:
        return None
    cause = "killed" if "Killed" in text else "ended"
    return LoaderWorkerDied(
        f"a data loading process was {cause} ({text.strip().splitlines()[0]}); most often the machine ran out of "
        f"memory: lower training.num_workers (now {num_workers}), or look for the kernel's out-of-memory message"
    )
