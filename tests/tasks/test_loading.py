import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from medpipe.geometry.faults import DataFault
from medpipe.tasks.loading import KeyedBatches, LoaderWorkerDied, SampleFault, explain_dead_worker, keyed_loader


class Numbers:
    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"number": torch.tensor(index)}


def numbers_of(batches: KeyedBatches, num_workers: int = 0) -> list[list[int]]:
    loader = keyed_loader(Numbers(), batches, num_workers=num_workers, pin_memory=False)
    return [batch["number"].tolist() for batch in loader]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resumed_loader_goes_on_where_the_other_would_be(num_workers: int) -> None:
    whole = numbers_of(KeyedBatches(0, 6, 4))
    assert whole[0] == [0, 1, 2, 3]
    assert numbers_of(KeyedBatches(4, 6, 4), num_workers) == whole[4:]


def test_processes_share_a_batch_without_gap_or_overlap() -> None:
    whole = numbers_of(KeyedBatches(2, 4, 6))
    parts = [numbers_of(KeyedBatches(2, 4, 6, rank=rank, num_ranks=3)) for rank in range(3)]
    assert [[*a, *b, *c] for a, b, c in zip(*parts, strict=True)] == whole


class Broken:
    def __getitem__(self, index: int) -> Any:
        raise DataFault(Path("case.nii.gz"), "is cut short")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_fault_in_a_worker_comes_out_as_itself_with_its_sample(num_workers: int) -> None:
    loader = keyed_loader(Broken(), KeyedBatches(3, 4, 2), num_workers=num_workers, pin_memory=False)
    fault = next(iter(loader))
    assert isinstance(fault, SampleFault)
    with pytest.raises(DataFault, match=r"case.nii.gz: is cut short") as caught:
        fault.throw()
    assert "sample 6" in caught.value.__notes__[0]
    assert "in __getitem__" in caught.value.__notes__[0]


class Deadly:
    def __getitem__(self, index: int) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_said_to_be_killed() -> None:
    loader = keyed_loader(Deadly(), KeyedBatches(0, 1, 1), num_workers=1, pin_memory=False)
    with pytest.raises(RuntimeError) as caught:
        next(iter(loader))
    explained = explain_dead_worker(caught.value, 1)
    assert isinstance(explained, LoaderWorkerDied)
    assert "ran out of memory" in str(explained)
    assert "num_workers (now 1)" in str(explained)
    assert explain_dead_worker(RuntimeError("something else"), 1) is None
    cut_off = explain_dead_worker(ConnectionResetError(104, "Connection reset by peer"), 1)  # while handing over
    assert "num_workers (now 1)" in str(cut_off)
    assert "EOFError" in str(explain_dead_worker(EOFError(), 2))
    assert explain_dead_worker(ConnectionResetError(104, "of something else"), 0) is None


class Signals:
    def __getitem__(self, index: int) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        return torch.tensor(index)


def test_workers_leave_signals_to_the_training_process() -> None:
    loader = keyed_loader(Signals(), KeyedBatches(0, 2, 1), num_workers=1, pin_memory=False)
    assert [int(batch) for batch in loader] == [0, 1]
