"""The keys of a keys.toml: read, checked, looked up, and read again when the file changes."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ..config import Settings
from ..errors import Forbidden, SettingsError, Unauthorized
from ..protocol.request import Caller
from ..syntax.toml_file import Kinds, TomlFile, as_settings_error, read_text
from .scopes import SCOPE_NAMES, SCOPES, Scope

logger = logging.getLogger("vllm_wsgi.access")

# The file is checked for changes when a key is looked up, but not more often than this. In seconds.
LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Key:
    """One key of the file: its owner and limits, what it may do, and the SHA-256 of its text."""

    caller: Caller = Caller()
    scopes: frozenset[Scope] = frozenset(SCOPES)
    digest: bytes = b""

    def check(self, scope: Scope) -> None:
        """Raise Forbidden when the key lacks the scope."""
        if scope is not Scope.ANY and scope not in self.scopes:
            raise Forbidden(f'key "{self.caller.name}" lacks the scope "{scope.value}"')

    @property
    def is_of_file(self) -> bool:
        """Whether the key is one of a file, rather than that of requests without a key."""
        return bool(self.digest)


# For requests that need no key.
ANYONE = Key()


def default_caller(settings: Settings, name: str = "") -> Caller:
    """Return a caller with the limits of the settings, which hold where no key sets its own."""
    return Caller(name, max_prompt_tokens=settings.max_prompt_tokens, max_output_tokens=settings.max_output_tokens)


_LIMITS = ("max_concurrent", "tokens_per_minute", "max_prompt_tokens", "max_output_tokens")
_KINDS: dict[str, Kinds] = {
    "hash": (str,),
    "scopes": (list,),
    "priority": (int,),
    **dict.fromkeys(_LIMITS, (int,)),
}
_HASH = re.compile(r"sha256:([0-9a-f]{64})\Z")


class KeyFile:
    """The keys of a file, which is read again when it has changed.

    A changed file with a mistake in it leaves the keys as they were; the log names the mistake. At the start a mistake
    raises SettingsError.
    """

    def __init__(self, settings: Settings) -> None:
        self._path = Path(settings.keys)
        self._defaults = default_caller(settings)
        self._looked_at = time.monotonic()
        self._version = self._current()
        self._keys = read_keys(self._path, self._defaults)

    def find(self, presented: list[str]) -> Key:
        """Return the first presented key that the file holds. Raises Unauthorized when it holds none of them."""
        self._look()
        for text in presented:
            if key := self._known(text):
                return key
        raise Unauthorized("unknown API key" if presented else "an API key is required: Authorization: Bearer KEY")

    def named(self, name: str) -> Key | None:
        """Return the key of an owner, None if the file has none."""
        self._look()
        return next((key for key in self._keys if key.caller.name == name), None)

    def _known(self, text: str) -> Key | None:
        digest = hashlib.sha256(text.encode("latin-1")).digest()
        found = None
        # All digests are compared, each in constant time, so that the duration does not show how close a guess was.
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
        """Return values that differ between two versions of the file; None when there is no file.

        The time of the inode's last change is used, not that of the content: it can't be set back, and it also moves
        when an unreadable file is made readable.
        """
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_ctime_ns, status.st_size, status.st_ino


def read_keys(path: Path, defaults: Caller) -> list[Key]:
    """Return the keys of a keys.toml; `defaults` holds the limits of a key that sets none of its own.

    Raises SettingsError, which names the line of a mistake.
    """
    with as_settings_error(path):
        return _KeysToml(path, read_text(path, "VLLM_WSGI_KEYS")).keys(defaults)


class _KeysToml(TomlFile):
    """The text of a keys.toml, and the keys in it."""

    def keys(self, defaults: Caller) -> list[Key]:
        keys: dict[bytes, Key] = {}
        for name, table in self._tables("keys", "key").items():
            key = self._key(name, table, defaults)
            if twin := keys.get(key.digest):
                self._fail(("keys", name, "hash"), f'is that of "{twin.caller.name}" too')
            keys[key.digest] = key
        return list(keys.values())

    def _key(self, name: str, table: dict[str, Any], defaults: Caller) -> Key:
        place = ("keys", name)
        if not name:
            self._fail(place, "must have a name")
        self._check_kinds(place, table, _KINDS)
        for limit in _LIMITS:
            if table.get(limit, 0) < 0:
                self._fail((*place, limit), "must not be negative")
        limits = {field: table[field] for field in (*_LIMITS, "priority") if field in table}
        caller = msgspec.structs.replace(defaults, name=name, **limits)
        return Key(caller, self._scopes(place, table), self._digest(place, table))

    def _scopes(self, place: tuple[str, ...], table: dict[str, Any]) -> frozenset[Scope]:
        scopes = table.get("scopes")
        if not scopes:
            missing = f"needs scopes, of {', '.join(SCOPE_NAMES)}"
            self._fail((*place, "scopes") if "scopes" in table else place, missing)
        for scope in scopes:
            if scope not in SCOPE_NAMES:
                self._fail((*place, "scopes"), f"{scope!r} is not a scope; known are {', '.join(SCOPE_NAMES)}")
        return frozenset(map(Scope, scopes))

    def _digest(self, place: tuple[str, ...], table: dict[str, Any]) -> bytes:
        if "hash" not in table:
            self._fail(place, "has no hash; `vllm-wsgi key NAME` makes a key and its hash")
        found = _HASH.match(table["hash"])
        if found is None:
            self._fail((*place, "hash"), 'must be "sha256:" and 64 hexadecimal digits in lower case')
        return bytes.fromhex(found[1])
