"""Lightning without its messages, and without a hand on signals that belong to the caller."""

import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from medpipe.tasks.step_boundaries import StepBoundaries


@contextmanager
def signals_of_the_caller(run: StepBoundaries) -> Iterator[None]:
    """A KeyboardInterrupt stays one: Lightning ends the process with exit code 1 and leaves Ctrl-C ignored."""
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if run.interrupted:
            raise KeyboardInterrupt from error
        raise
    finally:
        if in_main and before is not None:
            signal.signal(signal.SIGINT, before)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Lightning's hints about devices, workers and its products say nothing about this training."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(pytorch_lightning|lightning_fabric|torch\.utils\.data)\b.*")
            # DDP, of 1 x 1 x 1 convolutions: their gradient can lie in memory in two ways that mean the same.
            warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
