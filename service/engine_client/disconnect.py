"""Tells when clients leave while their request waits and nothing is written to them.

One thread (a greenlet where gevent has patched) waits for the hang-up of every watched socket in one epoll set. What is
watched is the server's socket, which gunicorn puts into the WSGI environ; waitress offers a callable instead. Elsewhere
a disconnect is noticed at the next write.
"""

from __future__ import annotations

import select
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

# How often a server that only answers questions is asked, in seconds.
POLL_SECONDS = 0.5

_GONE = getattr(select, "EPOLLRDHUP", 0x2000) | getattr(select, "EPOLLONESHOT", 1 << 30)


def client_socket(environ: dict[str, Any]) -> Any:
    """The client's socket, or None where the server does not show it or the system has no epoll."""
    return environ.get("gunicorn.socket") if sys.platform == "linux" else None


def client_gone(environ: dict[str, Any]) -> Callable[[], bool] | None:
    """waitress' answer to whether the client has left; it needs `channel_request_lookahead` > 0."""
    return environ.get("waitress.client_disconnected")


class Watch:
    """Calls back once for each watched socket whose peer closed it or shut down its writing side."""

    def __init__(self) -> None:
        self._epoll = _epoll()()
        self._callbacks: dict[int, Callable[[], None]] = {}
        threading.Thread(target=self._run, name="disconnect-watch", daemon=True).start()

    def add(self, fd: int, callback: Callable[[], None]) -> None:
        """`callback` runs in the watching thread and must not block."""
        self._callbacks[fd] = callback
        self._epoll.register(fd, _GONE)

    def remove(self, fd: int) -> None:
        """Before the socket is closed, since its number is then given to another."""
        if self._callbacks.pop(fd, None) is not None:
            # One that the server has closed already has left the set by itself.
            with suppress(OSError):
                self._epoll.unregister(fd)

    def _run(self) -> None:
        readable = select.poll()
        readable.register(self._epoll.fileno(), select.POLLIN)
        while True:
            readable.poll()
            for fd, _ in self._epoll.poll(0):
                callback = self._callbacks.get(fd)
                if callback is not None:
                    callback()


def _epoll() -> Any:
    """gevent removes `select.epoll` since its wait would block the hub; ours never waits."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("select"):
        return monkey.get_original("select", "epoll")
    return select.epoll
