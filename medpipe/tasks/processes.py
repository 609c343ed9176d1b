"""The processes of one job: what they agree on, and how the fault of one ends all of them with its message.

Two kinds of talk. Gradients go through the default group (NCCL on GPUs, gloo elsewhere), which Lightning uses. Flags,
figures and waiting go through a second group of gloo with a long timeout: while the first process evaluates for hours,
the others sleep in it.

A process that fails writes its error into the job's store and ends; the others find it there when their connection
breaks, or by a thread that looks every few seconds, since a collective of NCCL would wait for minutes.
"""

import os
import sys
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypeVar, final

from medpipe.tasks.world import World, world_of_environment

T = TypeVar("T")

# Starting takes minutes where containers are unpacked on some nodes first; waiting for the first process, days.
START_TIMEOUT, WAIT_TIMEOUT = timedelta(minutes=30), timedelta(days=14)
TRAINING_TIMEOUT = timedelta(minutes=30)  # a node may be that late to a gradient: a slow file system, a long validation
SECONDS_BETWEEN_LOOKS, SECONDS_OF_GRACE = 2.0, 10.0
LOST = 75  # exit code: to be started again


class OtherProcessFailed(RuntimeError):
    """Another process of the job failed; the text is its error."""


class ProcessLost(RuntimeError):
    """A process of the job ended without a word: killed, or its node is gone. Started again, the job goes on."""


@final
class Processes:
    """The processes of this job, all of which call the methods below together; alone they cost nothing."""

    def __init__(self, world: World | None = None) -> None:
        self.world = world or World()
        self._control: Any = None
        self._store: Any = None
        self._watch: threading.Thread | None = None
        self._done = threading.Event()
        self._failed = False  # nobody listens any more

    def __deepcopy__(self, memo: dict[int, Any]) -> "Processes":
        return self  # a connection; copies of what holds it share it

    @property
    def rank(self) -> int:
        return self.world.rank

    @property
    def size(self) -> int:
        return self.world.size

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes."""
        return self.world.is_first

    def share(self, items: Sequence[T]) -> list[T]:
        """This process's items: every one of them is some process's, once."""
        return list(items[self.rank :: self.size])

    def gather(self, value: T) -> list[T]:
        """The values of all processes, by rank. They must be plain: they are pickled."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value, group=self._control)
        return found

    def merge_shares(self, own: Sequence[T]) -> list[T]:
        """The inverse of `share`: results of all items in the items' order, from those of this process's share."""
        shares = self.gather(list(own))
        longest = max(len(part) for part in shares)
        return [part[index] for index in range(longest) for part in shares if index < len(part)]

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in any process."""
        return any(self.gather(flag)) if self.size > 1 else flag

    def of_first(self, value: T) -> T:
        """The value that the first process has."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        box = [value if self.is_first else None]
        dist.broadcast_object_list(box, src=0, group=self._control)
        return box[0]  # type: ignore[return-value]

    def wait(self) -> None:
        """Wait for all others."""
        if self.size > 1:
            self.gather(None)

    def sum(self, values: Sequence[float]) -> list[float]:
        """The sums over all processes of a few numbers."""
        if self.size == 1:
            return list(values)
        import torch
        import torch.distributed as dist

        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total, group=self._control)
        return total.tolist()

    def fail(self, error: BaseException) -> None:
        """Tell the others why this process ends; the first error of a job stands."""
        if self._store is None or isinstance(error, OtherProcessFailed | ProcessLost) or is_broken_connection(error):
            return
        self._failed = True
        try:
            self._store.compare_set("error", "", f"{self.world.name()}: {type(error).__name__}: {error}")
            deadline = time.monotonic() + SECONDS_OF_GRACE
            # The first process holds the store: it stays until the others have read it.
            while self.is_first and time.monotonic() < deadline and self._store.add("seen", 0) < self.size - 1:
                time.sleep(0.1)
        except RuntimeError:
            return  # the store is gone, and with it all that could be told

    def explained(self, error: BaseException) -> BaseException:
        """The error of another process in place of the broken connection that it left; others as they are."""
        if self._store is None or not is_broken_connection(error):
            return error
        self._failed = True
        message = self._message(wait=True)
        if message is not None:
            return OtherProcessFailed(message)
        return ProcessLost(
            f"the connection to another process broke ({str(error).splitlines()[0][:200]}): it was killed, or its node "
            "is gone; the same command goes on from the last save"
        )

    def dismiss(self, code: int) -> None:
        """The first process sends the others home, with the exit code of the job."""
        if self.size > 1 and not self._failed:
            self.of_first({"code": code})
        self.close()

    def close(self) -> None:
        """Leave the job; the others may go on without this process."""
        if self.size == 1 or self._store is None:
            return
        import torch.distributed as dist

        self._done.set()
        self._store = None
        if dist.is_initialized():
            dist.destroy_process_group()

    def _connect(self) -> "Processes":
        import torch
        import torch.distributed as dist

        world = self.world
        if torch.cuda.device_count() > 1:
            torch.cuda.set_device(world.local_rank % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        where = "env://" if world.launcher == "torchrun" else f"tcp://{world.address}:{world.port}"
        dist.init_process_group(
            backend, init_method=where, rank=world.rank, world_size=world.size, timeout=TRAINING_TIMEOUT
        )
        self._control = dist.new_group(backend="gloo", timeout=WAIT_TIMEOUT)
        self._store = dist.PrefixStore("medpipe", dist.distributed_c10d._get_default_store())  # pyright: ignore[reportPrivateImportUsage]
        self._watch = threading.Thread(target=self._look, args=(self._store,), daemon=True)
        self._watch.start()
        return self

    def _look(self, store: Any) -> None:
        """End this process where another has failed and the main thread is stuck in a collective."""
        told = False
        while not self._done.wait(SECONDS_BETWEEN_LOOKS):
            try:
                message = store.get("error").decode() if store.check(["error"]) else None
                if message is not None and not told:
                    told = True
                    store.add("seen", 1)
            except RuntimeError:
                message = None
                told = True
            if told and not self._done.wait(SECONDS_OF_GRACE):
                print(f"failed: {message or 'the first process of the job is gone'}", file=sys.stderr, flush=True)
                os._exit(1 if message else LOST)

    def _message(self, *, wait: bool) -> str | None:
        """What a failed process left; it may have no time to before its connection breaks."""
        deadline = time.monotonic() + (3.0 if wait else 0.0)
        while True:
            try:
                if self._store.check(["error"]):
                    return self._store.get("error").decode()
            except RuntimeError:
                return None
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.1)


ALONE = Processes()


def connect(world: World | None = None) -> Processes:
    """The processes that a launcher started together with this one; ALONE where there are none.

    Raises ConnectionError where they do not find each other.
    """
    world = world or world_of_environment()
    if world.size == 1:
        return ALONE
    try:
        return Processes(world)._connect()
    except (RuntimeError, ValueError, OSError) as error:
        raise ConnectionError(
            f"{world.name()} did not reach the others through {world.address}:{world.port} ({error}); set MASTER_ADDR "
            "to an address of the first node and MASTER_PORT to a free port, and GLOO_SOCKET_IFNAME to the network"
        ) from error


def is_broken_connection(error: BaseException) -> bool:
    """Whether an error says that another process is gone, not that something is wrong here."""
    import torch.distributed as dist

    text = str(error)
    words = ("gloo/transport", "Connection closed by peer", "Connection reset by peer", "NCCL", "Broken pipe")
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in text for word in words)
    )
