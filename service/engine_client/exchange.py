"""One client's dealings with the engine: locate the model, submit, read events, cancel."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from ..drain import drain
from ..errors import ClientGone, DeadlineExceeded, Drained, EngineGone, GoingDown, ServiceError
from ..protocol.commands import Cancel, Command, Embed, Locate, Submit
from ..protocol.events import Delta, Done, Event, Failed, Finished, Located, Rendered, Vectors
from ..protocol.request import EmbedRequest, Request, Struct
from .connections import Connection, _ids
from .disconnect import POLL_SECONDS, Presence
from .inbox import Inbox
from .moves import Moves

if TYPE_CHECKING:
    from .client import Client


logger = logging.getLogger("vllm_wsgi.queue")

# How long a stream whose engine host has exited waits for the next one to listen, and how often it tries.
HOST_SECONDS = 120.0
HOST_PAUSE_SECONDS = 0.3

E = TypeVar("E", bound=Struct)


def _expect(event: Event, kind: type[E]) -> E:
    if isinstance(event, Failed):
        raise event.error()
    if not isinstance(event, kind):
        raise EngineGone(f"the engine answered {type(event).__name__} instead of {kind.__name__}")
    return event


class Exchange:
    """One client's dealings with the engine, one step at a time, and the client that may leave meanwhile."""

    def __init__(self, client: Client, presence: Presence, caller: str = "") -> None:
        """`caller` is the name of the key that asks; it is empty where nobody needs one."""
        self._client = client
        self._caller = caller
        self._inbox = Inbox(next(_ids))
        self._asked: Connection | None = None
        # How many answers each command has still to bring.
        self._open: dict[int, int] = {}
        self.location: Located | None = None
        self._ends_at = time.monotonic() + (client.deadline or math.inf)
        self._gone = presence.gone
        # After so long it looks up, if only to find that nothing has come.
        self._looks_up = min(client.heartbeat, math.inf if self._gone is None else POLL_SECONDS)
        self._inbox.due_at = min(self._ends_at, time.monotonic() + self._looks_up)
        client.timer().add(self._inbox)
        self._fd = -1 if presence.fileno is None else presence.fileno()
        if self._fd >= 0:
            client.watch().add(self._fd, self._inbox.client_left)

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what has not ended yet. Idempotent."""
        self._give_up()
        if self._fd >= 0:
            self._client.watch().remove(self._fd)
            self._fd = -1

    def _give_up(self) -> None:
        """Cancel what has not ended yet."""
        if self._asked is not None:
            with contextlib.suppress(ServiceError):
                for command in list(self._open):
                    self._asked.send(Cancel(command))
        self._answered()

    def locate(
        self, model: str, keep_alive: float | None, submits: int, lost: list[str] | None = None
    ) -> Iterator[list[Event]]:
        """Empty batches while the model loads, then one with its Located, which is the `location` from then on."""
        self._ask(self._client.control(), Locate(self._inbox.id, model, keep_alive, submits, self._caller, lost or []))
        while not (events := self._wait()):
            yield []
        self._answered()
        self.location = _expect(events[0], Located)
        yield [self.location]

    def located(self, model: str, keep_alive: float | None, submits: int) -> Located:
        """Wait until the model is loaded; no matter how long."""
        deque(self.locate(model, keep_alive, submits), maxlen=0)
        assert self.location is not None
        return self.location

    def embed(self, request: EmbedRequest) -> Vectors:
        """Wait for the vectors of every input, from where the model has been located."""
        assert self.location is not None
        answer = Vectors(self._inbox.id, [], 0)
        self._ask(self._client.connection(self.location.socket), Embed(self._inbox.id, request))
        while len(answer.vectors) < len(request.inputs):
            for event in self._wait():
                if isinstance(event, Failed):
                    self._answered()
                part = _expect(event, Vectors)
                answer.vectors += part.vectors
                answer.prompt_tokens += part.prompt_tokens
        self._answered()
        return answer

    def _ask(self, connection: Connection, *commands: Command) -> None:
        self._asked = connection
        for command in commands:
            connection.send(command, self._inbox)
            self._open[command.id] = command.request.n if isinstance(command, Submit) else 1

    def _answered(self, *commands: int) -> None:
        """These, or all of them, have ended: nothing more is expected of them, and nothing left to cancel."""
        for command in commands or list(self._open):
            self._open.pop(command, None)
            if self._asked is not None:
                self._asked.forget(command)

    def _wait(self) -> list[Event]:
        """What has come; nothing when the heartbeat is due. Raises ClientGone, DeadlineExceeded and Drained."""
        now = time.monotonic()
        beats_at = now + self._client.heartbeat
        while True:
            ends_at = min(self._ends_at, drain.ends_at)
            self._inbox.due_at = min(ends_at, beats_at, now + self._looks_up)
            # What a lost engine's connection still brings belongs to no command of ours any more.
            events = [] if now >= ends_at else [event for event in self._inbox.get() if event.id in self._open]
            now = time.monotonic()
            if now >= ends_at:
                raise self._late()
            if events or now >= beats_at:
                return events
            if self._gone is not None and self._gone():
                raise ClientGone("the client has left")

    def _pause(self, seconds: float) -> None:
        """Wait for `seconds`. Raises ClientGone, DeadlineExceeded and Drained."""
        ends = time.monotonic() + seconds
        while (now := time.monotonic()) < ends:
            self._inbox.due_at = min(self._ends_at, drain.ends_at, ends)
            if now >= min(self._ends_at, drain.ends_at):
                raise self._late()
            self._inbox.get(ends - now)
            if self._gone is not None and self._gone():
                raise ClientGone("the client has left")

    def _late(self) -> ServiceError:
        if drain.ends_at < self._ends_at:
            return Drained.by(GoingDown())
        return DeadlineExceeded(f"the request was not done within the {self._client.deadline:g} s that it may take")


class Stream(Exchange):
    """The answers to requests of one model. Iterating `batches` runs them; `close` cancels, once, what has not ended.

    The answers are counted through: those of the second request follow those of the first in their `index`.
    """

    def __init__(self, client: Client, requests: list[Request], presence: Presence, keep_alive: float | None) -> None:
        super().__init__(client, presence, requests[0].caller.name)
        self._model = requests[0].model
        self._inbox.request_id = requests[0].request_id
        self._submits = [Submit(next(_ids), request) for request in requests]
        counts = [request.n for request in requests]
        self._first = {submit.id: sum(counts[:place]) for place, submit in enumerate(self._submits)}
        self._keep_alive = keep_alive
        self._moves = Moves(self._submits, client.moves)
        # The events of a moved answer bear the id of its first Submit.
        self._origin: dict[int, int] = {}

    @property
    def moves(self) -> int:
        """How often the stream has continued on another engine."""
        return self._moves.count

    def batches(self) -> Iterator[list[Event]]:
        """Located, deltas and a Finished for each answer, or one Rendered; an empty batch when the heartbeat is due.

        Ends after the last of these or raises a ServiceError, never both and never neither.
        """
        try:
            yield from self.locate(self._model, self._keep_alive, submits=len(self._submits))
            failed = self._submit(self._submits)
            while self._open or failed is not None:
                if failed is not None:
                    yield from self._move(failed)
                    failed = self._submit(self._rest())
                    continue
                events = self._wait()
                failed = self._take(events)
                if events or failed is None:
                    yield events
        finally:
            self.close()

    def _submit(self, submits: list[Submit]) -> Failed | None:
        """Send the Submits to where the model has been located; return the failure where nobody is there any more."""
        assert self.location is not None
        for submit in submits:
            submit.defaults = self.location.defaults
        try:
            self._ask(self._client.connection(self.location.socket), *submits)
        except EngineGone as error:
            return Failed.of(self._inbox.id, error)
        return None

    def _rest(self) -> list[Submit]:
        """Return a Submit for each answer that has not ended."""
        submits = []
        for index, answer in self._moves.left():
            submit = Submit(next(_ids), answer.rest())
            self._first[submit.id] = index
            self._origin[submit.id] = answer.submit
            submits.append(submit)
        return submits

    def _move(self, failed: Failed) -> Iterator[list[Event]]:
        """Empty batches until the model is located on another engine. Raises the failure where that may not be."""
        assert self.location is not None
        if drain.begun:
            raise failed.error()
        self._moves.begin(failed, self.location.socket)
        logger.warning("request %s moves to another engine: %s", self._inbox.request_id, failed.message)
        self._give_up()
        waits_until = time.monotonic() + HOST_SECONDS
        while True:
            try:
                for events in self.locate(self._model, self._keep_alive, len(self._moves.left()), self._moves.lost):
                    # The client has been told of the first engine's load.
                    if not events:
                        yield events
                return
            except (EngineGone, GoingDown):
                # The engine host itself has exited, and another one is about to start.
                self._answered()
                if time.monotonic() > waits_until or drain.begun:
                    raise
            self._pause(HOST_PAUSE_SECONDS)
            yield []

    def _take(self, events: list[Event]) -> Failed | None:
        """Count the answers through, up to the end of the last one or to a failure, and drop what follows."""
        for place, event in enumerate(events):
            if isinstance(event, Failed):
                self._answered(event.id)
                del events[place:]
                return event
            if isinstance(event, Delta | Finished):
                event.index += self._first[event.id]
                self._moves.add(event)
            if isinstance(event, Finished | Rendered):
                self._open[event.id] -= 1
                if not self._open[event.id]:
                    self._answered(event.id)
            event.id = self._origin.get(event.id, event.id)
            if not self._open:
                # An engine process that ends right after its last answer has not failed that one.
                del events[place + 1 :]
        return None


class Job(Exchange):
    """A pull or a creation. Iterating `batches` runs it; `close` gives it up, once, unless it has ended."""

    def __init__(self, client: Client, command: Callable[[int], Command], presence: Presence) -> None:
        super().__init__(client, presence)
        # A model of many gigabytes comes when it comes.
        self._ends_at = math.inf
        self._command = command

    def batches(self) -> Iterator[list[Event]]:
        """Progress, and Done at the end; an empty batch each time the heartbeat is due. Raises ServiceError."""
        try:
            self._ask(self._client.control(), self._command(self._inbox.id))
            while self._open:
                events = self._wait()
                last = events[-1] if events else None
                if isinstance(last, Done | Failed):
                    self._answered()
                if isinstance(last, Failed):
                    if events[:-1]:
                        yield events[:-1]
                    raise last.error()
                yield events
        finally:
            self.close()
