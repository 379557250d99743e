"""Timings, token counts and outcome of one request, from its arrival to its real end.

Once a stream has begun its status is already 200, so the outcome is recorded here. The engine's events are counted on
their way to the client. The clock is read once for each batch that brings tokens.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any

from ..engine_client.moves import Move
from ..engine_client.stream import Stream
from ..errors import ClientGone, ClientTooSlow, Drained, EngineGone, ServiceError, Unavailable
from ..protocol.commands import RequestOutcome
from ..protocol.events import Delta, Event, Finished, Located

# Longer model names, which clients choose, are cut to this many characters.
MAX_NAME = 200


class Ending(str, Enum):
    """How a request ended, as the request log, the metrics and the traces name it."""

    DONE = "done"
    CLIENT_GONE = "client_gone"
    REFUSED = "refused"
    DRAINED = "drained"
    ERROR = "error"


class RequestStats:
    """Durations are in nanoseconds. `error` is the class name of the error that ended the request, or empty.

    `status` is that of the error, or 200. A stream that fails has sent its own status before.
    """

    def __init__(self, route: str) -> None:
        self.route = route
        self.ending = Ending.DONE
        self.error = ""
        self.status = 200
        self.prompt: Any = None
        # The stream of a generation, which knows on which replicas it ran.
        self.stream: Stream | None = None
        self.load = self.queue = self.first = self.pause = 0
        self.output_tokens = 0
        self._model = ""
        self._began = time.monotonic_ns()
        self._first = self._last = 0
        # By request, since each answer to a request reports them again.
        self._prompt_tokens: dict[int, int] = {}

    @property
    def model(self) -> str:
        """The model's name as the client wrote it, cut to MAX_NAME characters."""
        return self._model

    @model.setter
    def model(self, name: str) -> None:
        self._model = name[:MAX_NAME]

    @property
    def duration(self) -> int:
        """Nanoseconds since the request arrived."""
        return time.monotonic_ns() - self._began

    @property
    def prompt_tokens(self) -> int:
        """The prompts' tokens, summed over the requests that one body made."""
        return sum(self._prompt_tokens.values())

    @property
    def moves(self) -> list[Move]:
        """The moves to another engine so far."""
        return [] if self.stream is None else self.stream.moves

    def add_prompt(self, tokens: int, request: int = 0) -> None:
        """Set how many tokens the prompt of a request has."""
        self._prompt_tokens[request] = tokens

    def streams(self) -> None:
        """Mark the start of streaming.

        From now on the request is done only when its events are exhausted. When the server closes the response earlier,
        the client has disconnected.
        """
        self.ending = Ending.CLIENT_GONE

    def count(self, batches: Iterable[list[Event]]) -> Iterator[list[Event]]:
        """Yield the batches as they come, and count what is in them."""
        for batch in batches:
            if batch:
                self.add(batch)
            yield batch
        self.ending = Ending.DONE

    def pass_on(self, batches: Iterable[list[Event]]) -> Iterator[list[Event]]:
        """Yield the batches of a stream that another request has begun, which counts its tokens."""
        yield from batches
        self.ending = Ending.DONE

    def failed(self, error: ServiceError) -> None:
        """Record the error that ended the request; an answer that has begun can't be refused any more."""
        end = ending(error)
        self.ending = Ending.ERROR if end is Ending.REFUSED and self.output_tokens else end
        self.error = error.kind
        self.status = error.status

    def ended(self, **http: Any) -> RequestOutcome:
        """Return the outcome, at the request's end. `http` holds its id, client, key, method and status."""
        return RequestOutcome(
            self.route, self.ending.value, self.error, self._model, self.first, self.pause, self._last - self._first,
            self.queue, self.prompt_tokens, self.output_tokens, time.time(), duration=self.duration, load=self.load,
            replica=0 if self.stream is None else self.stream.replica,
            moves=dict(Counter(move.cause.value for move in self.moves)),
            **http,
        )  # fmt: skip

    def add(self, batch: list[Event]) -> None:
        """Count what is in a batch."""
        tokens = 0
        for event in batch:
            # The most frequent kind comes first, with the cheapest test.
            if type(event) is Delta:
                tokens += len(event.token_ids)
                if event.prompt_tokens:
                    self.add_prompt(event.prompt_tokens, event.id)
            elif isinstance(event, Finished):
                self.queue = max(self.queue, event.queue_ns)
                self.add_prompt(event.prompt_tokens, event.id)
            elif isinstance(event, Located):
                self.load = event.load_ns
        if tokens:
            self._count_tokens(tokens)

    def _count_tokens(self, tokens: int) -> None:
        now = time.monotonic_ns()
        if not self._last:
            self._first, self.first = now, now - self._began
        elif now - self._last > self.pause:
            self.pause = now - self._last
        self._last = now
        self.output_tokens += tokens


def ending(error: ServiceError) -> Ending:
    """Return how a request ends that fails with this error; REFUSED means that no work was done for it.

    A client that reads or sends too slowly counts as gone: it may have got thousands of tokens before.
    """
    if isinstance(error, (ClientGone, ClientTooSlow)):
        return Ending.CLIENT_GONE
    if isinstance(error, Drained):
        return Ending.DRAINED
    busy = isinstance(error, Unavailable) and not isinstance(error, EngineGone)
    return Ending.REFUSED if busy or error.status < 500 or error.status == 501 else Ending.ERROR
