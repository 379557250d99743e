"""Wakes those whose time has come: one thread for all of them, where a timer for each wait costs more than the wait.

A greenlet where gevent has patched. Sleepers that are gone leave by themselves, at the latest when they would have been
woken.
"""

from __future__ import annotations

import threading
import time
from heapq import heappop, heappush
from typing import Protocol
from weakref import ref

# Who has been woken and has not come yet is looked at again after so many seconds.
AGAIN_SECONDS = 0.1
# No system can wait for ever.
LONGEST_SECONDS = 3600.0


class Timed(Protocol):
    """`due_at`, on the monotonic clock, may be put off as often as one likes; that it costs nothing is the point."""

    id: int
    due_at: float

    def ring(self) -> None:
        """Must not block."""


class Timer:
    """Rings for each sleeper whenever its `due_at` is over; one that is put forward is heard of too late."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, ref[Timed]]] = []
        self._sooner = threading.Event()
        threading.Thread(target=self._run, name="timer", daemon=True).start()

    def add(self, sleeper: Timed) -> None:
        """With its `due_at` set."""
        heappush(self._due, (sleeper.due_at, sleeper.id, ref(sleeper)))
        if self._due[0][1] == sleeper.id:
            self._sooner.set()

    def _run(self) -> None:
        while True:
            left = self._due[0][0] - time.monotonic() if self._due else LONGEST_SECONDS
            if left > 0:
                self._sooner.wait(min(left, LONGEST_SECONDS))
                self._sooner.clear()
            else:
                self._look()

    def _look(self) -> None:
        """At the first that is due."""
        _, number, asleep = heappop(self._due)
        sleeper = asleep()
        if sleeper is None:
            return
        now = time.monotonic()
        if sleeper.due_at <= now:
            sleeper.ring()
        heappush(self._due, (max(sleeper.due_at, now + AGAIN_SECONDS), number, asleep))
