"""Live: what nobody took is replaced and counted, the clock starts at the caecum that lasts."""

import time
from itertools import pairwise

import pytest

from medpipe.engine.watching import Clock, Newest, feed
from medpipe.metrics.phases import ASCENDING, CAECUM, INSERTION, OUTSIDE
from medpipe.video.slots import Slot


def test_a_slow_reader_gets_the_newest_and_the_others_are_dropped() -> None:
    newest = Newest()
    for number in range(5):
        newest.put(number)
    newest.end()
    assert newest.take() == 4
    assert newest.take() is None
    assert newest.dropped == 4


def test_slots_are_played_at_their_own_speed() -> None:
    newest = Newest()
    slots = [Slot(number, 0.05 * number, number, None) for number in range(5)]
    began = time.monotonic()
    import threading

    thread = threading.Thread(target=feed, args=(iter(slots), newest, False))
    thread.start()
    taken = [slot.number for slot in iter(newest.take, None)]
    thread.join()
    assert time.monotonic() - began >= 0.2
    assert len(taken) + newest.dropped == 5
    assert all(a < b for a, b in pairwise(taken))


def test_the_clock_starts_at_the_caecum_that_lasts_and_stops_outside() -> None:
    clock, time_s = Clock(), 0.0
    for phase, seconds in ((INSERTION, 10), (CAECUM, 3), (INSERTION, 5), (CAECUM, 8), (ASCENDING, 20)):
        for _ in range(seconds * 5):
            clock.see(time_s, phase)
            time_s += 0.2
    assert clock.caecum_at_s == pytest.approx(18)
    assert clock.elapsed_s == pytest.approx(28, abs=0.3)
    for _ in range(50):
        clock.see(time_s, OUTSIDE)
        time_s += 0.2
    assert clock.elapsed_s == pytest.approx(28, abs=0.3)
