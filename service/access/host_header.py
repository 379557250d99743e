"""Which names a browser may know a server by that listens on loopback: Ollama's protection from DNS rebinding.

A page whose own name is made to point at 127.0.0.1 is of the same origin as this server, so that `origins.py` lets it
in; the Host header still has its name. The rules are those of Ollama's `server/routes.go`, allowedHostsMiddleware.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

# RFC 1918 and RFC 4193, Go's IsPrivate; Python's own `is_private` has more.
_PRIVATE = [ip_network(network) for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")]
_SUFFIXES = (".localhost", ".local", ".internal")

Address = IPv4Address | IPv6Address


class AllowedHosts:
    """The allowed hosts: `configured`, in lower case (`*` allows every host), and Ollama's own."""

    def __init__(self, configured: Iterable[str]) -> None:
        self._names = {"", "localhost", socket.gethostname().lower(), *configured}
        self._all = "*" in self._names

    def watches(self, server_name: str) -> bool:
        """Whether the Host header counts. `server_name` is the WSGI environ's.

        gunicorn and Werkzeug write the listening address there. Where it is something else (waitress has a constant)
        nothing is known and every host passes. On a Unix socket gunicorn writes the Host header there: one that looks
        like loopback is an allowed one.
        """
        address = _address(server_name)
        return not self._all and (server_name == "localhost" if address is None else address.is_loopback)

    def allows(self, host: str) -> bool:
        """`host` is the Host header, with or without a port."""
        address = _address(hostname(host))
        return self.named(host) or (address is not None and _is_local(address))

    def named(self, host: str) -> bool:
        """Whether it is allowed by its name, and not as an address."""
        name = hostname(host)
        return name in self._names or name.endswith(_SUFFIXES)


def hostname(host: str) -> str:
    """A Host header without its port and an IPv6 address' brackets, in lower case."""
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
    """Whether one of this machine's interfaces has it: no other can be bound."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
