"""The Host headers that a server on loopback accepts: Ollama's protection from DNS rebinding.

An attacker can make the name of their page point at 127.0.0.1. Its requests then have the same origin as this server,
so `origins.py` allows them, but their Host header still holds the page's name. The rules are those of Ollama's
`server/routes.go`, allowedHostsMiddleware.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Union

# RFC 1918 and RFC 4193, as in Go's IsPrivate; Python's `is_private` includes more.
_PRIVATE = [ip_network(network) for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")]
_SUFFIXES = (".localhost", ".local", ".internal")

if TYPE_CHECKING:
    Address = Union[IPv4Address, IPv6Address]


class AllowedHosts:
    """The allowed hosts: `configured`, in lower case (`*` allows every host), and Ollama's own."""

    def __init__(self, configured: Iterable[str]) -> None:
        self._names = {"", "localhost", socket.gethostname().lower(), *configured}
        self._all = "*" in self._names

    def watches(self, server_name: str) -> bool:
        """Return whether the Host header is checked. `server_name` is SERVER_NAME of the WSGI environ.

        gunicorn and Werkzeug write the listening address there. Other servers write something else (waitress a
        constant), so the address is unknown and every host is allowed. On a Unix socket gunicorn writes the Host header
        there; when that looks like loopback, it is an allowed one anyway.
        """
        address = _address(server_name)
        return not self._all and (server_name == "localhost" if address is None else address.is_loopback)

    def allows(self, host: str) -> bool:
        """Return whether a Host header, with or without a port, is allowed."""
        address = _address(hostname(host))
        return self.named(host) or (address is not None and _is_local(address))

    def named(self, host: str) -> bool:
        """Return whether a Host header is allowed by its name, not as an address."""
        name = hostname(host)
        return name in self._names or name.endswith(_SUFFIXES)


def hostname(host: str) -> str:
    """Return a Host header in lower case, without its port and without the brackets of an IPv6 address."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.lower() if host.count(":") > 1 else host.partition(":")[0].lower()


@lru_cache(maxsize=256)
def _address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _is_local(address: Address) -> bool:
    if address.is_loopback or address.is_unspecified:
        return True
    return any(address in network for network in _PRIVATE) or _is_ours(address)


def _is_ours(address: Address) -> bool:
    """Return whether an interface of this machine has the address: only then can a socket be bound to it."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
