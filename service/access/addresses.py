"""The addresses that a request comes from, those that a server without keys may listen on, and keys in headers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any

from ..config import Settings
from ..errors import SettingsError


def presented(environ: Mapping[str, Any]) -> list[str]:
    """Return the keys in a request's headers: a bearer token (RFC 6750), and Anthropic's X-Api-Key."""
    scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    keys = [token.strip() if scheme.lower() == "bearer" else "", environ.get("HTTP_X_API_KEY", "").strip()]
    return [key for key in keys if key]


def received(environ: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the server's own view of a request's addresses, before ProxyFix replaced them by those of headers."""
    original: Mapping[str, Any] = environ.get("werkzeug.proxy_fix.orig", environ)
    return original


def addresses(environ: Mapping[str, Any]) -> list[str | None]:
    """Return every address from which a request may come: its peer's, and all that X-Forwarded-For names.

    Werkzeug's ProxyFix replaces the peer's address by one from the header, and leaves it where the header has too few.
    So the peer's address alone proves nothing: any client that reaches the port can write 127.0.0.1 into the header.
    """
    forwarded = [address.strip() for address in environ.get("HTTP_X_FORWARDED_FOR", "").split(",")]
    return [received(environ).get("REMOTE_ADDR"), environ.get("REMOTE_ADDR"), *filter(None, forwarded)]


@lru_cache(maxsize=256)
def is_local(address: str | None) -> bool:
    """Return whether the address is a loopback address; that of a Unix socket's peer is empty."""
    if address is None:
        return False
    try:
        parsed = ip_address(address)
    except ValueError:
        return address == ""
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return (mapped or parsed).is_loopback


def check_bind(settings: Settings, addresses: Iterable[tuple[Any, ...] | str | bytes]) -> None:
    """Raise SettingsError when other machines could use the server without keys.

    `addresses` are those of the listening sockets, as `getsockname` returns them: a Unix socket's is its path.
    """
    if settings.keys or settings.allow_anyone:
        return
    for address in addresses:
        host = address[0] if isinstance(address, tuple) else "localhost"
        if host != "localhost" and not (host and is_local(host)):
            raise SettingsError(
                f"listening on {host or 'every address'} without keys would let anyone in. Either make a key "
                "(`vllm-wsgi key NAME --scope inference`) and name its file in VLLM_WSGI_KEYS, "
                "or listen on 127.0.0.1, or set VLLM_WSGI_ALLOW_ANYONE=1 if anyone may come in"
            )
