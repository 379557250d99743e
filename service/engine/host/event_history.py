"""The events of the last minutes, for observers that come late or come back.

In: snapshots and requests that have ended. Out: the events after a mark, or those of the last seconds. Policy only: no
tasks, no sockets, and the clock is handed in.
"""

from __future__ import annotations

import heapq
import math
import re
import time
import uuid
from collections import deque
from collections.abc import Callable
from itertools import islice, takewhile
from typing import NamedTuple

from ...protocol.commands import RequestOutcome
from ...protocol.live import LiveEvent, LiveSnapshot

KEPT_SECONDS = 300.0
# A busy server ends thousands of requests a minute; the newest of them are kept.
MOST_REQUESTS = 2000
# One snapshot in this many seconds is kept, and each that shows another state. So an observer that comes late gets 60
# snapshots and not 300, and one that reads slowly gets the newest one.
THINNED_SECONDS = 5.0

_MARK = re.compile(r"(\w+)-(\d{1,15})", re.ASCII)


class KeptEvent(NamedTuple):
    """`number` counts the events of this history, `at` is on its clock."""

    number: int
    at: float
    event: LiveEvent


class EventHistory:
    """Marks are RUN-NUMBER, where RUN is random, so that a mark of another host is noticed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._run = uuid.uuid4().hex[:8]
        self._last = 0
        # The number of the newest event that was dropped for its age, or since there were too many.
        self._dropped = 0
        self._snapshots: deque[KeptEvent] = deque()
        self._requests: deque[KeptEvent] = deque()
        # When the next snapshot is kept that shows no other state.
        self._thinned_until = -math.inf
        # Whether the newest snapshot goes when the next one comes.
        self._is_passing = False

    def add_snapshot(self, snapshot: LiveSnapshot, is_change: bool) -> None:
        """Add a snapshot, which is kept if `is_change` or if none was for THINNED_SECONDS, else until the next one."""
        if self._is_passing:
            self._snapshots.pop()
        now = self._clock()
        self._is_passing = not is_change and now < self._thinned_until
        if not self._is_passing:
            self._thinned_until = now + THINNED_SECONDS
        self._add(self._snapshots, LiveEvent(self._next_mark(), snapshot=snapshot))

    def add_request(self, outcome: RequestOutcome) -> None:
        self._add(self._requests, LiveEvent(self._next_mark(), request=outcome))
        if len(self._requests) > MOST_REQUESTS:
            self._drop(self._requests)

    def events(self, after: str, seconds: float, most: int) -> list[LiveEvent]:
        """Return the events after the one with the mark `after`, the oldest first, and at most the first `most`.

        Without a mark: those of the last `seconds`, and the newest snapshot. With a mark that is not known, or whose
        event is so old that later ones were dropped: all that are kept.
        """
        number = self._number(after)
        if number is not None:
            return self._newer(lambda each: each.number > number, most)
        since = -math.inf if after else self._clock() - seconds
        newest = self._snapshots[-1] if self._snapshots else None
        return self._newer(lambda each: each.at >= since or each is newest, most)

    def _newer(self, is_newer: Callable[[KeptEvent], bool], most: int) -> list[LiveEvent]:
        # From the newest backwards, since an observer that follows has all but a few.
        newer = [list(takewhile(is_newer, reversed(kept)))[::-1] for kept in (self._snapshots, self._requests)]
        return [each.event for each in islice(heapq.merge(*newer), most)]

    def _number(self, mark: str) -> int | None:
        """Return the number in a mark; None where the events after it are not all known."""
        found = _MARK.fullmatch(mark)
        if found is None or found[1] != self._run:
            return None
        number = int(found[2])
        return number if self._dropped <= number <= self._last else None

    def _next_mark(self) -> str:
        self._last += 1
        return f"{self._run}-{self._last}"

    def _add(self, kept: deque[KeptEvent], event: LiveEvent) -> None:
        now = self._clock()
        kept.append(KeptEvent(self._last, now, event))
        for each in (self._snapshots, self._requests):
            while each and each[0].at < now - KEPT_SECONDS:
                self._drop(each)

    def _drop(self, kept: deque[KeptEvent]) -> None:
        self._dropped = max(self._dropped, kept.popleft().number)
