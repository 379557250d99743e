"""Where a request comes from, and whether the server may listen where it is told to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address, ip_address
from typing import Any

from ..config import Settings
from ..errors import SettingsError


def presented(environ: Mapping[str, Any]) -> list[str]:
    """The keys that a request brings: as a bearer token (RFC 6750), and as Anthropic's clients send theirs."""
    scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    keys = [token.strip() if scheme.lower() == "bearer" else "", environ.get("HTTP_X_API_KEY", "").strip()]
    return [key for key in keys if key]


def received(environ: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the server itself knows of where a request came from and to, before ProxyFix put in what headers say."""
    original: Mapping[str, Any] = environ.get("werkzeug.proxy_fix.orig", environ)
    return original


def addresses(environ: Mapping[str, Any]) -> list[str | None]:
    """All that a request says of where it comes from: its peer, and whom the peer and proxies before it speak for.

    Werkzeug's ProxyFix puts the one that it believes in place of the peer, and leaves the peer where it finds too few.
    Whoever reaches the port can say that he speaks for 127.0.0.1.
    """
    told = [address.strip() for address in environ.get("HTTP_X_FORWARDED_FOR", "").split(",")]
    return [received(environ).get("REMOTE_ADDR"), environ.get("REMOTE_ADDR"), *filter(None, told)]


def is_local(address: str | None) -> bool:
    """Whether a peer is on this machine; one on a Unix socket has no address. On loopback no other machine can be."""
    if address is None:
        return False
    try:
        parsed = ip_address(address)
    except ValueError:
        return address == ""
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return (mapped or parsed).is_loopback


def check_bind(settings: Settings, addresses: Iterable[tuple[Any, ...] | str | bytes]) -> None:
    """Raises SettingsError where other machines could come in without keys; a Unix socket's address is its path."""
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
