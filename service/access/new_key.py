"""Make an API key, and the lines of a keys.toml that belong to it. `vllm-wsgi key` prints both."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable

import msgspec


def new_key() -> str:
    """Return a new key of 256 random bits. Its prefix is for programs that search texts for leaked keys."""
    return f"vllm-wsgi-{secrets.token_urlsafe(32)}"


def lines(name: str, key: str, scopes: Iterable[str]) -> str:
    """Return the table of a keys.toml for this key. It holds the key's hash, not the key."""
    digest = hashlib.sha256(key.encode()).hexdigest()
    table, names = msgspec.json.encode(name).decode(), msgspec.json.encode(list(scopes)).decode()
    return f'[keys.{table}]\nhash = "sha256:{digest}"\nscopes = {names}\n'
