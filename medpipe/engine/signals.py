"""Ctrl-C and SIGTERM set a flag; the stage ends at its next safe place. A second Ctrl-C ends at once."""

import signal
from types import FrameType, TracebackType


class StopFlag:
    """Context in which SIGINT and SIGTERM (and SIGUSR1, which schedulers send ahead of a time limit) only set a flag.

    Saving inside a handler can meet half-written tensors (pytorch-lightning issue 21406), so nothing is done there.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
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
        """True once a signal has come."""
        return self.received is not None

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
