"""gunicorn's gevent worker, but idle connections don't hold up its end.

A load balancer keeps connections open for its next request. gunicorn's gthread worker closes such ones when it is told
to end; its gevent worker (27.0) waits for their `keepalive` to run out, and the master with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import gevent
from gevent import Greenlet, Timeout
from gunicorn.workers.ggevent import GeventWorker

LOOK_SECONDS = 0.2


class DrainingWorker(GeventWorker):  # type: ignore[misc]
    """Set `worker_class = "service.draining.DrainingWorker"`."""

    def init_process(self) -> None:
        self._waiting: dict[Timeout, Greenlet] = {}
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
        gevent.spawn(self._close_idle)

    def _close_idle(self) -> None:
        while True:
            for timeout, greenlet in list(self._waiting.items()):
                greenlet.kill(timeout, block=False)
            gevent.sleep(LOOK_SECONDS)
