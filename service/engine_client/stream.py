"""The answers to requests to one model, as batches of events; when their engine is lost they continue on another one.

In: requests. Out: batches of events, or a ServiceError.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass

from ..drain import drain
from ..errors import Drained, EngineGone, GoingDown
from ..protocol.commands import Submit
from ..protocol.events import Delta, Event, Failed, Finished, Located, Rendered
from ..protocol.request import Request
from .beginning import beginning
from .connections import Connections, new_id
from .disconnect import Presence
from .exchange import Exchange, Times
from .fast_path import FastPath
from .moves import AnswersSoFar, Move, Moves

logger = logging.getLogger("vllm_wsgi.queue")

# In seconds: a stream waits this long for another engine host when the host has exited, and tries this often.
HOST_SECONDS = 120.0
HOST_PAUSE_SECONDS = 0.3
# A request waits this long for the answer to another one's question, in seconds. Then it asks by itself.
ANSWER_SECONDS = 0.1


@dataclass(frozen=True)
class StreamOrder:
    """The requests that a stream answers: those of one caller to one model.

    `keep_alive` is in seconds. The stream may lose its engine `moves` times.
    """

    requests: list[Request]
    keep_alive: float | None
    moves: int


class Stream(Exchange):
    """The answers to requests to one model. Iterating `batches` runs them; `close` cancels, once, what has not ended.

    The answers are numbered in one row: those of the second request follow those of the first in their `index`.
    """

    def __init__(
        self,
        connections: Connections,
        times: Times,
        presence: Presence,
        order: StreamOrder,
        answers: AnswersSoFar | None = None,
    ) -> None:
        requests = order.requests
        super().__init__(connections, times, presence, requests[0].caller.name)
        self._model = requests[0].model
        self._beginning = beginning(requests[0])
        self._inbox.request_id = requests[0].request_id
        self._submits = [Submit(new_id(), request) for request in requests]
        counts = [request.n for request in requests]
        self._first = {submit.id: sum(counts[:place]) for place, submit in enumerate(self._submits)}
        self._keep_alive = order.keep_alive
        self._moves = Moves(self._submits, order.moves, answers)
        # The failure of the engine, until another one has the requests.
        self._failed: Failed | None = None
        self._is_moving = False
        # Whether the requests have reached the engine that failed.
        self._reached = False
        # Whether the host was not asked where the model is, and no event has come from there yet.
        self._is_guess = False
        # The events of a moved answer get the id of its first Submit.
        self._origin: dict[int, int] = {}

    @property
    def moves(self) -> list[Move]:
        """The moves to another engine so far."""
        return self._moves.made

    @property
    def replica(self) -> int:
        """The number of the replica that has the stream, or had it last."""
        return 0 if self.location is None else self.location.replica

    def batches(self) -> Iterator[list[Event]]:
        """Yield Located, deltas and a Finished for each answer, or one Rendered; an empty batch for a heartbeat.

        Ends after the last of these or raises a ServiceError, never both and never neither.
        """
        try:
            yield from self._first_engine()
            yield from self._answers()
        finally:
            self.close()

    def use(self, path: FastPath) -> None:
        """Let deltas take a path past `batches`, whenever these wait for events."""
        self._inbox.fast_path = path

    def passed(self, delta: Delta) -> list[Event]:
        """Number a delta that has taken the fast path, as `batches` would. Return nothing for one of a lost engine."""
        if delta.id not in self._open:
            return []
        self._number(delta)
        return [delta]

    def _number(self, event: Delta | Finished) -> None:
        """Number an event as the client counts the answers, and add it to the answers so far."""
        event.index += self._first[event.id]
        self._moves.add(event)
        event.id = self._origin.get(event.id, event.id)

    def _first_engine(self) -> Iterator[list[Event]]:
        self._is_guess = self._keep_alive is None and self._is_at(self._known_location())
        if self._is_guess:
            assert self.location is not None
            yield [self.location]
        else:
            yield from self.locate(self._model, self._keep_alive, len(self._submits), beginning=self._beginning)
        self._submit_to_engine(self._submits)

    def _known_location(self) -> Located | None:
        """Return where the model is, without a question of this request's own. The requests of a burst ask once."""
        locations = self._connections.locations()
        known = locations.holding(self._model)
        if known is None and locations.await_answer(self._model, self._inbox.ring):
            self._inbox.get(ANSWER_SECONDS)
            known = locations.holding(self._model)
        return known

    def _submit_to_engine(self, submits: list[Submit]) -> None:
        self._failed = self._submit(submits)
        self._reached = self._failed is None

    def _answers(self) -> Iterator[list[Event]]:
        while self._open or self._failed is not None:
            if self._failed is not None:
                yield from self._move(self._failed)
                self._submit_to_engine(self._rest())
                continue
            events = self._wait()
            self._failed = self._take(events)
            self._is_guess = self._is_guess and not events
            if events or self._failed is None:
                yield events

    def _submit(self, submits: list[Submit]) -> Failed | None:
        """Send the Submits to the located engine. Return the failure when it can't be reached any more."""
        assert self.location is not None
        for submit in submits:
            submit.defaults = self.location.defaults
        try:
            self._ask(self._connections.connection(self.location.socket), *submits)
        except EngineGone as error:
            return Failed.of(self._inbox.id, error)
        return None

    def _rest(self) -> list[Submit]:
        """Return a Submit for each answer that has not ended."""
        submits = []
        for index, answer in self._moves.left():
            submit = Submit(new_id(), answer.rest())
            self._first[submit.id] = index
            self._origin[submit.id] = answer.submit
            submits.append(submit)
        return submits

    def _move(self, failed: Failed) -> Iterator[list[Event]]:
        """Yield empty batches until another engine is located. Raises the failure where the stream may not move."""
        assert self.location is not None
        if drain.begun:
            raise failed.error()
        if not self._is_moving and not self._was_a_wrong_guess(failed):
            self._moves.begin(failed, self.location.socket, self._reached)
            logger.warning("request %s moves to another engine: %s", self._inbox.request_id, failed.message)
        self._is_moving = True
        self._cancel()
        gives_up_at = time.monotonic() + HOST_SECONDS
        beats_at = time.monotonic() + self._times.heartbeat
        while True:
            try:
                left, lost = len(self._moves.left()), self._moves.lost
                for events in self.locate(self._model, self._keep_alive, left, lost, self._beginning):
                    # The client already knows of the first engine's load, so the Located stays here.
                    if not events:
                        yield events
                self._is_moving = False
                return
            except (EngineGone, GoingDown):
                # The engine host itself has exited, and gunicorn or systemd starts another one.
                self._answered()
                if time.monotonic() > gives_up_at or drain.begun:
                    raise
            self._pause(HOST_PAUSE_SECONDS)
            if time.monotonic() >= beats_at:
                beats_at += self._times.heartbeat
                yield []

    def _was_a_wrong_guess(self, failed: Failed) -> bool:
        """Return whether the model has left the engine before the requests came there; the host is asked then."""
        is_wrong = self._is_guess and (not self._reached or failed.kind == Drained.__name__)
        self._is_guess = False
        if is_wrong:
            self._connections.locations().forget(self._model)
        return is_wrong

    def _take(self, events: list[Event]) -> Failed | None:
        """Number the answers up to the end of the last one, or up to a failure, and drop what follows."""
        for place, event in enumerate(events):
            if isinstance(event, Failed):
                self._answered(event.id)
                del events[place:]
                return event
            submit = event.id
            if isinstance(event, (Delta, Finished)):
                self._number(event)
            if isinstance(event, (Finished, Rendered)):
                self._open[submit] -= 1
                if not self._open[submit]:
                    self._answered(submit)
            if not self._open:
                # An engine process that ends right after its last answer has not failed that answer.
                del events[place + 1 :]
        return None
