"""Follow the server's events, for one client.

In: the connections, and where the client left off. Out: batches of events, without an end of its own. The host is asked
for newer events each time a batch has been taken, so a client that reads slowly holds up nothing and fills no memory.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

from ..drain import drain
from ..errors import Unavailable
from ..protocol.commands import Observe
from ..protocol.events import Observed
from ..protocol.live import HostState, LiveEvent, LiveSnapshot
from .connections import ENGINE_GONE, Connections, new_id
from .disconnect import Presence
from .exchange import Exchange, Times, expect

# How often a host that can't be reached is tried again.
RETRY_SECONDS = 1.0
# The host sends a snapshot each second; after this long it is reported as gone.
SILENT_SECONDS = 5.0


class Observation(Exchange):
    """Iterating `batches` runs it; `close` ends it."""

    def __init__(self, connections: Connections, times: Times, presence: Presence, after: str, seconds: float) -> None:
        """`after` is the mark of the last event that the client has; without it the last `seconds` come first."""
        super().__init__(connections, times, presence)
        self._ends_at = math.inf
        self._after = after
        self._seconds = seconds

    def batches(self) -> Iterator[list[LiveEvent]]:
        """Yield events, and an empty batch for a heartbeat, until this process shuts down. Raises ClientGone.

        While the host can't be reached, the events are snapshots with the state GONE.
        """
        try:
            while not drain.begun:
                yield from self._next()
        finally:
            self.close()

    def _next(self) -> Iterator[list[LiveEvent]]:
        try:
            self._ask(self._connections.control(), Observe(new_id(), self._after, self._seconds))
            asked_at = time.monotonic()
            while not (events := self._wait()):
                if drain.begun:
                    return
                silent = time.monotonic() - asked_at
                yield [_gone(f"it has sent nothing for {silent:.0f} s")] if silent >= SILENT_SECONDS else []
            self._answered()
            news = expect(events[0], Observed).events
            self._after = news[-1].mark
            yield news
        except Unavailable as error:
            self._answered()
            yield [_gone("it closed the connection" if error.message == ENGINE_GONE else error.message)]
            self._pause(RETRY_SECONDS)


def _gone(reason: str) -> LiveEvent:
    return LiveEvent(snapshot=LiveSnapshot(time.time(), HostState.GONE, reason))
