"""The place in which the events of a request wait for the thread that iterates over them.

In: events, from the connections' reading threads. Out: lists of events, in which the deltas of each answer are merged.
"""

from __future__ import annotations

import queue
import time
from contextlib import suppress

from ..errors import ClientGone
from ..protocol.events import Delta, Event, Failed
from ..protocol.joining import joined
from .fast_path import FastPath

# A client that stops reading fills the kernel's buffers, a few megabytes, and then its inbox. Its generation is
# cancelled when the inbox holds more than INBOX_DELTAS of which the first has waited for STALLED_SECONDS. Otherwise the
# generation would run to the end of the model's context. A log probability takes as much memory as a delta.
INBOX_DELTAS = 4096
STALLED_SECONDS = 5.0


class Inbox:
    """The events of one request, or of several that are answered together.

    One thread gets and others put. The one that gets is woken once for all events that came while it slept. With a
    `fast_path` it sleeps on: while nothing else is here for it, deltas take that path.
    """

    def __init__(self, id: int) -> None:
        self.id = id
        # For the log.
        self.request_id = ""
        self.due_at = 0.0
        self.fast_path: FastPath | None = None
        # On the monotonic clock: when the last delta took the fast path.
        self.passed_at = 0.0
        self._events: list[Event] = []
        # The log probabilities in them, alternatives included.
        self._logprobs = 0
        self._waits_since = 0.0
        self._rung = self._left = False
        self._asleep = False
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()

    def put(self, event: Event) -> None:
        """Add an event, or let it take the fast path."""
        if self._asleep and self.fast_path is not None and type(event) is Delta:
            self.passed_at = time.monotonic()
            if not self.fast_path.take(event):
                self.ring()
            return
        if not self._events:
            self._waits_since = time.monotonic()
        self._events.append(event)
        if type(event) is Delta and event.logprobs:
            self._logprobs += sum(1 + len(token.top_logprobs) for token in event.logprobs)
        self._wake()

    def stalls(self) -> bool:
        """Return whether it is full and nothing has been taken for STALLED_SECONDS."""
        held = len(self._events) + self._logprobs
        return held > INBOX_DELTAS and time.monotonic() - self._waits_since > STALLED_SECONDS

    def fail(self, failed: Failed) -> None:
        """Replace all events by this one."""
        self._events[:] = [failed]
        self._wake()

    def ring(self) -> None:
        """End the current wait, or the next one."""
        self._rung = True
        self._wake()

    def client_left(self) -> None:
        """Have `get` raise ClientGone from now on."""
        self._left = True
        self._wake()

    def client_forgotten(self) -> None:
        """Have `get` take no notice of a client that has left."""
        self._left = False

    def get(self, timeout: float | None = None) -> list[Event]:
        """Return all events that have come, after waiting for one, for a ring or for `timeout` seconds.

        The deltas of each answer are merged. Raises ClientGone, and what went wrong on the fast path.
        """
        with suppress(queue.Empty):
            while not (self._events or self._rung or self._left):
                self._asleep = True
                # An event may have come just before that.
                if not (self._events or self._rung or self._left):
                    self._wakes.get(timeout=timeout)
        self._asleep = self._rung = False
        if self._left:
            raise ClientGone("the client has disconnected")
        if self.fast_path is not None:
            self.fast_path.settle()
        events = self._events[:]
        del self._events[: len(events)]
        self._logprobs = 0
        return events if len(events) < 2 else joined(events)

    def _wake(self) -> None:
        if self._asleep:
            self._asleep = False
            self._wakes.put(None)
