import os
import signal
import time

import pytest

from medpipe.engine.signals import JobConfig, StopFlag


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_only_sets_the_flag(number: signal.Signals) -> None:
    with StopFlag() as stop:
        os.kill(os.getpid(), number)
        assert stop.received is number


def test_a_second_interrupt_ends_at_once() -> None:
    with StopFlag():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_the_handlers_from_before_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopFlag():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_flag_goes_up_before_the_job_s_time_is_over() -> None:
    assert JobConfig().deadline({}, now=0.0) is None
    assert JobConfig().deadline({"SLURM_JOB_END_TIME": "3600"}, now=0.0) == 3600 - 180
    assert JobConfig(minutes=30).deadline({"SLURM_JOB_END_TIME": "3600"}, now=0.0) == 1800 - 180
    # Of a short job at most a quarter: it would stop at once, again and again.
    assert JobConfig(minutes=4).deadline({}, now=0.0) == 180
    stop = StopFlag(deadline=time.time() - 1)
    assert stop.is_set()
    assert stop.reason() == "the end of the job's time"
    assert not StopFlag(deadline=time.time() + 60).is_set()
