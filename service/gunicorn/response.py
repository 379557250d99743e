"""How responses are written: the head with the first piece of the body, and the tokens of a stream past its greenlet.

In: the pieces of a body, from gunicorn or from a stream's fast path. Out: bytes on the client's socket.
It never knows what the bytes mean.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import gevent.socket
from gunicorn.http import wsgi
from gunicorn.http.wsgi import Response

from ..web.fast_path import StreamedPieces


class WebResponse(Response):  # type: ignore[misc]
    """Sends the head together with the first piece of the body, or with the end. gunicorn sends it on its own."""

    headers_sent: bool
    _head = b""

    def send_headers(self) -> None:
        """Prepare the head. It is sent before whatever follows."""
        if not self.headers_sent:
            lines = [*self.default_headers(), *(f"{name}: {value}\r\n" for name, value in self.headers), "\r\n"]
            self._head = "".join(lines).encode("latin-1")
            self.headers_sent = True

    def write(self, arg: bytes) -> None:
        super().write(arg)
        # There may have been no body to send.
        self._send_head()

    def sendfile(self, respiter: Any) -> bool:
        self.send_headers()
        self._send_head()
        return bool(super().sendfile(respiter))

    def close(self) -> None:
        self.send_headers()
        if self.chunked:
            self._emit_body(b"")
        self._send_head()

    def _emit_body(self, data: bytes) -> None:
        head, self._head = self._head, b""
        write(self.sock, head + _chunk(data) if self.chunked else head + data)

    def _send_head(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            write(self.sock, head)


def use_our_responses() -> None:
    """Have gunicorn write with WebResponse, where its own class has the one place for bodies that WebResponse extends.

    It has since 27.0.
    """
    if hasattr(Response, "_emit_body"):
        wsgi.Response = WebResponse


class ResponseSink:
    """The socket of a response whose body is chunked and whose header has been sent."""

    def __init__(self, response: Response) -> None:
        self._response = response
        self._socket = response.sock

    def send(self, piece: bytes) -> bytes:
        """Send a chunk without blocking, and return the rest that the socket did not take. Raises OSError."""
        # For the access log.
        self._response.sent += len(piece)
        chunk = _chunk(piece)
        try:
            return chunk[self._socket._sock.send(chunk) :]
        except BlockingIOError:
            return chunk

    def finish(self, rest: bytes) -> None:
        """Wait until the socket has taken the rest. Raises OSError."""
        self._socket.sendall(rest)


def open_fast_paths(application: Any) -> Any:
    """Return the WSGI application, with the fast path of each stream opened whose response nothing has wrapped."""

    def call(environ: dict[str, Any], start_response: Any) -> Any:
        pieces = application(environ, start_response)
        response = getattr(start_response, "__self__", None)
        if type(pieces) is StreamedPieces and type(response) in (WebResponse, Response) and _writes_chunks(response):
            pieces.path.open(ResponseSink(response))
        return pieces

    return call


def _writes_chunks(response: Any) -> bool:
    return bool(response.chunked) and type(response.sock) is gevent.socket.socket


def write(sock: Any, data: bytes, chunked: bool = False) -> None:
    """Write all of `data`; replaces gunicorn's `util.write`.

    The system is asked once, and gevent's `sendall` only for the rest: it asks for the size of the send buffer first,
    each time. TLS sockets are left to `sendall`.
    """
    if chunked:
        data = _chunk(data)
    sent = 0
    if type(sock) is gevent.socket.socket:
        with suppress(BlockingIOError):
            sent = sock._sock.send(data)
    if sent < len(data):
        sock.sendall(memoryview(data)[sent:])


def write_chunk(sock: Any, data: bytes) -> None:
    """Write one chunk, or the last one when `data` is empty; replaces gunicorn's `util.write_chunk`."""
    write(sock, data, chunked=True)


def _chunk(data: bytes) -> bytes:
    return b"%X\r\n%b\r\n" % (len(data), data)
