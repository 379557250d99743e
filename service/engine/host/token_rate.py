"""How many tokens a worker makes a second, from the counts in its pulses. Policy only: the clock is handed in."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

WINDOW_SECONDS = 5.0


class TokenRate:
    """The rate over the last WINDOW_SECONDS, which smooths the decode steps of a slow model."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: deque[tuple[float, int]] = deque()

    def add(self, tokens: int) -> None:
        """Note how many tokens the worker has made since its start."""
        now = self._clock()
        self._counts.append((now, tokens))
        # One count from before the window stays: the rate is measured from it.
        while len(self._counts) > 2 and self._counts[1][0] <= now - WINDOW_SECONDS:
            self._counts.popleft()

    @property
    def per_second(self) -> float:
        """Tokens per second, rounded to a tenth; 0 before the second pulse."""
        if len(self._counts) < 2:
            return 0.0
        (began, before), (ended, after) = self._counts[0], self._counts[-1]
        return round((after - before) / (ended - began), 1) if ended > began else 0.0
