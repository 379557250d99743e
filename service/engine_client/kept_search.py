"""Finds the engine worker that keeps a stream, and follows the stream there.

A stream moves when its engine dies, so its id can't name an engine worker. Every engine worker is asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from ..drain import drain
from ..errors import (
    DeadlineExceeded,
    Drained,
    EngineGone,
    ResponseNotFound,
    StreamGone,
    TooManyRequests,
    Unavailable,
)
from ..protocol.commands import Command, ListLoaded, Measure
from ..protocol.events import Delta, Done, Event, Failed, Finished, Head, KeptStreams, Loaded, Located, Measured
from ..protocol.kept import Attach, EndStream, KeptState, ListStreams
from ..protocol.model_info import EngineState
from .connections import RETRY_AFTER_SECONDS, Connections, new_id
from .cursor import Cursor, Replay
from .disconnect import Presence
from .exchange import E, Exchange, Times, expect

# How long a stream may be on its way from a dead engine to the next. Seconds.
AWAY_SECONDS = 120.0
# How long all engines have to be well before a stream that none of them keeps is given up: its web worker may be about
# to send it to the next engine.
SETTLED_SECONDS = 1.0
PAUSE_SECONDS = 0.2
# How long a client waits for the head of such a stream before it gets a 503.
OPEN_SECONDS = 20.0

_LOST = ("EngineGone", "Drained")
_AWAY = (EngineState.LOADING, EngineState.RESTARTING)


def stream_not_found() -> ResponseNotFound:
    """Return the error for a stream that does not exist, or belongs to another key."""
    return ResponseNotFound("stream not found")


def stream_gone() -> StreamGone:
    """Return the error for a stream of the caller's own that no engine keeps any more."""
    return StreamGone(
        "the stream is not kept any more: it was deleted, its time is over, "
        "or the engine and the web worker that had it have exited"
    )


class KeptSearch(Exchange):
    """Asks every engine worker for one stream of an owner, and waits for one that may be on its way."""

    def __init__(self, connections: Connections, times: Times, presence: Presence, settles: float | None) -> None:
        """A stream is given up once all engines have been well for `settles` seconds; None: each is asked once."""
        super().__init__(connections, times, presence)
        self._settles = settles
        self._arrived: list[Event] = []

    def everywhere(self, command: Callable[[int], Command]) -> Iterator[Event]:
        """Yield the first event of each engine worker's answer, and a Failed where it can't be reached."""
        known = self._connections.engines()
        for path in known:
            yield self._first(path, command)
        for path in self._sockets():
            if path not in known:
                yield self._first(path, command)

    def search(self, command: Callable[[int], Command]) -> Iterator[Event | None]:
        """Yield None while the search goes on, and at last the first event of the engine worker that has the stream.

        Raises ResponseNotFound, and TooManyRequests where the stream has too many readers.
        """
        began, well_since = time.monotonic(), None
        while True:
            is_away = False
            for event in self.everywhere(command):
                if not isinstance(event, Failed):
                    yield event
                    return
                if event.kind == TooManyRequests.__name__:
                    raise event.error()
                is_away = is_away or event.kind in _LOST
            now = time.monotonic()
            if self._settles is None or drain.begun or now - began > AWAY_SECONDS:
                raise stream_not_found()
            if is_away or not self._is_settled():
                well_since = None
            elif well_since is None:
                well_since = now
            elif now - well_since >= self._settles:
                raise stream_not_found()
            yield None
            self._pause(PAUSE_SECONDS)

    def _first(self, path: str, command: Callable[[int], Command]) -> Event:
        """Return the first event of an answer; the others of the same batch stay in `_arrived`."""
        try:
            self._ask(self._connections.connection(path), command(new_id()))
            events = self._wait()
        except (DeadlineExceeded, Drained):
            raise
        except EngineGone as error:
            self._answered()
            return Failed.of(0, error)
        if not events:
            self._cancel()
            return Failed.of(0, EngineGone("the engine does not answer"))
        if isinstance(events[0], (Failed, Done, KeptStreams)):
            self._answered()
        self._arrived = events[1:]
        return events[0]

    def _sockets(self) -> list[str]:
        """Return the data sockets of all engine workers that listen; none while the engine host is away."""
        try:
            return self._asked_host(Measure(new_id()), Measured).sockets
        except Unavailable:
            return []

    def _is_settled(self) -> bool:
        """Return whether no model is being loaded or started again."""
        try:
            return not any(each.state in _AWAY for each in self._asked_host(ListLoaded(new_id()), Loaded).models)
        except Unavailable:
            return False

    def _asked_host(self, command: Command, kind: type[E]) -> E:
        self._ask(self._connections.control(), command)
        events = self._wait()
        self._answered()
        if not events:
            raise EngineGone("the engine host does not answer")
        return expect(events[0], kind)


class AttachedStream(KeptSearch):
    """A kept stream, read by one client. `open` finds it, iterating `batches` reads it, `close` ends the reading."""

    def __init__(
        self,
        connections: Connections,
        times: Times,
        presence: Presence,
        stream: str,
        owner: str,
        settles: float | None,
    ) -> None:
        super().__init__(connections, times, presence, settles)
        self._stream = stream
        self._owner = owner
        # The part that has been passed on, in case the stream moves.
        self._passed = Cursor(stream)
        self._replay = Replay(self._passed)
        self._head = Head(0, b"", 0, 0, 0, False, "")
        self._ended: set[int] = set()
        self._follows = True

    @property
    def head(self) -> Head:
        return self._head

    def open(self, follow: bool = True) -> Head:
        """Return the stream's Head. Without `follow` the batches end with what there is.

        Raises ResponseNotFound, and Unavailable while the stream is on its way to another engine.
        """
        self._follows = follow
        ends = time.monotonic() + OPEN_SECONDS
        for found in self.search(self._attach):
            if found is not None:
                self._head = expect(found, Head)
            elif time.monotonic() > ends:
                raise EngineGone("the stream is on its way to another engine", RETRY_AFTER_SECONDS)
        return self._head

    def batches(self) -> Iterator[list[Event]]:
        """Yield the events from the stream's beginning; an empty batch for a heartbeat.

        Ends after the last Finished, or raises a ServiceError, as a Stream does.
        """
        try:
            yield [Located(0, "", self._head.load_ns)]
            events = self._arrived
            while True:
                failed = next((event for event in events if isinstance(event, Failed)), None)
                done = any(isinstance(event, Done) for event in events)
                if followed := [each for event in events for each in self._followed(event)]:
                    yield followed
                if done or len(self._ended) == self._head.answers:
                    self._answered()
                    return
                if failed is not None:
                    yield from self._find_again(failed)
                    events = self._arrived
                elif not (events := self._wait()):
                    yield []
        finally:
            self.close()

    def _attach(self, id: int) -> Attach:
        return Attach(id, self._stream, self._owner, self._follows)

    def _followed(self, event: Event) -> Iterator[Event]:
        """Yield the new part of an event. After a move the stream is sent from its beginning again."""
        if isinstance(event, Finished) and event.index not in self._ended:
            self._ended.add(event.index)
            yield event
        if isinstance(event, Delta):
            _, rest = self._replay.split(event)
            if rest is not None:
                self._passed.add(rest)
                yield rest

    def _find_again(self, failed: Failed) -> Iterator[list[Event]]:
        """Yield empty batches until another engine has the stream. Raises an error that has ended the stream.

        A client that does not follow the stream can ask again, and gets Unavailable after a while.
        """
        self._answered()
        if failed.kind not in _LOST:
            raise failed.error()
        beats_at = time.monotonic() + self._times.heartbeat
        self._replay = Replay(self._passed)
        # An engine worker that ends still has the stream for a while.
        self._pause(PAUSE_SECONDS)
        try:
            if not self._follows:
                self.open(follow=False)
                return
            for found in self.search(self._attach):
                if found is None and time.monotonic() >= beats_at:
                    beats_at += self._times.heartbeat
                    yield []
        except ResponseNotFound:
            raise stream_gone() from None


def end_stream(search: KeptSearch, stream: str, owner: str, forget: bool) -> None:
    """End a stream, and with `forget` keep it no longer. Raises ResponseNotFound."""
    with search:
        for _ in search.search(lambda id: EndStream(id, stream, owner, forget=forget)):
            pass


def list_streams(search: KeptSearch, owner: str) -> list[KeptState]:
    """Return an owner's streams in every engine worker that answers."""
    with search:
        answers = list(search.everywhere(lambda id: ListStreams(id, owner)))
    return [state for answer in answers if isinstance(answer, KeptStreams) for state in answer.streams]
