"""The certificates of one machine, which prove to the other end that the machine belongs to the installation.

In: a directory with ca.pem, certificate.pem and key.pem. Out: TLS contexts for both ends of a connection, or a
SettingsError that says what is wrong with the files.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ..errors import SettingsError
from .address import TLS, Address

CA, CERTIFICATE, KEY = "ca.pem", "certificate.pem", "key.pem"
_VARIABLE = "VLLM_WSGI_TLS"

T = TypeVar("T")


class Credentials:
    """The files of one directory, which are read again when they change: a renewed certificate needs no restart."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)
        self._contexts: dict[int, tuple[list[int], ssl.SSLContext]] = {}

    def for_client(self) -> ssl.SSLContext:
        """Return the context for connecting. Raises SettingsError."""
        return self._context(ssl.PROTOCOL_TLS_CLIENT)

    def for_server(self) -> ssl.SSLContext:
        """Return the context for accepting. Raises SettingsError."""
        return self._context(ssl.PROTOCOL_TLS_SERVER)

    def expires_at(self) -> float:
        """Return when the certificate expires, in seconds since the epoch.

        Raises SettingsError for a certificate that the other machines would refuse: expired, or not of this CA.
        """
        self._read(self._changed_at)
        checking = self._read(lambda: self._loaded(ssl.PROTOCOL_TLS_SERVER))
        checked = self._read(lambda: self._loaded(ssl.PROTOCOL_TLS_CLIENT))
        # Only the client's certificate matters here. A web machine's certificate may not be a server's.
        checked.check_hostname, checked.verify_mode = False, ssl.CERT_NONE
        certificate = self._proven(checked, checking).getpeercert()
        assert certificate is not None
        return ssl.cert_time_to_seconds(str(certificate["notAfter"]))

    def check_server(self, host: str) -> None:
        """Raise SettingsError for a certificate with which no other machine would connect to this one at `host`."""
        checking = self._read(lambda: self._loaded(ssl.PROTOCOL_TLS_CLIENT))
        self._proven(checking, self._read(lambda: self._loaded(ssl.PROTOCOL_TLS_SERVER)), host)

    def _proven(self, as_client: ssl.SSLContext, as_server: ssl.SSLContext, host: str | None = None) -> ssl.SSLObject:
        """Connect this machine to itself, in memory. Return the server's end; raise SettingsError."""
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = as_server.wrap_bio(to_server, to_client, server_side=True)
        client = as_client.wrap_bio(to_client, to_server, server_hostname=host)
        try:
            _shake_hands(client, server)
        except ssl.SSLError as error:
            raise self._mistake(CERTIFICATE, reason(error)) from None
        return server

    def _context(self, protocol: int) -> ssl.SSLContext:
        changed = self._read(self._changed_at)
        known = self._contexts.get(protocol)
        if known is None or known[0] != changed:
            known = self._contexts[protocol] = changed, self._read(lambda: self._loaded(protocol))
        return known[1]

    def _changed_at(self) -> list[int]:
        return [(self._directory / name).stat().st_mtime_ns for name in (CA, CERTIFICATE, KEY)]

    def _loaded(self, protocol: int) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        if protocol == ssl.PROTOCOL_TLS_SERVER:
            # A resumed session would not look at the certificate again.
            context.num_tickets = 0
        context.load_verify_locations(str(self._directory / CA))
        # Without a password OpenSSL would ask for one at the terminal.
        context.load_cert_chain(str(self._directory / CERTIFICATE), str(self._directory / KEY), password="")
        return context

    def _read(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except ssl.SSLError as error:
            raise self._mistake("", f"holds no usable {CA}, {CERTIFICATE} and {KEY}: {reason(error)}") from None
        except OSError as error:
            raise self._mistake(Path(error.filename or "").name, error.strerror or str(error)) from None

    def _mistake(self, file: str, text: str) -> SettingsError:
        return SettingsError(f"{_VARIABLE}={self._directory}: {f'{file}: ' if file else ''}{text}")


def check_credentials(address: Address, directory: str) -> None:
    """Raise SettingsError when connections to this address need certificates that are missing or not valid."""
    if address.scheme != TLS:
        return
    if not directory:
        raise SettingsError(f"VLLM_WSGI_ENGINE_SOCKET={address} needs certificates: set {_VARIABLE} to their directory")
    Credentials(directory).expires_at()


def reason(error: ssl.SSLError) -> str:
    """Return OpenSSL's reason without the numbers around it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return error.reason.lower().replace("_", " ") if error.reason else str(error)


def _shake_hands(client: ssl.SSLObject, server: ssl.SSLObject) -> None:
    """Complete a handshake in memory. Raises SSLError."""
    waiting = [client, server]
    while waiting:
        side = waiting.pop(0)
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            waiting.append(side)
