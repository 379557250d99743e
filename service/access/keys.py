"""Find the key that a request presents, and check what the key may do. `key_file` looks the key up.

A keys.toml holds a table for each key, under the name of its owner; deploy/keys.toml.example shows every field. Only
the SHA-256 of a key is stored. That is enough: slow hashes protect passwords, which can be guessed, and a key is 256
random bits. `vllm-wsgi key NAME --scope SCOPE >> keys.toml` makes a key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config import Settings
from ..errors import Forbidden, ResponseNotFound
from .addresses import addresses, is_local, presented
from .key_file import Key, KeyFile, default_caller
from .scopes import Scope
from .stream_ids import key_of_link


class Auth:
    """The keys of the settings. Raises SettingsError when VLLM_WSGI_KEYS names a file that can't be read."""

    def __init__(self, settings: Settings) -> None:
        self._allow_anyone = settings.allow_anyone
        self._keys = KeyFile(settings) if settings.keys else None
        self._anyone = Key(default_caller(settings))

    def identify(self, environ: Mapping[str, Any]) -> Key:
        """Return the key that a request presents. A server without keys has one for all, with the settings' limits.

        Raises Unauthorized.
        """
        return self._anyone if self._keys is None else self._keys.find(presented(environ))

    def identify_link(self, environ: Mapping[str, Any], token: str, stream: str) -> Key:
        """Return the key that a request presents, or the one that signed its link to a stream.

        Raises Unauthorized for a wrong key, and ResponseNotFound for a link that is expired or not genuine.
        """
        if self._keys is None or presented(environ):
            return self.identify(environ)
        key = key_of_link(token, stream, self._keys.named)
        if key is None:
            raise ResponseNotFound("stream not found")
        return key

    def authorize(self, key: Key, scope: Scope, environ: Mapping[str, Any]) -> None:
        """Raise Forbidden when the key lacks the scope; without keys, when the request is not from this machine."""
        if self._keys is not None:
            key.check(scope)
        elif not (self._allow_anyone or all(map(is_local, addresses(environ)))):
            raise Forbidden(
                "this server has no keys and answers its own machine only; "
                "its operator can name a file of keys in VLLM_WSGI_KEYS, or set VLLM_WSGI_ALLOW_ANYONE=1"
            )
