"""What is read from a worker's pulses."""

from __future__ import annotations

from service.engine.host.pulses import Pulses
from service.protocol.reports import Pulse
from tests.support.loop import Clock


def counted(*counts: tuple[float, int]) -> Pulses:
    clock = Clock()
    pulses, began = Pulses(clock), clock.now
    for after, tokens in counts:
        clock.now = began + after
        pulses.add(Pulse(1, 2, tokens))
    return pulses


def test_the_last_pulse_says_what_runs_and_waits():
    pulses = counted((0, 0))
    assert (pulses.running, pulses.waiting) == (1, 2)
    assert (Pulses().running, Pulses().waiting) == (0, 0)


def test_one_pulse_makes_no_rate():
    assert counted((0, 100)).tokens_per_second == 0


def test_the_rate_is_that_of_the_last_five_seconds():
    assert counted((0, 0), (1, 100), (2, 300)).tokens_per_second == 150
    assert counted(*((second, 1000 if second else 0) for second in range(8))).tokens_per_second == 0


def test_pulses_that_come_late_are_measured_over_the_time_that_they_took():
    assert counted((0, 0), (20, 200)).tokens_per_second == 10
