"""One thread for all deadlines: a timer for each wait would cost more than the wait.

In: objects with a `due_at`. Out: a call of their `ring()` once that time has passed. Objects are held weakly, and leave
by themselves when they are gone.
"""

from __future__ import annotations

import threading
import time
from heapq import heappop, heappush
from typing import Protocol
from weakref import ref

# An object that has been rung and is still due is looked at again after this time, in seconds.
AGAIN_SECONDS = 0.1
# Some systems can't wait longer in one call.
LONGEST_SECONDS = 3600.0


class Timed(Protocol):
    """An object that waits until `due_at`, on the monotonic clock.

    Moving `due_at` later is free, which is the point of this module. Moving it earlier has no effect before the time
    that was set first.
    """

    id: int
    due_at: float

    def ring(self) -> None:
        """End the object's wait. Must not block."""


class Timer:
    """Calls the `ring()` of each object whenever its `due_at` has passed."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, ref[Timed]]] = []
        self._sooner = threading.Event()
        threading.Thread(target=self._run, name="timer", daemon=True).start()

    def add(self, timed: Timed) -> None:
        """Ring the object from now on, for the first time at its `due_at`."""
        heappush(self._due, (timed.due_at, timed.id, ref(timed)))
        if self._due[0][1] == timed.id:
            self._sooner.set()

    def _run(self) -> None:
        while True:
            left = self._due[0][0] - time.monotonic() if self._due else LONGEST_SECONDS
            if left > 0:
                self._sooner.wait(min(left, LONGEST_SECONDS))
                self._sooner.clear()
            else:
                self._ring_first()

    def _ring_first(self) -> None:
        _, number, reference = heappop(self._due)
        timed = reference()
        if timed is None:
            return
        now = time.monotonic()
        if timed.due_at <= now:
            timed.ring()
        heappush(self._due, (max(timed.due_at, now + AGAIN_SECONDS), number, reference))
