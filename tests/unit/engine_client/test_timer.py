from __future__ import annotations

import gc
import math
import threading
import time
from weakref import ref

from service.engine_client.timer import Timer


class Sleeper:
    def __init__(self, id: int, seconds: float) -> None:
        self.id = id
        self.due_at = time.monotonic() + seconds
        self.rung = threading.Event()

    def ring(self) -> None:
        self.due_at = math.inf
        self.rung.set()


def test_everybody_is_rung_for_the_soonest_first_whoever_came_first():
    alarm, order = Timer(), []
    sleepers = [Sleeper(1, 60.0), Sleeper(2, 0.3), Sleeper(3, 0.1)]
    for sleeper in sleepers:
        alarm.add(sleeper)
    for sleeper in (sleepers[2], sleepers[1]):
        assert sleeper.rung.wait(120)
        order.append([each.rung.is_set() for each in sleepers])
    assert order == [[False, False, True], [False, True, True]]


def test_one_who_puts_it_off_is_not_rung_for_before():
    alarm, sleeper = Timer(), Sleeper(1, 0.1)
    alarm.add(sleeper)
    sleeper.due_at += 0.2
    until = sleeper.due_at
    assert sleeper.rung.wait(120)
    assert time.monotonic() >= until


def test_one_who_does_not_come_is_rung_for_again():
    alarm, sleeper = Timer(), Sleeper(1, 0.0)
    rings: list[float] = []
    sleeper.ring = lambda: rings.append(time.monotonic()) or (len(rings) > 1 and sleeper.rung.set())  # type: ignore
    alarm.add(sleeper)
    assert sleeper.rung.wait(120)


def test_the_alarm_keeps_nobody_in_memory():
    alarm, sleeper = Timer(), Sleeper(1, 60.0)
    alarm.add(sleeper)
    gone = ref(sleeper)
    del sleeper
    gc.collect()
    assert gone() is None
