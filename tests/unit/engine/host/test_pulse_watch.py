"""A worker whose pulse has stopped: it hangs, or it is busy. The clock is the test's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.engine import cpu_time
from service.engine.host.pulse_watch import BUSY_TIMEOUTS, PulseWatch
from service.protocol.reports import EngineSilent, Pulse, Report
from tests.support.loop import Clock, in_loop

TIMEOUT = 60.0


class Worker:
    """Reports once a second what `reports` yields, and nothing where that is None. Uses CPU time at given rates."""

    def __init__(self, clock: Clock, reports: Iterator[Report | None], own: float = 0, others: float = 0) -> None:
        self._clock = clock
        self._reports = reports
        self._rates = {True: own, False: others}
        self.known = True

    async def report(self, timeout: float) -> Report:
        due = self._clock.now + timeout
        while self._clock.now + 1 <= due:
            self._clock.now += 1
            if (report := next(self._reports)) is not None:
                return report
        self._clock.now = due
        raise TimeoutError

    def cpu_seconds(self, own: bool) -> float | None:
        return self._clock.now * self._rates[own] if self.known else None


def silent(seconds: float, by: Report | None) -> Iterator[Report | None]:
    """Nothing but `by` for so long, then a pulse."""
    yield from [by] * int(seconds)
    yield Pulse(1, 2)


@in_loop
async def test_a_pulse_is_handed_on():
    clock = Clock()
    assert await PulseWatch(Worker(clock, silent(5, None)), TIMEOUT, clock).report() == Pulse(1, 2)
    assert await PulseWatch(Worker(clock, silent(5, EngineSilent())), TIMEOUT, clock).report() == Pulse(1, 2)


@pytest.mark.parametrize(
    ("by", "rates"), [(None, {"own": 0.2}), (EngineSilent(), {"others": 0.2})], ids=["the worker", "vLLM's core"]
)
@in_loop
async def test_one_that_works_is_waited_for(by: Report | None, rates: dict[str, float]):
    clock = Clock()
    watch = PulseWatch(Worker(clock, silent(TIMEOUT * BUSY_TIMEOUTS - 5, by), **rates), TIMEOUT, clock)
    assert await watch.report() == Pulse(1, 2)


@pytest.mark.parametrize(
    ("by", "rates"), [(None, {"own": 1.0}), (EngineSilent(), {"others": 1.0})], ids=["the worker", "vLLM's core"]
)
@in_loop
async def test_one_that_spins_is_not_waited_for_without_end(by: Report | None, rates: dict[str, float]):
    clock = Clock()
    began = clock.now
    with pytest.raises(TimeoutError):
        await PulseWatch(Worker(clock, silent(1e4, by), **rates), TIMEOUT, clock).report()
    assert TIMEOUT * BUSY_TIMEOUTS <= clock.now - began <= TIMEOUT * BUSY_TIMEOUTS + 2


@pytest.mark.parametrize(
    ("by", "rates"), [(None, {"others": 1.0}), (EngineSilent(), {"own": 1.0})], ids=["the worker", "vLLM's core"]
)
@in_loop
async def test_one_that_hangs_is_not_excused_by_the_other(by: Report | None, rates: dict[str, float]):
    clock = Clock()
    began = clock.now
    with pytest.raises(TimeoutError):
        await PulseWatch(Worker(clock, silent(1e4, by), **rates), TIMEOUT, clock).report()
    assert TIMEOUT <= clock.now - began <= TIMEOUT + 3


@in_loop
async def test_where_the_cpu_time_is_not_known_the_time_out_alone_counts():
    clock = Clock()
    worker = Worker(clock, silent(1e4, None), own=1.0)
    worker.known = False
    began = clock.now
    with pytest.raises(TimeoutError):
        await PulseWatch(worker, TIMEOUT, clock).report()
    assert clock.now - began == TIMEOUT


def stat(command: str, session: int, user: int, system: int) -> str:
    """A line of /proc/PID/stat (proc_pid_stat(5))."""
    return f"7 ({command}) S 1 7 {session} 0 -1 0 0 0 0 0 {user} {system} 0 0 20 0 1 0 100\n"


def test_the_cpu_time_of_a_session_is_read_apart_for_its_leader_and_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cpu_time, "PROC", tmp_path)
    monkeypatch.setattr(cpu_time, "TICKS_PER_SECOND", 100)
    for pid, line in [(7, stat("python3", 7, 100, 20)), (8, stat(") R 1", 7, 300, 0)), (9, stat("other", 9, 900, 0))]:
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(line)
    (tmp_path / "self").mkdir()
    assert (cpu_time.of_process(7), cpu_time.of_children(7)) == (1.2, 3.0)
    assert cpu_time.of_process(11) is cpu_time.of_children(11) is None


def test_this_process_has_used_cpu_time():
    assert (cpu_time.of_process(os.getpid()) or 0) > 0
