"""The steps of one request with the engine: locate the model, submit, read events, cancel.

In: the connections, and the presence of the client whose request it is. Out: batches of events, or a ServiceError.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from ..drain import drain
from ..errors import ClientGone, DeadlineExceeded, Drained, EngineGone, GoingDown, ServiceError
from ..protocol.commands import Cancel, Command, Embed, Locate, Submit
from ..protocol.events import Done, Event, Failed, Located, Vectors
from ..protocol.request import EmbedRequest, Struct
from .connections import Connection, Connections, new_id
from .disconnect import POLL_SECONDS, Presence
from .inbox import Inbox

E = TypeVar("E", bound=Struct)


@dataclass(frozen=True)
class Times:
    """After `heartbeat` seconds without an event a batch is empty; after `deadline` seconds a request fails."""

    heartbeat: float
    deadline: float = math.inf


def expect(event: Event, kind: type[E]) -> E:
    """Return the event when it is of this kind. Raises the error of a Failed, and EngineGone for another kind."""
    if isinstance(event, Failed):
        raise event.error()
    if not isinstance(event, kind):
        raise EngineGone(f"the engine answered {type(event).__name__} instead of {kind.__name__}")
    return event


class Exchange:
    """One step after the other of one request, whose client may disconnect meanwhile."""

    def __init__(self, connections: Connections, times: Times, presence: Presence, caller: str = "") -> None:
        """`caller` is the name of the key that the request has; empty when the command needs none."""
        self._connections = connections
        self._times = times
        self._caller = caller
        self._inbox = Inbox(new_id())
        self._asked: Connection | None = None
        # How many answers each command still has to bring.
        self._open: dict[int, int] = {}
        self.location: Located | None = None
        self._ends_at = time.monotonic() + times.deadline
        self._gone = presence.gone
        # The longest wait in seconds. After it the client is asked for, and the heartbeat may be due.
        self._longest_wait = min(times.heartbeat, math.inf if self._gone is None else POLL_SECONDS)
        self._inbox.due_at = min(self._ends_at, time.monotonic() + self._longest_wait)
        connections.timer().add(self._inbox)
        self._fd = -1 if presence.fileno is None else presence.fileno()
        if self._fd >= 0:
            self._watch_client()

    def _watch_client(self) -> None:
        try:
            self._connections.watch().add(self._fd, self._inbox.client_left)
        except OSError:
            # The socket was closed meanwhile.
            self._fd = -1
            self._inbox.client_left()

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what has not ended yet. Idempotent."""
        self._inbox.fast_path = None
        self._cancel()
        self._stop_watching()

    def _stop_watching(self) -> None:
        if self._fd >= 0:
            self._connections.watch().remove(self._fd, self._inbox.client_left)
            self._fd = -1

    def _forget_client(self) -> None:
        """Continue without the client, whether it has disconnected or not."""
        self._stop_watching()
        self._inbox.fast_path = None
        self._gone = None
        self._longest_wait = self._times.heartbeat
        self._inbox.client_forgotten()

    def locate(
        self, model: str, keep_alive: float | None, submits: int, lost: list[str] | None = None, beginning: str = ""
    ) -> Iterator[list[Event]]:
        """Yield empty batches while the model loads, then one with its Located, which becomes the `location`.

        While an engine host on another machine can't be reached, the model is where it was last.
        """
        command = Locate(self._inbox.id, model, keep_alive, submits, self._caller, lost or [], beginning)
        if not self._locate_without_host(command):
            try:
                yield from self._ask_host(command)
            except EngineGone:
                self._answered()
                if not self._locate_without_host(command):
                    raise
        assert self.location is not None
        yield [self.location]

    def _locate_without_host(self, command: Locate) -> bool:
        """Return whether the host can't be reached, and set `location` to the model's last known one."""
        locations = self._connections.locations()
        if not locations.is_host_away:
            return False
        return self._is_at(locations.last(command.model, command.lost))

    def _is_at(self, known: Located | None) -> bool:
        """Set `location` to a known one. Return whether there is one."""
        if known is not None:
            self.location = msgspec.structs.replace(known, id=self._inbox.id, load_ns=0)
        return known is not None

    def _ask_host(self, command: Locate) -> Iterator[list[Event]]:
        """Yield empty batches until the host has answered with the `location`."""
        locations = self._connections.locations()
        locations.begin_question(command.model)
        try:
            self._ask(self._connections.control(), command)
            while not (events := self._wait()):
                yield []
            self._answered()
            self.location = expect(events[0], Located)
            locations.add(command.model, self.location)
        finally:
            locations.end_question(command.model)

    def located(self, model: str, keep_alive: float | None, submits: int) -> Located:
        """Wait until the model is loaded, up to the deadline."""
        deque(self.locate(model, keep_alive, submits), maxlen=0)
        assert self.location is not None
        return self.location

    def embed(self, request: EmbedRequest) -> Vectors:
        """Wait for the vectors of every input, from the engine where the model has been located."""
        assert self.location is not None
        answer = Vectors(self._inbox.id, [], 0)
        self._ask(self._connections.connection(self.location.socket), Embed(self._inbox.id, request))
        while len(answer.vectors) < len(request.inputs):
            for event in self._wait():
                if isinstance(event, Failed):
                    self._answered()
                part = expect(event, Vectors)
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
        """Expect nothing more of these commands, or of all of them; none of them is cancelled any more."""
        for command in commands or list(self._open):
            self._open.pop(command, None)
            if self._asked is not None:
                self._asked.forget(command)

    def _cancel(self) -> None:
        left = list(self._open)
        self._answered()
        if self._asked is not None:
            with contextlib.suppress(ServiceError):
                for command in left:
                    self._asked.send(Cancel(command))

    def _wait(self) -> list[Event]:
        """Return the next events, or none when the heartbeat is due. Raises ClientGone, DeadlineExceeded, Drained."""
        now = time.monotonic()
        beats_at = now + self._times.heartbeat
        while True:
            ends_at = min(self._ends_at, drain.ends_at)
            self._inbox.due_at = min(ends_at, beats_at, now + self._longest_wait)
            # Messages that a lost engine's connection still brings belong to no open command.
            events = [] if now >= ends_at else [event for event in self._inbox.get() if event.id in self._open]
            now = time.monotonic()
            if now >= ends_at:
                raise self._late()
            beats_at = max(beats_at, self._inbox.passed_at + self._times.heartbeat)
            if events or now >= beats_at:
                return events
            if self._gone is not None and self._gone():
                raise ClientGone("the client has disconnected")

    def _pause(self, seconds: float) -> None:
        """Wait for `seconds`. Raises ClientGone, DeadlineExceeded and Drained."""
        ends = time.monotonic() + seconds
        while (now := time.monotonic()) < ends:
            last = min(self._ends_at, drain.ends_at)
            if now >= last:
                raise self._late()
            self._inbox.due_at = min(last, ends)
            self._inbox.get(ends - now)
            if self._gone is not None and self._gone():
                raise ClientGone("the client has disconnected")

    def _late(self) -> ServiceError:
        if drain.ends_at < self._ends_at:
            return Drained.by(GoingDown())
        return DeadlineExceeded(f"the request was not done within the {self._times.deadline:g} s that it may take")


class Job(Exchange):
    """A pull or a creation. Iterating `batches` runs it; `close` cancels it, once, unless it has ended."""

    def __init__(
        self, connections: Connections, times: Times, presence: Presence, command: Callable[[int], Command]
    ) -> None:
        super().__init__(connections, times, presence)
        # No deadline: a model of many gigabytes takes hours on a slow line.
        self._ends_at = math.inf
        self._command = command

    def batches(self) -> Iterator[list[Event]]:
        """Yield Progress, and Done at the end; an empty batch for a heartbeat. Raises ServiceError."""
        try:
            self._ask(self._connections.control(), self._command(self._inbox.id))
            while self._open:
                events = self._wait()
                last = events[-1] if events else None
                if isinstance(last, (Done, Failed)):
                    self._answered()
                if isinstance(last, Failed):
                    if events[:-1]:
                        yield events[:-1]
                    raise last.error()
                yield events
        finally:
            self.close()
