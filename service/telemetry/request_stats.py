"""One request in numbers, from its arrival to its real end, which no status tells once a stream has begun.

Events of the engine are counted on their way through, in plain numbers and with one reading of the clock for each batch
that brings tokens. Knows no Flask and no log.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import ClientGone, ClientTooSlow, Drained, EngineGone, ServiceError, Unavailable
from ..protocol.commands import RequestOutcome
from ..protocol.events import Delta, Event, Finished, Located

# Names of models come from clients, as long as they like.
MAX_NAME = 200


class RequestStats:
    """Durations in nanoseconds. `ending` is done, client_gone, refused, drained or error; `error` the error's kind."""

    def __init__(self, route: str) -> None:
        self.route = route
        self.ending = "done"
        self.error = ""
        self.prompt: Any = None
        self.load = self.queue = self.first = self.pause = 0
        self.output_tokens = 0
        self.span: Any = None
        self._model = ""
        self._began = time.monotonic_ns()
        self._first = self._last = 0
        # By request, since each answer to it tells them again.
        self._prompt_tokens: dict[int, int] = {}

    @property
    def model(self) -> str:
        """As the client named it."""
        return self._model

    @model.setter
    def model(self, name: str) -> None:
        self._model = name[:MAX_NAME]

    @property
    def duration(self) -> int:
        return time.monotonic_ns() - self._began

    @property
    def prompt_tokens(self) -> int:
        return sum(self._prompt_tokens.values())

    def add_prompt(self, tokens: int, request: int = 0) -> None:
        self._prompt_tokens[request] = tokens

    def streams(self) -> None:
        """From here on only the end of the events is one; a server that closes a stream before has lost its client."""
        self.ending = "client_gone"

    def count(self, batches: Iterable[list[Event]]) -> Iterator[list[Event]]:
        """The batches as they come."""
        for batch in batches:
            if batch:
                self._add(batch)
            yield batch
        self.ending = "done"

    def failed(self, error: ServiceError) -> None:
        """An answer that has begun is broken off by what would have refused it before."""
        end = ending(error)
        self.ending = "error" if end == "refused" and self.output_tokens else end
        self.error = error.kind

    def ended(self) -> RequestOutcome:
        """For the metrics."""
        return RequestOutcome(
            self.route, self.ending, self.error, self._model, self.first, self.pause, self._last - self._first,
            self.queue, self.prompt_tokens, self.output_tokens,
        )  # fmt: skip

    def _add(self, batch: list[Event]) -> None:
        tokens = 0
        for event in batch:
            # Most are, and this is for each of them.
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
            self._speak(tokens)

    def _speak(self, tokens: int) -> None:
        now = time.monotonic_ns()
        if not self._last:
            self._first, self.first = now, now - self._began
        elif now - self._last > self.pause:
            self.pause = now - self._last
        self._last = now
        self.output_tokens += tokens


def ending(error: ServiceError) -> str:
    """How a request ends that this error ends: `refused` is what nothing was done for.

    A client that is too slow is given up, perhaps after thousands of tokens.
    """
    if isinstance(error, ClientGone | ClientTooSlow):
        return "client_gone"
    if isinstance(error, Drained):
        return "drained"
    busy = isinstance(error, Unavailable) and not isinstance(error, EngineGone)
    return "refused" if busy or error.status < 500 or error.status == 501 else "error"
