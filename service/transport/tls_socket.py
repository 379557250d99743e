"""A TLS connection that one thread may read while others write.

An `ssl.SSLSocket` breaks when two threads use it at once (`DECRYPTION_FAILED_OR_BAD_RECORD_MAC`). Here TLS works in
memory under one lock. The socket is used without the lock, so that a thread that waits for the network blocks no other.
"""

from __future__ import annotations

import socket
import ssl
import threading

from ..errors import SettingsError
from .connect import left_until
from .credentials import Credentials, reason

# At most this many bytes are encrypted before they are sent, since encrypted bytes are in memory a second time.
CHUNK_BYTES = 1 << 18


class TlsSocket:
    """A StreamSocket on top of a connected TCP socket, which it owns."""

    def __init__(self, plain: socket.socket, host: str, tls: str, due: float) -> None:
        """Complete the handshake until `due` on the monotonic clock. Raises OSError and SettingsError."""
        if not tls:
            raise SettingsError("VLLM_WSGI_TLS must name the directory of the certificates")
        self._plain = plain
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        # Certificates have names without the dot at the end that keeps a resolver from adding a domain.
        name = host.removesuffix(".")
        self._tls = Credentials(tls).for_client().wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._lock = threading.Lock()
        # Records must leave in the order in which they were encrypted.
        self._sending = threading.Lock()
        try:
            self._shake_hands(due)
        except ssl.SSLError as error:
            raise ConnectionError(f"TLS: {reason(error)}") from None

    def recv(self, size: int, /) -> bytes:
        """Return what has come, after waiting for it; nothing where the other side has closed. Raises OSError."""
        while True:
            with self._lock:
                try:
                    data = self._tls.read(size)
                except ssl.SSLWantReadError:
                    data = None
                except ssl.SSLZeroReturnError:
                    return b""
            if self._outgoing.pending:
                # An answer to a message of TLS itself.
                with self._sending:
                    self._flush()
            if data is not None:
                return data
            if not self._feed(size):
                return b""

    def send(self, data: bytes | memoryview, /) -> int:
        """Send all of it, and return its length. Raises OSError."""
        view = memoryview(data)
        with self._sending:
            for start in range(0, len(view), CHUNK_BYTES):
                with self._lock:
                    self._tls.write(view[start : start + CHUNK_BYTES])
                self._flush()
        return len(view)

    def settimeout(self, seconds: float | None, /) -> None:
        self._plain.settimeout(seconds)

    def shutdown(self, how: int, /) -> None:
        """Make the `recv` and `send` of other threads return."""
        self._plain.shutdown(how)

    def close(self) -> None:
        """Close without TLS' close_notify: the queue's frames have lengths, which show that a frame is cut."""
        self._plain.close()

    def _shake_hands(self, due: float) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._plain.settimeout(left_until(due))
                if not self._feed(CHUNK_BYTES):
                    raise ConnectionError("it closed the connection") from None
            else:
                self._flush()
                return

    def _feed(self, size: int) -> int:
        """Wait for encrypted bytes, and return how many have come."""
        data = self._plain.recv(size)
        with self._lock:
            return self._incoming.write(data) if data else 0

    def _flush(self) -> None:
        """Send what is encrypted. A part that finds no room within the socket's time-out has lost its receiver."""
        with self._lock:
            data = memoryview(self._outgoing.read())
        while data:
            data = data[self._plain.send(data) :]
