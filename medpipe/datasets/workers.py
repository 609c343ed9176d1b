"""Work on many cases in several processes, and say which case killed which worker.

Workers are started afresh (never forked: the parent may hold torch threads and locks), stay alive over all items, and
answer over a pipe of their own, so that a worker's death is noticed at once and belongs to one item.
"""

import logging
import multiprocessing
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from types import ModuleType
from typing import Any, TypeVar

from medpipe.datasets.memory import gib, jobs_within_memory

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

POLL_SECONDS = 0.2  # how soon a request to stop is seen


class StopRequested(Exception):
    """The work was asked to stop; what is finished is on disk."""


class WorkerDied(RuntimeError):
    """A worker process ended without an answer: by a signal, or because something in it called exit."""


def work_through(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    names: Sequence[str],
    jobs: int,
    what: str = "cases",
    bytes_per_item: Sequence[int] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    on_result: Callable[[int, Any], None] = lambda index, result: None,
) -> list[Result]:
    """`[function(item) for item in items]`, in order, in up to `jobs` processes; jobs=1 works in this one.

    names            of the items, for messages
    bytes_per_item   estimated memory of each; fewer jobs are started where the largest would not fit, and it is said
    on_result        called here with (index, result) as items finish, in any order

    An exception in a worker is raised here as itself, with the item's name and the worker's traceback as a note.
    Raises WorkerDied (the case, the signal, the estimate) and StopRequested.
    """
    if jobs < 1:
        raise ValueError(f"jobs is {jobs}; give 1 or more")
    estimates = list(bytes_per_item) if bytes_per_item is not None else [0] * len(items)
    jobs = min(jobs, len(items))
    if bytes_per_item is not None and items:
        jobs = jobs_within_memory(jobs, max(estimates), what)
    if jobs <= 1:
        return _work_inline(function, items, names, should_stop, on_result)
    return _Pool(function, items, names, estimates, jobs).run(should_stop, on_result)


def _work_inline(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    names: Sequence[str],
    should_stop: Callable[[], bool],
    on_result: Callable[[int, Any], None],
) -> list[Result]:
    results = []
    for index, item in enumerate(items):
        if should_stop():
            raise StopRequested(f"before {names[index]}")
        try:
            results.append(function(item))
        except Exception as error:
            error.add_note(f"while working on {names[index]}")
            raise
        on_result(index, results[-1])
    return results


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    index: int | None = None  # the item it works on


class _Pool:
    """One pass over the items with a fixed set of workers."""

    def __init__(
        self,
        function: Callable[[Any], Any],
        items: Sequence[Any],
        names: Sequence[str],
        estimates: Sequence[int],
        jobs: int,
    ) -> None:
        self.items, self.names, self.estimates = items, names, estimates
        self.results: dict[int, Any] = {}
        self.waiting = list(range(len(items)))[::-1]
        # Not "forkserver": its workers are not children of this process, so nothing that measures it sees their time.
        self.context = multiprocessing.get_context("spawn")
        self.workers: list[_Worker] = []
        try:
            for _ in range(jobs):
                self.workers.append(self._start(function))
        except BaseException:
            self._end()
            raise

    def run(self, should_stop: Callable[[], bool], on_result: Callable[[int, Any], None]) -> list[Any]:
        try:
            for worker in self.workers:
                self._give(worker)
            while len(self.results) < len(self.items):
                if should_stop():
                    raise StopRequested(f"after {len(self.results)} of {len(self.items)}")
                for worker in self._ready():
                    index, result = self._take(worker)
                    self.results[index] = result
                    on_result(index, result)
                    self._give(worker)
        finally:
            self._end()
        return [self.results[index] for index in range(len(self.items))]

    def _start(self, function: Callable[[Any], Any]) -> _Worker:
        here, there = self.context.Pipe()
        process = self.context.Process(target=_serve, args=(there, function), daemon=True)  # type: ignore[attr-defined]
        with _no_main_module():
            process.start()
        there.close()  # so that the pipe ends when the worker does
        return _Worker(process, here)

    def _give(self, worker: _Worker) -> None:
        worker.index = self.waiting.pop() if self.waiting else None
        if worker.index is None:
            return
        try:
            worker.pipe.send((worker.index, self.items[worker.index]))
        except (BrokenPipeError, ConnectionResetError):
            raise self._death(worker) from None

    def _ready(self) -> list[_Worker]:
        busy = {worker.pipe: worker for worker in self.workers if worker.index is not None}
        return [busy[pipe] for pipe in wait(list(busy), timeout=POLL_SECONDS)]  # type: ignore[index]

    def _take(self, worker: _Worker) -> tuple[int, Any]:
        try:
            index, result, error, text = worker.pipe.recv()
        except (EOFError, OSError):  # OSError: killed in the middle of an answer
            raise self._death(worker) from None
        if text is None:
            return index, result
        name = self.names[index]
        if error is None:
            raise RuntimeError(f"{name}: {text.strip().splitlines()[-1]}\nin the worker:\n{text}")
        error.add_note(f"while working on {name}, in the worker:\n{text}")
        raise error

    def _death(self, worker: _Worker) -> WorkerDied:
        worker.process.join(timeout=5)
        code = worker.process.exitcode
        assert worker.index is not None
        name, estimate = self.names[worker.index], self.estimates[worker.index]
        if code is None or code >= 0:
            return WorkerDied(f"the worker on {name} ended without an answer, with exit code {code}")
        number = -code
        text = f"the worker on {name} was killed by signal {number} ({signal.Signals(number).name})"
        if number == signal.SIGKILL:
            text += ", likely because the machine or the job ran out of memory"
            text += f"; the case was estimated to take {gib(estimate)}" if estimate else ""
            text += f". Start again with fewer than {len(self.workers)} jobs, or with more memory"
        return WorkerDied(text)

    def _end(self) -> None:
        for worker in self.workers:
            worker.pipe.close()
            if worker.index is not None:
                worker.process.terminate()
        for worker in self.workers:
            worker.process.join(timeout=2)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


@contextmanager
def _no_main_module() -> Iterator[None]:
    """Keep a new process from importing the program that was started: it would run any code not guarded there again.

    What workers run is imported from its own module; a function of the program itself is refused by pickle.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _serve(pipe: Connection, function: Callable[[Any], Any]) -> None:
    """The worker's loop: an item in, an answer out, until the parent closes the pipe or is gone."""
    # Ctrl-C reaches the whole group of processes; the parent decides what happens then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            index, item = pipe.recv()
        except (EOFError, ConnectionResetError):
            return
        try:
            answer = (index, function(item), None, None)
        except Exception as error:
            answer = (index, None, _portable(error), traceback.format_exc())
        try:
            pipe.send(answer)
        except (BrokenPipeError, ConnectionResetError):
            return


def _portable(error: Exception) -> Exception | None:
    """The exception, if it survives the way to another process."""
    try:
        copy = pickle.loads(pickle.dumps(error))
    except Exception:
        return None
    return copy if type(copy) is type(error) and str(copy) == str(error) else None
