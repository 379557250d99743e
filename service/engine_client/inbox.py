"""Where the events of a request wait for the thread that iterates over them.

In: events, from the connections' reading threads. Out: lists of events, in which the deltas of each answer are merged.
"""

from __future__ import annotations

import queue
import time
from contextlib import suppress

from ..errors import ClientGone
from ..protocol.events import Delta, Event, Failed, Finished

# A client that stops reading fills the kernel's buffers, a few megabytes, and then its inbox. Its generation is
# cancelled when the inbox holds more than INBOX_DELTAS of which the first has waited for STALLED_SECONDS. Otherwise the
# generation would run to the end of the model's context.
INBOX_DELTAS = 4096
STALLED_SECONDS = 5.0


class Inbox:
    """The events of one request, or of several that are answered together.

    One thread gets and others put. The one that gets is woken once for all events that came while it slept.
    """

    def __init__(self, id: int) -> None:
        self.id = id
        # For the log.
        self.request_id = ""
        self.due_at = 0.0
        self._events: list[Event] = []
        self._waits_since = 0.0
        self._rung = self._left = False
        self._asleep = False
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()

    def put(self, event: Event) -> None:
        """Add an event."""
        if not self._events:
            self._waits_since = time.monotonic()
        self._events.append(event)
        self._wake()

    def stalls(self) -> bool:
        """Return whether it is full and nothing has been taken for STALLED_SECONDS."""
        return len(self._events) > INBOX_DELTAS and time.monotonic() - self._waits_since > STALLED_SECONDS

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

        The deltas of each answer are merged. Raises ClientGone.
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
        events = self._events[:]
        del self._events[: len(events)]
        return events if len(events) < 2 else _merged(events)

    def _wake(self) -> None:
        if self._asleep:
            self._asleep = False
            self._wakes.put(None)


def _merged(events: list[Event]) -> list[Event]:
    """Return the events, with one delta for all consecutive deltas of one answer.

    The deltas of several answers alternate; each answer keeps its own order and ends where it ended. Thinking stays
    before text, and text before tool calls.
    """
    merged: list[Event] = []
    runs: dict[tuple[int, int], list[Delta]] = {}
    # The answers whose run holds text already, after which no thinking may be added to it.
    with_text: set[tuple[int, int]] = set()
    for event in events:
        if not isinstance(event, Delta):
            ended = [(event.id, event.index)] if isinstance(event, Finished) else list(runs)
            merged += [_joined(runs.pop(answer)) for answer in ended if answer in runs]
            merged.append(event)
            continue
        answer = event.id, event.index
        run = runs.setdefault(answer, [])
        if run and (run[-1].tool_calls or (event.thinking and answer in with_text)):
            merged.append(_joined(run))
            run.clear()
            with_text.discard(answer)
        run.append(event)
        if event.text:
            with_text.add(answer)
    return merged + [_joined(run) for run in runs.values()]


def _joined(run: list[Delta]) -> Delta:
    if len(run) == 1:
        return run[0]
    return Delta(
        run[0].id,
        run[0].seq,
        "".join([delta.text for delta in run]),
        [token_id for delta in run for token_id in delta.token_ids],
        "".join([delta.thinking for delta in run]),
        run[-1].tool_calls,
        [token for delta in run for token in delta.logprobs],
        run[0].index,
        sum(delta.prompt_tokens for delta in run),
    )
