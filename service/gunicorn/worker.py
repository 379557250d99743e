"""gunicorn's gevent worker, with three of its edges taken off.

A load balancer keeps connections open for its next request. gunicorn's gthread worker closes such ones when it is told
to end; its gevent worker (27.0) waits for their `keepalive` to run out, and the master with it. A request that is no
HTTP never reaches the application; gunicorn answers it with a page, this worker in JSON. And gunicorn waits for ever
for a TLS handshake and for a body, and as long as for the next request for the rest of a header; here each has a time
of its own.
"""

from __future__ import annotations

import math
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Any

import gevent.socket
from gevent import Greenlet, Timeout
from gevent.local import local
from gevent.server import StreamServer
from gunicorn import util
from gunicorn.http.message import Message
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers import ggevent
from gunicorn.workers.ggevent import GeventWorker

from ..config import Settings
from ..drain import drain
from ..web.framing import encode

LOOK_SECONDS = 0.2
# A connection without a request is idle after so long; before that one may be under way. Until gunicorn stops to
# accept, within a second of SIGTERM, such connections still come.
IDLE_SECONDS = 2.0
# A body that is slower than this for long is no honest one: a modem has seven times as much.
BYTES_PER_SECOND = 1000


class Arrival:
    """The requests of one connection as they come in, and until when the one that comes may take."""

    def __init__(self, client: Any, settings: Settings) -> None:
        self.client = client
        self._header_seconds = settings.header_timeout or math.inf
        self._body_seconds = settings.body_timeout or math.inf
        self._due = math.inf
        self._waits_since = math.inf
        self._begins = self._in_body = False

    def begin_header(self) -> None:
        """Its time counts from the first byte: until then the connection is idle."""
        self._waits_since = time.monotonic()
        self._due, self._begins, self._in_body = math.inf, True, False

    def idle(self) -> bool:
        """Whether it has waited for a request for a while."""
        return time.monotonic() - self._waits_since > IDLE_SECONDS

    def begin_body(self) -> None:
        self._due, self._begins, self._in_body = time.monotonic() + self._body_seconds, False, True

    def receive(self, size: int) -> bytes:
        """Up to `size` bytes. Raises TimeoutError."""
        left = self._due - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.client.settimeout(None if math.isinf(left) else left)
        try:
            data: bytes = self.client.recv(size)
        finally:
            self.client.settimeout(None)
        if self._begins:
            self._due, self._begins = time.monotonic() + self._header_seconds, False
        if self._in_body:
            self._due += len(data) / BYTES_PER_SECOND
        return data


class Listener(StreamServer):  # type: ignore[misc]
    """Leaves TLS' handshake to the worker: gevent waits for it for ever, and logs a trace where it fails."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self.ssl_enabled:
            self.ssl_args["do_handshake_on_connect"] = False


class WebWorker(GeventWorker):  # type: ignore[misc]
    """Set `worker_class = "service.gunicorn.worker.WebWorker"`."""

    def init_process(self) -> None:
        self._settings = Settings.from_env()
        self._waiting: dict[Timeout, tuple[Greenlet, Arrival]] = {}
        # Each connection has a greenlet of its own.
        self._own = local()
        util.write_error = write_json_error
        util.write, util.write_chunk = write, write_chunk
        Message.should_close = should_close
        SocketUnreader.chunk = lambda unreader, size=None: self._own.arrival.receive(_chunk_size(unreader, size))
        ggevent.StreamServer = Listener
        super().init_process()

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        self._own.arrival = Arrival(client, self._settings)
        if not isinstance(client, ssl.SSLSocket) or self._shakes_hands(client):
            super().handle(listener, client, addr)

    def _shakes_hands(self, client: ssl.SSLSocket) -> bool:
        """Whether it speaks TLS, within a header's time."""
        arrival, done = self._own.arrival, False
        arrival.begin_header()
        with Timeout(self._settings.header_timeout or None, False) as timeout:
            self._waiting[timeout] = gevent.getcurrent(), arrival
            try:
                client.do_handshake()
                done = True
            except OSError as error:
                self.log.debug("no TLS: %s", error)
            finally:
                del self._waiting[timeout]
        return done

    @contextmanager
    def timeout_ctx(self) -> Iterator[None]:
        """Around the wait for a connection's next request, header and all; at a time-out the connection is closed."""
        arrival = self._own.arrival
        arrival.begin_header()
        with Timeout(self.cfg.keepalive, False) as timeout:
            self._waiting[timeout] = gevent.getcurrent(), arrival
            try:
                yield
                arrival.begin_body()
            except TimeoutError:
                write_json_error(arrival.client, 408, "", "the request came too slowly")
            finally:
                del self._waiting[timeout]

    def handle_request(self, *request: Any) -> None:
        """Of a connection that breaks gunicorn logs a trace, unless the client closed it in so many words."""
        try:
            super().handle_request(*request)
        except OSError as error:
            self.log.debug("the connection broke: %s", error)
            raise StopIteration from None

    def handle_exit(self, sig: int, frame: object) -> None:
        """SIGTERM: answers go on to their end, waits for the next request end now."""
        super().handle_exit(sig, frame)
        # gunicorn counts from about now, and says nothing to whom it cuts.
        drain.begin(self.cfg.graceful_timeout)
        gevent.spawn(self._close_idle)

    def _close_idle(self) -> None:
        while True:
            for timeout in list(self._waiting):
                gevent.get_hub().loop.run_callback(self._end_wait, timeout)
            gevent.sleep(LOOK_SECONDS)

    def _end_wait(self, timeout: Timeout) -> None:
        """In the hub; unless the request has come since, which the time-out must not hit."""
        waiting = self._waiting.get(timeout)
        if waiting is None:
            return
        greenlet, arrival = waiting
        if arrival.idle():
            greenlet.throw(timeout)


def write(sock: Any, data: bytes, chunked: bool = False) -> None:
    """In place of gunicorn's `util.write`: the system is asked once, and gevent only for what it did not take.

    gevent's `sendall` asks for the size of the send buffer first, each time. A TLS socket is left to it.
    """
    if chunked:
        data = b"%X\r\n%b\r\n" % (len(data), data)
    sent = 0
    if type(sock) is gevent.socket.socket:
        with suppress(BlockingIOError):
            sent = sock._sock.send(data)
    if sent < len(data):
        sock.sendall(memoryview(data)[sent:])


def write_chunk(sock: Any, data: bytes) -> None:
    """In place of gunicorn's `util.write_chunk`, which ends an answer with an empty one."""
    write(sock, data, chunked=True)


_wants_to_close = Message.should_close


def should_close(request: Message) -> bool:
    """In place of gunicorn's own, which promises to keep a connection that it closes after a body it can't read."""
    return bool(_wants_to_close(request) or (request.body and request.body.failed))


def _chunk_size(unreader: SocketUnreader, wanted: int | None) -> int:
    """What gunicorn's own would ask for."""
    size: int = max(unreader.mxchunk, min(wanted or 0, unreader.max_body_chunk))
    return size


def write_json_error(sock: Any, status_int: int, _: str, mesg: str) -> None:
    """In place of gunicorn's `util.write_error`, which every refusal of its HTTP parser goes through.

    gunicorn calls a 501 a Bad Request, so its own reason is left out. Who takes nothing is told nothing.
    """
    reason = HTTPStatus(status_int).phrase
    body = encode({"error": f"{status_int} {reason.lower()}" + (f": {mesg}" if mesg else "")})
    head = f"HTTP/1.1 {status_int} {reason}\r\nConnection: close\r\nContent-Type: application/json; charset=utf-8\r\n"
    with suppress(OSError):
        util.write_nonblock(sock, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
