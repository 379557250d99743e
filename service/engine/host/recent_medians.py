"""How long the last minute's requests for each model waited. Policy only: the clock is handed in."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

from ...protocol.commands import RequestOutcome

WINDOW_SECONDS = 60.0
# A median of more requests is not better, and each snapshot sorts them.
MOST_REQUESTS = 500


class Waits(NamedTuple):
    """How long a request waited, in nanoseconds; 0 for a wait that it did not reach. `at` is on the clock."""

    at: float
    first: int
    queue: int


class RecentMedians:
    """The medians by model, under the model's own name."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waits: dict[str, deque[Waits]] = {}

    def add(self, outcome: RequestOutcome, model: str) -> None:
        if outcome.output_tokens or outcome.queue:
            first = outcome.first if outcome.output_tokens else 0
            waits = self._waits.setdefault(model, deque(maxlen=MOST_REQUESTS))
            waits.append(Waits(self._clock(), first, outcome.queue))

    def of(self, model: str) -> tuple[float | None, float | None]:
        """Return the medians of the time to the first token and of the time in the queue, in seconds."""
        waits = self._waits.get(model, deque())
        while waits and waits[0].at < self._clock() - WINDOW_SECONDS:
            waits.popleft()
        return _median([each.first for each in waits]), _median([each.queue for each in waits])

    def forget(self, model: str) -> None:
        self._waits.pop(model, None)


def _median(nanoseconds: list[int]) -> float | None:
    known = [each for each in nanoseconds if each]
    return median(known) / 1e9 if known else None
