"""A loss over a global batch that is seen in parts: by several processes, and by each in several turns.

A mean over voxels, blocks, tokens or frames is no mean of the parts' means, since parts hold different numbers of
them. So the numbers are counted first, over the whole batch, and each part's sum is divided by the total: the parts'
losses then add up to the loss of the batch, and so do their gradients.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor

from medpipe.tasks.processes import Processes


def alone(local: Tensor) -> Tensor:
    """The sum over the parts of a batch that has one."""
    return local


@final
@dataclass(frozen=True)
class Totals:
    """What a part needs to know of the whole batch.

    counts   (K,) what the loss is a mean over, as the task counts it
    parts    how many parts there are
    add      a part's sums to those of the whole batch; the gradient is the part's own
    """

    counts: Tensor
    parts: int = 1
    add: Callable[[Tensor], Tensor] = alone

    def share_of(self, whole: Tensor) -> Tensor:
        """A value that every part knows whole: its share of it, with the whole gradient towards the part's sums."""
        return whole if self.parts == 1 else whole - whole.detach() * (1 - 1 / self.parts)


@final
@dataclass
class Sums:
    """Sums of a batch in several parts that depend on the network: gathered in a first pass, known in the second."""

    processes: Processes
    gathered: list[Tensor] = field(default_factory=list)
    place: int = 0

    def gather(self, local: Tensor) -> Tensor:
        """First pass, without gradients: the n-th sum of each part is added to the n-th of the others."""
        if self.place == len(self.gathered):
            self.gathered.append(torch.zeros_like(local))
        self.gathered[self.place] += local
        self.place += 1
        return local

    def all_gathered(self) -> None:
        """Add up over the processes."""
        for total in self.gathered:
            add_over_processes(total, self.processes)
        self.place = 0

    def known(self, local: Tensor) -> Tensor:
        """Second pass: the whole sum; the gradient is the part's own."""
        whole = self.gathered[self.place % len(self.gathered)]
        self.place += 1
        return local + (whole - local.detach())

    def at_once(self, local: Tensor) -> Tensor:
        """Of a batch with one part a process: no first pass is needed."""
        whole = add_over_processes(local.detach().clone(), self.processes)
        return local + (whole - local.detach())


def add_over_processes(values: Tensor, processes: Processes) -> Tensor:
    """`values` added up in place over all processes, without waiting for the GPU."""
    if processes.size > 1:
        import torch.distributed as dist

        dist.all_reduce(values)
    return values


def split_batch(batch: Any, size: int | None) -> list[Any]:
    """A batch of tensors, or a mapping of them, in parts of at most `size` samples."""
    length = len(batch) if isinstance(batch, Tensor) else len(next(iter(batch.values())))
    if size is None or size >= length:
        return [batch]
    starts = range(0, length, size)
    if isinstance(batch, Tensor):
        return [batch[start : start + size] for start in starts]
    return [{name: values[start : start + size] for name, values in batch.items()} for start in starts]


def total_counts(counts: Iterable[Tensor], processes: Processes) -> Tensor:
    """The counts of all parts of all processes, float64: voxels of a batch are more than float32 can count."""
    return add_over_processes(torch.stack([part.double() for part in counts]).sum(dim=0), processes)
