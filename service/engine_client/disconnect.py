"""Notice that a client disconnects while its request waits and nothing is written to it.

One thread (a greenlet where gevent has patched) waits in one epoll set for the hang-up of every watched socket. Where
a server shows neither a socket nor a callable, a disconnect is noticed at the next write.
"""

from __future__ import annotations

import select
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

# How often `Presence.gone` is asked, in seconds.
POLL_SECONDS = 0.5

_GONE = getattr(select, "EPOLLRDHUP", 0x2000) | getattr(select, "EPOLLONESHOT", 1 << 30)


@dataclass(frozen=True)
class Presence:
    """Two ways to notice that a request's client has disconnected; without either, only a failed write shows it.

    `fileno` returns the descriptor of the client's socket, to be watched, or -1 when the socket is closed.
    `gone` returns whether the client has disconnected, and is called every POLL_SECONDS.
    """

    fileno: Callable[[], int] | None = None
    gone: Callable[[], bool] | None = None


class Watch:
    """Calls back once for each watched socket whose peer closes it or its sending half.

    Several requests to the engine may watch one socket: a view can ask for several answers.
    """

    def __init__(self) -> None:
        self._epoll = _epoll()()
        self._lock = threading.Lock()
        self._callbacks: dict[int, list[Callable[[], None]]] = {}
        threading.Thread(target=self._run, name="disconnect-watch", daemon=True).start()

    def add(self, fd: int, callback: Callable[[], None]) -> None:
        """Watch a socket. `callback` runs in the watching thread and must not block.

        Raises OSError when the socket is closed.
        """
        with self._lock:
            if not self._watch_again(fd):
                self._epoll.register(fd, _GONE)
                self._callbacks[fd] = []
            self._callbacks[fd].append(callback)

    def remove(self, fd: int, callback: Callable[[], None]) -> None:
        """Stop watching a socket. Call it before the socket is closed, since another file may get its number then."""
        with self._lock:
            callbacks = self._callbacks.get(fd, [])
            if callback in callbacks:
                callbacks.remove(callback)
            if not callbacks and self._callbacks.pop(fd, None) is not None:
                # A socket that the server has closed already has left the set by itself.
                with suppress(OSError):
                    self._epoll.unregister(fd)

    def _watch_again(self, fd: int) -> bool:
        """Return whether the socket is watched already; one that has hung up is reported a second time then."""
        if fd not in self._callbacks:
            return False
        try:
            self._epoll.modify(fd, _GONE)
        except FileNotFoundError:
            # The socket with these callbacks was closed, and another one has its number now.
            return False
        return True

    def _run(self) -> None:
        readable = select.poll()
        readable.register(self._epoll.fileno(), select.POLLIN)
        while True:
            readable.poll()
            for fd, _ in self._epoll.poll(0):
                for callback in list(self._callbacks.get(fd, [])):
                    callback()


def _epoll() -> Any:
    """Return the real epoll. gevent removes it, since waiting for it would block the hub; we never wait for it."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("select"):
        return monkey.get_original("select", "epoll")
    return select.epoll
