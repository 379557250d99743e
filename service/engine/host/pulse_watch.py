"""Distinguish a worker that hangs from one that is busy, when its pulse stops.

In: a worker's reports, and the CPU time of its processes. Out: the reports, or TimeoutError for a worker that hangs.

                   ┌ EngineSilent comes ─▶ the worker's loop runs, the engine in its other processes does not answer
    no Pulse comes ┤
                   └ nothing comes ──────▶ the worker's own loop is blocked

The processes that do not answer are asked for their CPU time. A process that is stopped or deadlocked uses none. One
that works uses some: on a prompt, a schema, an image, whatever a client sent. Such work ends, and the worker is left
alone for BUSY_TIMEOUTS times as long.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from ...protocol.reports import EngineSilent, Pulse, Report

# When a time-out is noticed this late, this process itself was stopped (SIGSTOP, a suspended machine), and what the
# worker reported meanwhile has not been read.
STOOD_STILL_SECONDS = 1.0
# The CPU time is compared over this long.
LOOK_SECONDS = 1.0
# The share of one core that a busy process has at least, however loaded the machine is.
BUSY_SHARE = 0.05
# A worker that uses CPU time and has answered nothing for this many time-outs spins, and will not end by itself.
BUSY_TIMEOUTS = 5


class Reporter(Protocol):
    """The worker process that is watched."""

    async def report(self, timeout: float) -> Report:
        """Return the next report. Raises EngineGone, and TimeoutError after `timeout` seconds."""

    def cpu_seconds(self, own: bool) -> float | None:
        """Return the CPU time of the worker's `own` process, or of all its other ones; None where it is not known."""


class PulseWatch:
    """Reads the reports of one worker, which must send a Pulse every `timeout` seconds unless it is busy."""

    def __init__(self, worker: Reporter, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._worker = worker
        self._timeout = timeout
        self._loop_ran = self._clock()
        self._begin()

    async def report(self) -> Report:
        """Return the next report but EngineSilent. Raises EngineGone, and TimeoutError when the worker hangs."""
        while True:
            try:
                report = await self._worker.report(self._due - self._clock())
            except TimeoutError:
                self._passed_over()
                continue
            self._loop_ran = self._clock()
            if isinstance(report, Pulse):
                self._begin()
            if not isinstance(report, EngineSilent):
                return report

    def _begin(self) -> None:
        self._pulsed = self._clock()
        self._due = self._pulsed + self._timeout
        # Of which processes the CPU time was last looked at, and what it was.
        self._looked: tuple[bool, float] | None = None

    def _passed_over(self) -> None:
        """Put the time-out off for a worker that may be busy. Raises TimeoutError for one that hangs."""
        now = self._clock()
        if now - self._due >= STOOD_STILL_SECONDS:
            self._begin()
            return
        own = now - self._loop_ran >= self._timeout
        spent = self._worker.cpu_seconds(own)
        if spent is None or now - self._pulsed >= BUSY_TIMEOUTS * self._timeout:
            raise TimeoutError
        before, self._looked = self._looked, (own, spent)
        if before is not None and before[0] == own and spent - before[1] < BUSY_SHARE * LOOK_SECONDS:
            raise TimeoutError
        self._due = now + LOOK_SECONDS
