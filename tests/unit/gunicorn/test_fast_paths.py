"""Which streams the gevent worker gives a fast path, and how it writes to their sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gevent.socket
from flask import Flask, Response
from gunicorn.http.wsgi import Response as GunicornResponse

from service.gunicorn.response import ResponseSink, open_fast_paths
from service.web.fast_path import StreamFastPath
from service.web.neighbours import uncollected


class Gunicorn:
    """What gunicorn's worker hands to the application, for a client that speaks this version of HTTP."""

    def __init__(self, chunked: bool = True) -> None:
        self.response = GunicornResponse.__new__(GunicornResponse)
        self.response.chunked = chunked
        self.response.sent = 0
        self.response.sock = gevent.socket.socket()
        self.response.status = None

    def fast_path(self, application: Callable[..., Any], start_response: Any = None) -> bool:
        """Whether a stream of the application gets one."""
        opened: list[ResponseSink] = []
        path = StreamFastPath.__new__(StreamFastPath)
        path.open = opened.append  # type: ignore[assignment,method-assign]
        app = Flask("app")

        @app.get("/")
        def view() -> Response:
            response = uncollected(app.response_class)(iter([b"a"]))
            response.let_pass(path)
            return response

        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/",
            "SERVER_NAME": "a",
            "SERVER_PORT": "1",
            "wsgi.url_scheme": "http",
        }
        call = open_fast_paths(application(app))
        self.response.start_response = lambda *_: None
        bound = type("Bound", (), {"__self__": self.response, "__call__": lambda *_: None})()
        pieces = call(environ, start_response or bound)
        assert b"".join(pieces) == b"a"
        self.response.sock.close()
        return bool(opened)


def with_hook(app: Flask) -> Flask:
    def wrap(response: Response) -> Response:
        pieces: Any = response.response
        response.response = (piece for piece in pieces)
        return response

    app.after_request(wrap)
    return app


def with_middleware(app: Flask) -> Callable[..., Iterator[bytes]]:
    def call(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        yield from app(environ, start_response)

    return call


def test_a_stream_has_a_fast_path_only_where_nothing_stands_between_it_and_the_socket():
    assert Gunicorn().fast_path(lambda app: app)
    assert not Gunicorn().fast_path(with_hook)
    assert not Gunicorn().fast_path(with_middleware)
    # HTTP/1.0 has no chunks, and a middleware may have put its own function in gunicorn's place.
    assert not Gunicorn(chunked=False).fast_path(lambda app: app)
    assert not Gunicorn().fast_path(lambda app: app, start_response=lambda *_: None)


def test_the_sink_writes_chunks_and_counts_them_for_the_access_log():
    ours, theirs = gevent.socket.socketpair()
    response = GunicornResponse.__new__(GunicornResponse)
    response.sock, response.sent = ours, 0
    sink = ResponseSink(response)
    assert sink.send(b"hello") == b""
    assert theirs.recv(100) == b"5\r\nhello\r\n"
    assert response.sent == 5
    # A client that does not read: the socket takes a part, or nothing.
    piece, sent = b"a" * 1000, b""
    while not (rest := sink.send(piece)):
        sent += b"3E8\r\n" + piece + b"\r\n"
    theirs.setblocking(False)
    received = b""
    while len(received) < len(sent) + len(b"3E8\r\n" + piece + b"\r\n") - len(rest):
        received += theirs.recv(1 << 20)
    assert received + rest == sent + b"3E8\r\n" + piece + b"\r\n"
    ours.close(), theirs.close()
