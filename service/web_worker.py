"""gunicorn's gevent worker, with two of its edges taken off.

A load balancer keeps connections open for its next request. gunicorn's gthread worker closes such ones when it is told
to end; its gevent worker (27.0) waits for their `keepalive` to run out, and the master with it. And a request that is
no HTTP never reaches the application; gunicorn answers it with a page, this worker in JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import gevent
import gevent.socket
from gevent import Greenlet, Timeout
from gunicorn import util
from gunicorn.workers.ggevent import GeventWorker

from .drain import drain
from .framing import encode

LOOK_SECONDS = 0.2


class WebWorker(GeventWorker):  # type: ignore[misc]
    """Set `worker_class = "service.web_worker.WebWorker"`."""

    def init_process(self) -> None:
        self._waiting: dict[Timeout, Greenlet] = {}
        util.write_error = write_json_error
        util.write_chunk = write_chunk
        super().init_process()

    @contextmanager
    def timeout_ctx(self) -> Iterator[None]:
        """Around the wait for a connection's next request; at its time-out the connection is closed."""
        with Timeout(self.cfg.keepalive, False) as timeout:
            self._waiting[timeout] = gevent.getcurrent()
            try:
                yield
            finally:
                del self._waiting[timeout]

    def handle_exit(self, sig: int, frame: object) -> None:
        """SIGTERM: answers go on to their end, waits for the next request end now."""
        super().handle_exit(sig, frame)
        # gunicorn counts from about now, and says nothing to whom it cuts.
        drain.begin(self.cfg.graceful_timeout)
        gevent.spawn(self._close_idle)

    def _close_idle(self) -> None:
        while True:
            for timeout, greenlet in list(self._waiting.items()):
                greenlet.kill(timeout, block=False)
            gevent.sleep(LOOK_SECONDS)


def write_chunk(sock: Any, data: bytes) -> None:
    """In place of gunicorn's `util.write_chunk`: the system is asked once, and gevent only for what it did not take.

    gevent's `sendall` asks for the size of the send buffer first, each time. A TLS socket is left to it.
    """
    chunk = b"%X\r\n%b\r\n" % (len(data), data)
    sent = 0
    if type(sock) is gevent.socket.socket:
        with suppress(BlockingIOError):
            sent = sock._sock.send(chunk)
    if sent < len(chunk):
        sock.sendall(memoryview(chunk)[sent:])


def write_json_error(sock: Any, status_int: int, reason: str, mesg: str) -> None:
    """In place of gunicorn's `util.write_error`, which every refusal of its HTTP parser goes through."""
    body = encode({"error": f"{status_int} {reason.lower()}" + (f": {mesg}" if mesg else "")})
    head = f"HTTP/1.1 {status_int} {reason}\r\nConnection: close\r\nContent-Type: application/json; charset=utf-8\r\n"
    util.write_nonblock(sock, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
