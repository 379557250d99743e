"""The pulses of one worker: what runs in it, and how many tokens it makes a second.

In: each Pulse. Out: numbers. Policy only: the clock is handed in.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from ...protocol.reports import Pulse

# A rate over this long smooths the decode steps of a slow model.
WINDOW_SECONDS = 5.0
# Pulses come once a second; a long prefill or a busy machine delays one.
LATE_SECONDS = 3.0


class Pulses:
    """`running` and `waiting` are those of the last pulse, and 0 before the first one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.running = self.waiting = 0
        self._counts: deque[tuple[float, int]] = deque()

    @property
    def is_late(self) -> bool:
        """Whether a pulse was missed. None is, before the first one."""
        return bool(self._counts) and self._clock() - self._counts[-1][0] > LATE_SECONDS

    def add(self, pulse: Pulse) -> None:
        now = self._clock()
        self.running, self.waiting = pulse.running, pulse.waiting
        self._counts.append((now, pulse.output_tokens))
        # One count from the window's beginning or before stays: the rate is measured from there.
        while len(self._counts) > 2 and self._counts[1][0] <= now - WINDOW_SECONDS:
            self._counts.popleft()

    @property
    def tokens_per_second(self) -> float:
        """Output tokens per second over the last WINDOW_SECONDS, to a tenth; 0 before the second pulse."""
        if len(self._counts) < 2:
            return 0.0
        (began, before), (ended, after) = self._counts[0], self._counts[-1]
        return round((after - before) / (ended - began), 1) if ended > began else 0.0
