"""gunicorn's gevent worker, changed in seven ways.

1. At SIGTERM it closes the idle connections that a load balancer keeps for its next request. gunicorn's gthread worker
   does so too; its gevent worker (27.0) waits until their `keepalive` is over, and the master waits with it.
2. A request that is not valid HTTP never reaches the application. gunicorn answers with an HTML page, we with JSON.
3. A TLS handshake, a request header and a request body each have a time limit. gunicorn has none for the first and
   the last, and gives the rest of a header as long as it waits for the next request.
4. `request_rules.py` refuses what HTTP forbids and gunicorn accepts. Of a body that the application did not read, as
   after a 401, a few megabytes are taken; gunicorn would take all of it.
5. A stream's tokens are written from the greenlet that reads them from the queue, where nothing stands in between.
6. The head of a response is sent with the first piece of its body.
7. Before each request the hub has a turn. Else a burst would keep the streams' tokens, and its own, until all of its
   requests are submitted.

tests/unit/gunicorn/test_contract.py names each attribute of gunicorn and gevent that is replaced or extended here.
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
from gunicorn.http.body import Body
from gunicorn.http.message import Message, Request
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers import ggevent
from gunicorn.workers.ggevent import GeventWorker

from ..config import Settings
from ..drain import drain
from ..web.framing import encode
from .supported import refuse_old_gunicorn

refuse_old_gunicorn()

from .request_rules import DRAIN_SECONDS, drain_body, set_body_reader, should_close  # noqa: E402
from .response import open_fast_paths, use_our_responses, write, write_chunk  # noqa: E402

# How often idle connections are looked for during a shutdown.
LOOK_SECONDS = 0.2
# A connection without a request is idle after this time; before that its request may be on the way. gunicorn accepts
# new connections for up to a second after SIGTERM.
IDLE_SECONDS = 2.0
# A body that stays slower than this is meant to occupy the server: a modem is seven times as fast.
BYTES_PER_SECOND = 1000


class Arrival:
    """The requests of one connection as they come in, and the time limit for the current one."""

    def __init__(self, client: Any, settings: Settings) -> None:
        self.client = client
        self._header_seconds = settings.header_timeout or math.inf
        self._body_seconds = settings.body_timeout or math.inf
        self._due = math.inf
        self._waits_since = math.inf
        self._begins = self._in_body = False

    def begin_header(self) -> None:
        """Expect the next request. Its time counts from the first byte: until then the connection is idle."""
        self._waits_since = time.monotonic()
        self._due, self._begins, self._in_body = math.inf, True, False

    def idle(self) -> bool:
        """Return whether the connection has waited for a request for more than IDLE_SECONDS."""
        return time.monotonic() - self._waits_since > IDLE_SECONDS

    def begin_body(self) -> None:
        """Expect the body. Each 1,000 bytes that come in add a second."""
        self._due, self._begins, self._in_body = time.monotonic() + self._body_seconds, False, True

    def begin_drain(self) -> None:
        """Expect the rest of a body that the application did not read."""
        self._due, self._begins, self._in_body = time.monotonic() + DRAIN_SECONDS, False, False

    def receive(self, size: int) -> bytes:
        """Return up to `size` bytes. Raises TimeoutError."""
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
    """Leaves the TLS handshake to the worker: gevent has no time limit for it, and logs a trace when it fails."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self.ssl_enabled:
            self.ssl_args["do_handshake_on_connect"] = False


class WebWorker(GeventWorker):  # type: ignore[misc]
    """The worker class; `worker_class` in service/gunicorn/conf.py names it."""

    def init_process(self) -> None:
        self._settings = Settings.from_env()
        self._waiting: dict[Timeout, tuple[Greenlet, Arrival]] = {}
        # Each connection has a greenlet of its own.
        self._own = local()
        util.write_error = write_json_error
        util.write, util.write_chunk = write, write_chunk
        use_our_responses()
        Message.should_close = should_close
        Request.set_body_reader = set_body_reader
        SocketUnreader.chunk = lambda unreader, size=None: self._own.arrival.receive(_chunk_size(unreader, size))
        ggevent.StreamServer = Listener
        super().init_process()

    def load_wsgi(self) -> None:
        super().load_wsgi()
        self.wsgi: Any = open_fast_paths(self.wsgi)

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        self._own.arrival = Arrival(client, self._settings)
        if not isinstance(client, ssl.SSLSocket) or self._shakes_hands(client):
            super().handle(listener, client, addr)

    def _shakes_hands(self, client: ssl.SSLSocket) -> bool:
        """Return whether the TLS handshake succeeds within the time for a header."""
        arrival, done = self._own.arrival, False
        arrival.begin_header()
        with Timeout(self._settings.header_timeout or None, False) as timeout:
            self._waiting[timeout] = gevent.getcurrent(), arrival
            try:
                client.do_handshake()
                done = True
            except OSError as error:
                self.log.debug("the TLS handshake failed: %s", error)
            finally:
                del self._waiting[timeout]
        return done

    @contextmanager
    def timeout_ctx(self) -> Iterator[None]:
        """Wait for a connection's next request up to the end of its header; a time-out closes the connection."""
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
        """Answer a request, and take what the application left of its body.

        End a connection that breaks without gunicorn's trace, which it logs for some causes.
        """
        body = request[1].body
        # See 7. above.
        gevent.sleep(0)
        try:
            super().handle_request(*request)
        except StopIteration:
            # Closed with bytes unread, the connection would be reset, and the client could lose the answer.
            self._drain(body)
            raise
        except OSError as error:
            self.log.debug("the connection broke: %s", error)
            raise StopIteration from None
        if not self._drain(body):
            raise StopIteration

    def _drain(self, body: Body) -> bool:
        """Return whether the whole body has been read now."""
        self._own.arrival.begin_drain()
        return drain_body(body)

    def handle_exit(self, sig: int, frame: object) -> None:
        """At SIGTERM let running requests continue and end the waits for the next ones."""
        super().handle_exit(sig, frame)
        # gunicorn cuts streams after this time, counted from about now, without an error record.
        drain.begin(self.cfg.graceful_timeout)
        gevent.spawn(self._close_idle)

    def _close_idle(self) -> None:
        while True:
            for timeout in list(self._waiting):
                gevent.get_hub().loop.run_callback(self._end_wait, timeout)
            gevent.sleep(LOOK_SECONDS)

    def _end_wait(self, timeout: Timeout) -> None:
        """End a wait, unless its request has come in since. Runs in the hub."""
        waiting = self._waiting.get(timeout)
        if waiting is None:
            return
        greenlet, arrival = waiting
        if arrival.idle():
            greenlet.throw(timeout)


def _chunk_size(unreader: SocketUnreader, wanted: int | None) -> int:
    """Return how many bytes gunicorn's own `chunk` would ask for."""
    size: int = max(unreader.mxchunk, min(wanted or 0, getattr(unreader, "max_body_chunk", 0)))
    return size


def write_json_error(sock: Any, status_int: int, _: str, mesg: str) -> None:
    """Write a refusal of gunicorn's HTTP parser as JSON; replaces gunicorn's `util.write_error`.

    The reason is HTTP's own, since gunicorn calls a 501 "Bad Request". A client that does not read gets nothing.
    """
    reason = HTTPStatus(status_int).phrase
    body = encode({"error": f"{status_int} {reason.lower()}" + (f": {mesg}" if mesg else "")})
    head = f"HTTP/1.1 {status_int} {reason}\r\nConnection: close\r\nContent-Type: application/json; charset=utf-8\r\n"
    with suppress(OSError):
        util.write_nonblock(sock, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
