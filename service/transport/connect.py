"""Connect to an engine process, on this machine or on another one.

In: an Address. Out: a socket that sends, receives and closes. A connection to another machine fails within
SILENT_SECONDS when that machine vanishes: a machine that loses power closes no connection.
"""

from __future__ import annotations

import socket
import time
from typing import Protocol

from ..errors import SettingsError
from .address import TLS, Address

# An engine process sends something this often on each connection.
PULSE_SECONDS = 2.0
# After this long without a byte, or without an acknowledgement of what was sent, the other machine is gone.
SILENT_SECONDS = 6.0
# After this long an engine host on the same machine hangs. Other work can hold it up for seconds there.
HANGS_SECONDS = 20.0
# After this long an engine worker on the same machine hangs, if its host does not answer either. What clients send can
# hold up its loop for a while, and its host distinguishes a worker that hangs from one that is busy.
# VLLM_WSGI_ENGINE_TIMEOUT sets it for the server's routes.
WORKER_HANGS_SECONDS = 60.0

_KEEPALIVE = (("SO_KEEPALIVE", 1),)
_TCP = (
    ("TCP_NODELAY", 1),
    ("TCP_KEEPIDLE", 2),
    ("TCP_KEEPINTVL", 2),
    ("TCP_KEEPCNT", 2),
    ("TCP_USER_TIMEOUT", int(SILENT_SECONDS * 1000)),
)


class StreamSocket(Protocol):
    """The part of a socket that the queue uses. One thread receives while others send, one at a time."""

    def recv(self, size: int, /) -> bytes: ...

    def send(self, data: bytes | memoryview, /) -> int: ...

    def settimeout(self, seconds: float | None, /) -> None: ...

    def shutdown(self, how: int, /) -> None: ...

    def close(self) -> None: ...


def connect(address: Address, seconds: float, tls: str = "") -> StreamSocket:
    """Return a connection within `seconds`; `tls` is the directory of the certificates.

    Raises OSError, and SettingsError for certificates that can't be used.
    """
    due = time.monotonic() + seconds
    if address.is_unix:
        return _connected(socket.AF_UNIX, address.host, due)
    plain = _connect_tcp(address, due)
    if address.scheme != TLS:
        return plain
    # Users of Unix sockets need no TLS library.
    from .tls_socket import TlsSocket

    try:
        return TlsSocket(plain, address.host, tls, due)
    except (OSError, SettingsError):
        plain.close()
        raise


def set_tcp_options(connection: socket.socket) -> None:
    """Send small messages at once, and notice a machine that vanishes. Options that a system lacks are left out."""
    for level, options in ((socket.SOL_SOCKET, _KEEPALIVE), (socket.IPPROTO_TCP, _TCP)):
        for name, value in options:
            if hasattr(socket, name):
                connection.setsockopt(level, getattr(socket, name), value)


def left_until(due: float) -> float:
    """Return the seconds left. Raises TimeoutError when there are none."""
    left = due - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


def _connect_tcp(address: Address, due: float) -> socket.socket:
    """Connect to the first of the host's addresses that answers; none of them takes the time of the others.

    Raises OSError.
    """
    failure: OSError = OSError(f"{address.host} has no address")
    places = socket.getaddrinfo(address.host, address.first, type=socket.SOCK_STREAM)
    for left, (family, _, _, _, place) in zip(range(len(places), 0, -1), places):
        now = time.monotonic()
        try:
            connection = _connected(family, place, now + (due - now) / left)
        except OSError as error:
            failure = error
            continue
        set_tcp_options(connection)
        return connection
    raise failure


def _connected(family: int, place: object, due: float) -> socket.socket:
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(left_until(due))
        connection.connect(place)  # type: ignore[arg-type]
    except OSError:
        connection.close()
        raise
    return connection
