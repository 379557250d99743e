"""News of a worker: the actor remembers the last reports, and gives them to the engine host that asks.

    worker ──reports──▶ LatestReports ──news(after)──▶ engine host

Of each kind of report the last one is enough: counts are sums since the worker's start. So a host that is started anew
asks for everything after number 0, and knows what the host before it knew.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import msgspec

from ...protocol.reports import Activity, LoadFailed, Pulse, Ready, Report


class WorkerNews(msgspec.Struct, frozen=True):
    """The reports up to `number`. `status` is the exit status of a worker that `has_ended`, if it is known.

    `node` is the address of the node, and `node_id` Ray's name of it. `cpu_seconds` are those of the worker's own
    process and of its other ones, measured only while no Pulse comes.
    """

    number: int
    reports: list[Report] = []
    node: str = ""
    has_ended: bool = False
    status: int | None = None
    cpu_seconds: tuple[float, float] | None = None
    node_id: str = ""


class LatestReports:
    """The last report of each kind, in the order in which they came. Several threads may use it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._latest: dict[type, tuple[int, Report]] = {}
        self._number = 0
        self._pulsed = clock()
        self._has_ended = False
        self._status: int | None = None

    def add(self, report: Report) -> None:
        with self._changed:
            self._number += 1
            self._latest[type(report)] = self._number, report
            if isinstance(report, Pulse):
                self._pulsed = self._clock()
            self._changed.notify_all()

    def end(self, status: int | None) -> None:
        """Note that the worker has exited."""
        with self._changed:
            self._has_ended, self._status = True, status
            self._changed.notify_all()

    def after(self, number: int, seconds: float) -> WorkerNews:
        """Return what came after the report with this number. Wait up to `seconds` where nothing has."""
        with self._changed:
            self._changed.wait_for(lambda: self._number > number or self._has_ended, seconds)
            new = sorted((each for each in self._latest.values() if each[0] > number), key=lambda each: each[0])
            return WorkerNews(self._number, [report for _, report in new], "", self._has_ended, self._status)

    def wait_for_end(self, seconds: float) -> bool:
        """Return whether the worker has exited within `seconds`."""
        with self._changed:
            return self._changed.wait_for(lambda: self._has_ended, seconds)

    @property
    def pulse_age(self) -> float:
        """Seconds since the last Pulse."""
        return self._clock() - self._pulsed

    @property
    def is_busy(self) -> bool:
        """Whether requests run in the worker, or it loads."""
        if self._has_ended or LoadFailed in self._latest:
            return False
        activity = self._latest.get(Activity, (0, Activity(0, 0)))[1]
        return Ready not in self._latest or (isinstance(activity, Activity) and activity.running > 0)
