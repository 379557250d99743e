"""Make an API key: `python -m service.access.new_key NAME --scope SCOPE >> keys.toml`."""

from __future__ import annotations

import argparse
import hashlib
import secrets
import sys
from collections.abc import Iterable

import msgspec

from .scopes import SCOPE_NAMES


def new_key() -> str:
    """Return 256 random bits as text; the prefix lets a scanner recognize a key that leaked."""
    return f"vllm-wsgi-{secrets.token_urlsafe(32)}"


def lines(name: str, key: str, scopes: Iterable[str]) -> str:
    """Return the lines for a keys.toml, which hold the key's SHA-256 only."""
    digest = hashlib.sha256(key.encode()).hexdigest()
    table, names = msgspec.json.encode(name).decode(), msgspec.json.encode(list(scopes)).decode()
    return f'[keys.{table}]\nhash = "sha256:{digest}"\nscopes = {names}\n'


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m service.access.new_key", description="Make an API key.")
    parser.add_argument("name", help="the name of the key's owner, for logs and limits")
    parser.add_argument(
        "--scope", action="append", choices=SCOPE_NAMES, required=True, help="what the key may do; may be repeated"
    )
    arguments = parser.parse_args()
    key = new_key()
    # On stderr, so that `>> keys.toml` takes the lines and the key stays on the screen.
    print(f"The key, which is shown only this once: {key}", file=sys.stderr)
    print(lines(arguments.name, key, arguments.scope))


if __name__ == "__main__":
    main()
