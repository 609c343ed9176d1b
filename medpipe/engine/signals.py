"""Ctrl-C, SIGTERM and the end of a job's time set a flag; the stage ends at its next safe place.

A second Ctrl-C ends at once.
"""

import os
import signal
import time
from collections.abc import Mapping
from types import FrameType, TracebackType

from medpipe.config.base import Config, execution


class JobConfig(Config):
    """The job that a run is in: it stops by itself before its time is over, to be started again (exit code 75)."""

    minutes: float | None = execution(
        None, gt=0, description="the job's time, from its start; default: Slurm's SLURM_JOB_END_TIME, if there is one"
    )
    stop_minutes_before: float = execution(
        3.0, ge=0, description="time left to end the step and to save; of a short job at most a quarter of it"
    )

    def deadline(self, environment: Mapping[str, str] | None = None, now: float | None = None) -> float | None:
        """When to stop, in seconds since 1970; None where the job's end is not known."""
        values = os.environ if environment is None else environment
        start = time.time() if now is None else now
        ends = [] if self.minutes is None else [start + 60 * self.minutes]
        if values.get("SLURM_JOB_END_TIME", "").isdecimal():
            ends.append(float(values["SLURM_JOB_END_TIME"]))
        if not ends:
            return None
        return min(ends) - min(60 * self.stop_minutes_before, (min(ends) - start) / 4)


class StopFlag:
    """Context in which SIGINT and SIGTERM (and SIGUSR1, which schedulers send ahead of a time limit) only set a flag.

    Saving inside a handler can meet half-written tensors (pytorch-lightning issue 21406), so nothing is done there.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

    def __init__(self, deadline: float | None = None) -> None:
        """deadline: the flag is up from then on (seconds since 1970), signal or not."""
        self.received: signal.Signals | None = None
        self.deadline = deadline
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> "StopFlag":
        for number in self.SIGNALS:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # signal.signal returned it

    def is_set(self) -> bool:
        """True once a signal has come, or the deadline."""
        return self.received is not None or (self.deadline is not None and time.time() >= self.deadline)

    def reason(self) -> str:
        """What the flag was set by, in a word or two."""
        if self.received is not None:
            return self.received.name
        return "the end of the job's time" if self.is_set() else "request"

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
