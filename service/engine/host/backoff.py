"""How long to wait before a worker is started again, and when to give its model up.

In: how long each worker lived. Out: seconds. Policy only: no tasks, and the clock is handed in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

Clock = Callable[[], float]

# The pauses after the first failure in a row, the second, and so on; the last one is for all that follow.
PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
# A worker that served for this long was well: the failures before it no longer count.
HEALTHY_SECONDS = 60.0
# A model that is not pinned is started this often, as long as no new request asks for it.
LOAD_ATTEMPTS = 3


class Backoff:
    """The failures of one engine's workers in a row, and the pause that follows from them."""

    def __init__(self, clock: Clock = time.monotonic, pauses: Sequence[float] = PAUSES) -> None:
        self._clock = clock
        self._pauses = pauses
        self._failures = self._failed_loads = 0
        self._until = clock()

    def failed(self, lived_seconds: float | None) -> None:
        """Begin a pause after a worker that served for `lived_seconds`; None: it was never ready."""
        self._failed_loads = self._failed_loads + 1 if lived_seconds is None else 0
        healthy = lived_seconds is not None and lived_seconds > HEALTHY_SECONDS
        self._failures = 0 if healthy else self._failures + 1
        pause = self._pauses[min(self._failures, len(self._pauses)) - 1] if self._failures else 0.0
        self._until = self._clock() + pause

    def bar(self) -> None:
        """Begin the longest pause, whatever happened before, and give the model up."""
        self._failed_loads = LOAD_ATTEMPTS
        self._until = self._clock() + self._pauses[-1]

    def loaded(self) -> None:
        """A worker is ready: failed loads before it no longer count, and there is nothing to wait for."""
        self._failed_loads = 0
        self._until = self._clock()

    @property
    def pause(self) -> float:
        """Seconds that are left until the next start; 0 when there is nothing to wait for."""
        return max(0.0, self._until - self._clock())

    @property
    def gives_up(self) -> bool:
        """Whether a model that is not pinned has failed to load often enough."""
        return self._failed_loads >= LOAD_ATTEMPTS
