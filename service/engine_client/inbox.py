"""Where the events of a request wait for the one who iterates over them.

Sockets, threads and queues are looked up in their modules when they are used, so that the same code runs in greenlets
where gevent has patched and in threads elsewhere.
"""

from __future__ import annotations

import queue
import time
from contextlib import suppress

from ..errors import ClientGone
from ..protocol.events import Delta, Event, Failed, Finished

# A client that reads no more fills the kernel's buffers, a few megabytes, and then its inbox. With so many deltas in it
# of which the first has waited for so many seconds the generation is cancelled: it would go on to its context's end.
INBOX_DELTAS = 4096
STALLED_SECONDS = 5.0


class Inbox:
    """The events of one request, or of several that belong together, put there by the connections' readers.

    One thread gets, others put. Whoever gets is woken once for all that has come since it went to sleep.
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
        if not self._events:
            self._waits_since = time.monotonic()
        self._events.append(event)
        self._wake()

    def stalls(self) -> bool:
        """Whether it is full and nobody comes for what is in it."""
        return len(self._events) > INBOX_DELTAS and time.monotonic() - self._waits_since > STALLED_SECONDS

    def fail(self, failed: Failed) -> None:
        """In place of all that is in it."""
        self._events[:] = [failed]
        self._wake()

    def ring(self) -> None:
        """Whoever waits is to wait no longer."""
        self._rung = True
        self._wake()

    def client_left(self) -> None:
        self._left = True
        self._wake()

    def get(self, timeout: float | None = None) -> list[Event]:
        """All that has come, after waiting for something, for a ring or for up to `timeout` seconds; deltas are merged.

        Raises ClientGone.
        """
        with suppress(queue.Empty):
            while not (self._events or self._rung or self._left):
                self._asleep = True
                # Something may have come just before that.
                if not (self._events or self._rung or self._left):
                    self._wakes.get(timeout=timeout)
        self._asleep = self._rung = False
        if self._left:
            raise ClientGone("the client has left")
        events = self._events[:]
        del self._events[: len(events)]
        return events if len(events) < 2 else _merged(events)

    def _wake(self) -> None:
        if self._asleep:
            self._asleep = False
            self._wakes.put(None)


def _merged(events: list[Event]) -> list[Event]:
    """The events, with one delta for all of one answer that follow each other.

    Those of several answers are put beside each other for that, so that each answer keeps its own order and ends where
    it did. Thinking stays before text, text before tool calls.
    """
    merged: list[Event] = []
    runs: dict[tuple[int, int], list[Delta]] = {}
    spoken: set[tuple[int, int]] = set()
    for event in events:
        if not isinstance(event, Delta):
            ended = [(event.id, event.index)] if isinstance(event, Finished) else list(runs)
            merged += [_joined(runs.pop(answer)) for answer in ended if answer in runs]
            merged.append(event)
            continue
        answer = event.id, event.index
        run = runs.setdefault(answer, [])
        if run and (run[-1].tool_calls or (event.thinking and answer in spoken)):
            merged.append(_joined(run))
            run.clear()
            spoken.discard(answer)
        run.append(event)
        if event.text:
            spoken.add(answer)
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
