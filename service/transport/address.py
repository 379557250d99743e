"""The address of an engine process: the path of a Unix socket, `tls://host:port`, or `tcp://host:port` on loopback.

An engine worker adds `#` and an id of its own: it often has the port of the worker before it, and whoever has lost that
one must be able to distinguish the two.

In: texts from settings and messages. Out: Addresses, or a BadRequest that says what is wrong with the text.
"""

from __future__ import annotations

import ipaddress
import secrets
from typing import NamedTuple

from ..errors import BadRequest

UNIX, TLS, TCP = "unix", "tls", "tcp"
# A listener at one of these is reached at every address of its machine.
_ANY_HOST = ("0.0.0.0", "::")
_LOOPBACK_NAME = "localhost"
_HIGHEST_PORT = 65535


class Address(NamedTuple):
    """`host` is a path for a Unix socket. A listener takes the first free port of `first` to `last`; 0 is any port."""

    scheme: str
    host: str
    first: int = 0
    last: int = 0

    @property
    def is_unix(self) -> bool:
        return self.scheme == UNIX

    def __str__(self) -> str:
        if self.is_unix:
            return self.host
        host = f"[{self.host}]" if ":" in self.host else self.host
        ports = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        return f"{self.scheme}://{host}:{ports}"

    def with_ports(self, first: int, last: int) -> Address:
        """Return the address of another listener on the same host."""
        return self._replace(first=first, last=last)

    def reached_from(self, control: Address) -> Address:
        """Return the address to connect to. A listener on every address is reached at the host of `control`.

        So an engine host need not know the names and addresses under which web machines reach it.
        """
        if self.is_unix or self.host not in _ANY_HOST:
            return self
        return self._replace(host=_LOOPBACK_NAME if control.is_unix or control.host in _ANY_HOST else control.host)


def parse_address(text: str) -> Address:
    """Return the address, without the id of a worker. A text without `://` is a path. Raises BadRequest."""
    scheme, mark, place = text.partition("://")
    if not mark:
        return Address(UNIX, text)
    place = place.partition("#")[0]
    if scheme not in (TLS, TCP):
        raise BadRequest("is neither a path nor tls://host:port")
    host, colon, ports = place.rpartition(":")
    # IPv6 addresses are put into brackets, as in URLs (RFC 3986, section 3.2.2).
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if not colon or not host or any(mark in host for mark in "/@?# []") or (":" in host) != bracketed:
        raise BadRequest(f"is not of the form {scheme}://host:port")
    if not _is_host(host):
        raise BadRequest(f"{host!r} is not the name of a host")
    if scheme == TCP and not _is_loopback(host):
        raise BadRequest("is not encrypted, which is allowed on loopback only; use tls://host:port")
    return Address(scheme, host, *parse_ports(ports))


def parse_socket(text: str) -> str:
    """Return the text of a control socket's address. Its port is fixed, so that clients know it. Raises BadRequest."""
    address = parse_address(text)
    if address.is_unix:
        return text
    if not 0 < address.first == address.last:
        raise BadRequest(f"names no port: {address.scheme}://host:port")
    if "#" in text:
        raise BadRequest(f"is not of the form {address.scheme}://host:port")
    return text


def new_worker_address(address: Address) -> str:
    """Return the text of a new worker's address, which no worker has had before."""
    return f"{address}#{secrets.token_hex(4)}"


def parse_ports(text: str) -> tuple[int, int]:
    """Return the first and the last of a range of ports, `7434-7465`; one number is a range. Raises BadRequest."""
    first, dash, last = text.partition("-")
    ends = [first, last] if dash else [first, first]
    if not all(end.isdecimal() and end.isascii() and len(end) <= 5 for end in ends):
        raise BadRequest("is not a port or a range of ports such as 7434-7465")
    numbers = int(ends[0]), int(ends[1])
    if not 0 <= numbers[0] <= numbers[1] <= _HIGHEST_PORT:
        raise BadRequest(f"is not a range of ports up to {_HIGHEST_PORT}")
    return numbers


def _is_host(host: str) -> bool:
    """Return whether the host can be looked up: each part between dots has 1 to 63 characters (RFC 1035 §2.3.4)."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    if host == _LOOPBACK_NAME:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
