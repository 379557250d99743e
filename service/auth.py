"""Keys: who may come in, what he may do, and how much. A request's headers and route come in, its Key goes out.

A keys.toml holds a table for each key, by a name of its own; deploy/keys.toml.example tells every field. Of a key only
its SHA-256 is stored. That is enough, since a key is 256 random bits: there is nothing to guess, which is what slow
hashes are for. `python -m service.auth NAME --scope SCOPE >> keys.toml` makes one.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import logging
import os
import re
import secrets
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any

import msgspec

from .config import Settings, SettingsError
from .errors import Forbidden, Unauthorized
from .messages import Caller
from .toml_file import Kinds, TomlFile, read_text

logger = logging.getLogger(__name__)

SCOPES = ("inference", "manage", "observe")
# Where the key of a request stands in its WSGI environ.
KEY = "vllm_wsgi.key"
LOOK_SECONDS = 1.0

# What a key needs for each route. `open`: no key at all; `any`: one of whatever scope. Who is not named here is closed.
ROUTES = {
    "/": "open",
    "/api/version": "open",
    "/livez": "open",
    "/readyz": "open",
    "/api/tags": "any",
    "/api/ps": "any",
    "/api/show": "any",
    "/v1/models": "any",
    "/v1/models/<path:name>": "any",
    "/api/generate": "inference",
    "/api/chat": "inference",
    "/api/embed": "inference",
    "/api/embeddings": "inference",
    "/v1/chat/completions": "inference",
    "/v1/completions": "inference",
    "/v1/responses": "inference",
    "/v1/responses/<id>": "inference",
    "/v1/responses/<id>/input_items": "inference",
    "/v1/embeddings": "inference",
    "/v1/messages": "inference",
    "/v1/messages/count_tokens": "inference",
    "/api/pull": "manage",
    "/api/create": "manage",
    "/api/copy": "manage",
    "/api/delete": "manage",
    "/api/blobs/<digest>": "manage",
    "/api/status": "observe",
    "/metrics": "observe",
    # What answers unknown paths and methods.
    "/api": "any",
    "/api/<path:path>": "any",
    "/v1": "any",
    "/v1/<path:path>": "any",
    "/v1/messages/": "any",
    "/v1/messages/<path:path>": "any",
}
DISCOVERY = ("/api/tags", "/api/ps", "/api/show", "/v1/models", "/v1/models/<path:name>")


@dataclass(frozen=True)
class Key:
    """One known key, or the leave to do without."""

    caller: Caller = Caller()
    scopes: frozenset[str] = frozenset(SCOPES)
    digest: bytes = b""

    def check(self, scope: str) -> None:
        """Raises Forbidden where the key lacks the scope."""
        if scope not in self.scopes:
            raise Forbidden(f'key "{self.caller.name}" lacks the scope "{scope}"')


ANYONE = Key()


def key_of(environ: Mapping[str, Any]) -> Key:
    """The key that a request came with; where our guard was not asked, anyone's."""
    key: Key = environ.get(KEY, ANYONE)
    return key


class Auth:
    """Whom to let in. Raises SettingsError where the keys can't be read."""

    def __init__(self, settings: Settings) -> None:
        self._allow_anyone = settings.allow_anyone
        self._routes = ROUTES | (dict.fromkeys(DISCOVERY, "open") if settings.open_discovery else {})
        self._keys = KeyFile(settings) if settings.keys else None

    def admit(self, environ: dict[str, Any], route: str) -> Key:
        """The key of a request to a route, which is a path of ROUTES. Raises Unauthorized and Forbidden."""
        scope = self._routes.get(route, "")
        if scope == "open":
            return ANYONE
        if self._keys is None:
            return self._admit_without_keys(environ)
        # Told at once, since the request log names a known key that may not do this, too.
        environ[KEY] = key = self._keys.find(presented(environ))
        if scope != "any":
            key.check(scope)
        return key

    def _admit_without_keys(self, environ: Mapping[str, Any]) -> Key:
        if self._allow_anyone or all(map(is_local, addresses(environ))):
            return ANYONE
        raise Forbidden(
            "this server has no keys and answers its own machine only; "
            "its operator can name a file of keys in VLLM_WSGI_KEYS, or set VLLM_WSGI_ALLOW_ANYONE=1"
        )


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
                "(`python -m service.auth NAME --scope inference`) and name its file in VLLM_WSGI_KEYS, "
                "or listen on 127.0.0.1, or set VLLM_WSGI_ALLOW_ANYONE=1 if anyone may come in"
            )


# --- keys.toml -------------------------------------------------------------------------------------------

_LIMITS = ("max_concurrent", "tokens_per_minute", "max_prompt_tokens", "max_output_tokens")
_KINDS: dict[str, Kinds] = {
    "hash": (str,),
    "scopes": (list,),
    "priority": (int,),
    **dict.fromkeys(_LIMITS, (int,)),
}
_HASH = re.compile(r"sha256:([0-9a-f]{64})\Z")


class KeyFile:
    """The keys of a file, read again when it has changed; a mistake in it leaves the keys as they were."""

    def __init__(self, settings: Settings) -> None:
        self._path = Path(settings.keys)
        self._defaults = Caller(
            max_prompt_tokens=settings.max_prompt_tokens, max_output_tokens=settings.max_output_tokens
        )
        self._looked_at = time.monotonic()
        self._version = self._current()
        self._keys = read_keys(self._path, self._defaults)

    def find(self, presented: list[str]) -> Key:
        """The first that is known. Raises Unauthorized."""
        self._look()
        for text in presented:
            if key := self._known(text):
                return key
        raise Unauthorized("unknown API key" if presented else "an API key is required: Authorization: Bearer KEY")

    def _known(self, text: str) -> Key | None:
        digest = hashlib.sha256(text.encode("latin-1")).digest()
        found = None
        # All of them, and each in constant time: how long it takes says nothing about how near a guess was.
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        version = self._current()
        if version == self._version:
            return
        self._version = version
        try:
            self._keys = read_keys(self._path, self._defaults)
            logger.info("%s: %d keys", self._path, len(self._keys))
        except SettingsError as error:
            logger.error("the keys stay as they were: %s", error.message)

    def _current(self) -> tuple[int, ...] | None:
        """What tells one version of the file from another; None where there is none.

        The time of the last change to its inode, unlike that of its content, can't be set back, and tells when a file
        that could not be read has been given the rights.
        """
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_ctime_ns, status.st_size, status.st_ino


def read_keys(path: Path, defaults: Caller) -> list[Key]:
    """The keys of a keys.toml; raises SettingsError that names the line. `defaults` are for what a key leaves open."""
    return _File(path, read_text(path, "VLLM_WSGI_KEYS")).keys(defaults)


class _File(TomlFile):
    """One keys.toml."""

    def keys(self, defaults: Caller) -> list[Key]:
        keys: dict[bytes, Key] = {}
        for name, table in self._tables("keys", "key").items():
            key = self._key(name, table, defaults)
            if twin := keys.get(key.digest):
                self._refuse(("keys", name, "hash"), f'is that of "{twin.caller.name}" too')
            keys[key.digest] = key
        return list(keys.values())

    def _key(self, name: str, table: dict[str, Any], defaults: Caller) -> Key:
        place = ("keys", name)
        if not name:
            self._refuse(place, "must have a name")
        self._check_kinds(place, table, _KINDS)
        for limit in _LIMITS:
            if table.get(limit, 0) < 0:
                self._refuse((*place, limit), "must not be negative")
        limits = {field: table[field] for field in (*_LIMITS, "priority") if field in table}
        caller = msgspec.structs.replace(defaults, name=name, **limits)
        return Key(caller, self._scopes(place, table), self._digest(place, table))

    def _scopes(self, place: tuple[str, ...], table: dict[str, Any]) -> frozenset[str]:
        scopes = table.get("scopes")
        if not scopes:
            self._refuse((*place, "scopes") if "scopes" in table else place, f"needs scopes, of {', '.join(SCOPES)}")
        for scope in scopes:
            if scope not in SCOPES:
                self._refuse((*place, "scopes"), f"{scope!r} is no scope; known are {', '.join(SCOPES)}")
        return frozenset(scopes)

    def _digest(self, place: tuple[str, ...], table: dict[str, Any]) -> bytes:
        if "hash" not in table:
            self._refuse(place, "has no hash; `python -m service.auth NAME` makes a key and its hash")
        found = _HASH.match(table["hash"])
        if found is None:
            self._refuse((*place, "hash"), 'must be "sha256:" and 64 hexadecimal digits in lower case')
        return bytes.fromhex(found[1])


def new_key() -> str:
    """256 random bits; the prefix is for those who search texts for keys that leaked."""
    return f"vllm-wsgi-{secrets.token_urlsafe(32)}"


def lines(name: str, key: str, scopes: Iterable[str]) -> str:
    """What a keys.toml holds of a key."""
    digest = hashlib.sha256(key.encode()).hexdigest()
    table, names = msgspec.json.encode(name).decode(), msgspec.json.encode(list(scopes)).decode()
    return f'[keys.{table}]\nhash = "sha256:{digest}"\nscopes = {names}\n'


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m service.auth", description="Makes an API key.")
    parser.add_argument("name", help="whose key it is, for logs and limits")
    parser.add_argument("--scope", action="append", choices=SCOPES, required=True, help="may be given several times")
    arguments = parser.parse_args()
    key = new_key()
    # Apart, so that `>> keys.toml` takes the lines and the key stays on the screen.
    print(f"The key, which is shown this once: {key}", file=sys.stderr)
    print(lines(arguments.name, key, arguments.scope))


if __name__ == "__main__":
    main()
