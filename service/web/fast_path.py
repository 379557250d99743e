"""The way of a token from the queue to the client's socket without a wake-up of the stream's own greenlet.

In: deltas, from the greenlet that reads the queue. Out: their bytes, written where the web server allows it. A stream
has a fast path only where nothing stands between its response and the socket: see `StreamedPieces`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Optional, Protocol

from flask import Response

from ..engine_client.stream import Stream
from ..errors import ClientGone
from ..protocol.events import Delta, Event
from ..telemetry.request_stats import RequestStats


class ClientSink(Protocol):
    """The client's socket, for whole pieces of the response's body."""

    def send(self, piece: bytes) -> bytes:
        """Send without blocking, and return the rest that the socket did not take, framed. Raises OSError."""
        ...

    def finish(self, rest: bytes) -> None:
        """Send such a rest, and wait until the socket has taken it. Raises OSError."""
        ...


class StreamFastPath:
    """Writes the deltas of one stream, with the same steps that its own greenlet would take for them.

    `frames` returns the bytes for a list of events, or none.
    """

    def __init__(self, stream: Stream, stats: RequestStats, frames: Callable[[list[Event]], bytes]) -> None:
        self._stream = stream
        self._stats = stats
        self._frames = frames
        self._sink: Optional[ClientSink] = None
        self._rest = b""
        self._error: Optional[Exception] = None

    def open(self, sink: ClientSink) -> None:
        """Write to this socket from now on, whenever the stream waits for events."""
        self._sink = sink
        self._stream.use(self)

    def take(self, delta: Delta) -> bool:
        """Write a delta. Return False when the stream's own greenlet has to wait for the socket, or to raise."""
        assert self._sink is not None
        try:
            events = self._stream.passed(delta)
            self._stats.add(events)
            piece = self._frames(events)
            if piece:
                self._rest = self._sink.send(piece)
        except Exception as error:
            self._error = error
        return not self._rest and self._error is None

    def settle(self) -> None:
        """Send the rest of the last piece. Raises ClientGone, and whatever `take` met."""
        rest, error, self._rest, self._error = self._rest, self._error, b"", None
        try:
            if error is not None:
                raise error
            if rest and self._sink is not None:
                self._sink.finish(rest)
        except OSError:
            raise ClientGone("the client has disconnected") from None


class StreamedPieces:
    """The body of a response, as WSGI wants it, and the fast path past it for a server that knows of it.

    A middleware or a hook that changes the pieces puts an iterable of its own in the place of this one. The server then
    finds no fast path, and all pieces go through the middleware.
    """

    def __init__(self, pieces: Iterable[bytes], path: StreamFastPath) -> None:
        self._pieces = pieces
        self.path = path

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)

    def close(self) -> None:
        """End the stream."""
        close: Callable[[], None] = getattr(self._pieces, "close", lambda: None)
        close()


class FastResponse(Response):
    """A streamed response which may have a fast path."""

    _chunks: Any = None
    _path: Optional[StreamFastPath] = None

    def let_pass(self, path: StreamFastPath) -> None:
        """Offer the fast path to the server."""
        self._chunks, self._path = self.response, path

    def get_app_iter(self, environ: Any) -> Iterable[bytes]:
        """Return the body. A hook that has replaced `response` gets every piece."""
        pieces = super().get_app_iter(environ)
        is_own = self._path is not None and self.response is self._chunks
        return StreamedPieces(pieces, self._path) if is_own and self._path is not None else pieces
