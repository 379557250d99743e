"""Keys: who may come in, what he may do, and how much. A request's headers and route come in, its Key goes out.

A keys.toml holds a table for each key, by a name of its own; deploy/keys.toml.example tells every field. Of a key only
its SHA-256 is stored. That is enough, since a key is 256 random bits: there is nothing to guess, which is what slow
hashes are for. `vllm-wsgi key NAME --scope SCOPE >> keys.toml` makes one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config import Settings
from ..errors import Forbidden
from ..web.context import KEY
from .addresses import addresses, is_local, presented
from .key_file import ANYONE, Key, KeyFile

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
