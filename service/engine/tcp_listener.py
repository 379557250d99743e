"""Accept web workers from other machines: TLS, with certificates of one CA on both sides.

In: an Address, and what serves a connection. Out: served connections of peers that have proved who they are. Strangers
get no byte of the queue, and can neither fill the memory nor keep the others out.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Collection, Coroutine
from typing import Any

from ..errors import SettingsError
from ..transport.address import TLS, Address
from ..transport.connect import set_tcp_options
from ..transport.credentials import Credentials, reason

logger = logging.getLogger("vllm_wsgi.queue")

# How many peers may prove who they are at once, and for how long each, in seconds.
MAX_HANDSHAKES = 64
HANDSHAKE_SECONDS = 5.0
# Strangers can't fill the log: of those that are refused within this time, one is logged.
LOG_SECONDS = 10.0
# How long no connection is accepted when the process has no descriptor left.
EXHAUSTED_SECONDS = 1.0
BACKLOG = 512

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


class TcpListener:
    """Listens until it is closed; connections that are served stay open then."""

    def __init__(self, address: Address, serve: Serve, tls: str) -> None:
        """Begin to listen. Raises OSError, and SettingsError for certificates that can't be used."""
        self._serve = serve
        self._credentials = Credentials(tls) if address.scheme == TLS else None
        if self._credentials is not None:
            self._credentials.for_server()
        self._sockets = bind(address)
        port = self._sockets[0].getsockname()[1]
        self.address = address.with_ports(port, port)
        self._loop = asyncio.get_running_loop()
        self._handshakes: dict[asyncio.Task[None], str] = {}
        self._served: set[asyncio.Task[None]] = set()
        self._refused = 0
        self._logs_at = 0.0
        self._accepting = [self._loop.create_task(self._accept(each)) for each in self._sockets]

    def close(self) -> None:
        """Stop listening."""
        for task in (*self._accepting, *self._handshakes):
            task.cancel()
        for each in self._sockets:
            each.close()

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                accepted, (host, *_) = await self._loop.sock_accept(listener)
            except OSError as error:
                logger.error("no connection can be accepted: %s", error.strerror)
                await asyncio.sleep(EXHAUSTED_SECONDS)
                continue
            if len(self._handshakes) >= MAX_HANDSHAKES:
                self._end_one_handshake()
            task = self._loop.create_task(self._greet(accepted, host))
            self._handshakes[task] = host
            task.add_done_callback(lambda task: self._handshakes.pop(task, None))

    def _end_one_handshake(self) -> None:
        """End the oldest handshake of the host that has most of them, so that no stranger can take all places."""
        ((host, _),) = Counter(self._handshakes.values()).most_common(1)
        oldest = next(task for task, other in self._handshakes.items() if other == host)
        del self._handshakes[oldest]
        oldest.cancel()

    async def _greet(self, accepted: socket.socket, host: str) -> None:
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            set_tcp_options(accepted)
            transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, accepted, **self._tls_arguments())
        except asyncio.CancelledError:
            accepted.close()
            self._log_refused(host, "too many connections at once")
            raise
        except (OSError, SettingsError) as error:
            accepted.close()
            self._log_refused(host, _reason(error))
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
        # From here on the connection counts as served and not as a handshake.
        serving = self._loop.create_task(self._serve(reader, writer))
        self._served.add(serving)
        serving.add_done_callback(self._served.discard)

    def _tls_arguments(self) -> dict[str, Any]:
        """Raises SettingsError for certificates that have changed and can't be used."""
        if self._credentials is None:
            return {}
        return {"ssl": self._credentials.for_server(), "ssl_handshake_timeout": HANDSHAKE_SECONDS}

    def _log_refused(self, host: str, why: str) -> None:
        self._refused += 1
        if time.monotonic() >= self._logs_at:
            logger.warning("a connection from %s is refused: %s (%d so far)", host, why, self._refused)
            self._logs_at = time.monotonic() + LOG_SECONDS


def bind(address: Address) -> list[socket.socket]:
    """Return listening sockets at the first free port of the address, for IPv4 and IPv6 where its host has both.

    Raises OSError when the host is not one of this machine, and when no port is free.
    """
    places = dict.fromkeys(
        (family, place[0])
        for family, _, _, _, place in socket.getaddrinfo(
            address.host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    )
    failure: OSError = OSError(f"{address.host} has no address")
    for port in range(address.first, address.last + 1):
        try:
            return _bound(places, port)
        except OSError as error:
            failure = error
    raise OSError(failure.errno, f"{address}: {failure.strerror or failure}")


def _bound(places: Collection[tuple[int, Any]], port: int) -> list[socket.socket]:
    bound: list[socket.socket] = []
    try:
        for family, host in places:
            listener = socket.socket(family, socket.SOCK_STREAM)
            bound.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((host, port))
            listener.listen(BACKLOG)
            listener.setblocking(False)
            # The second family listens at the port that the first one was given.
            port = listener.getsockname()[1]
    except OSError:
        for listener in bound:
            listener.close()
        raise
    return bound


def _reason(error: OSError | SettingsError) -> str:
    if isinstance(error, SettingsError):
        return error.message
    return reason(error) if isinstance(error, ssl.SSLError) else str(error) or "it closed the connection"
