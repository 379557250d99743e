"""Make an API key: `python -m service.access.new_key NAME --scope SCOPE >> keys.toml`."""

from __future__ import annotations

import argparse
import hashlib
import secrets
import sys
from collections.abc import Iterable

import msgspec

from .key_file import SCOPES


def new_key() -> str:
    """256 random bits; the prefix is for those who search texts for keys that leaked."""
    return f"vllm-wsgi-{secrets.token_urlsafe(32)}"


def lines(name: str, key: str, scopes: Iterable[str]) -> str:
    """What a keys.toml holds of a key."""
    digest = hashlib.sha256(key.encode()).hexdigest()
    table, names = msgspec.json.encode(name).decode(), msgspec.json.encode(list(scopes)).decode()
    return f'[keys.{table}]\nhash = "sha256:{digest}"\nscopes = {names}\n'


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m service.access.new_key", description="Makes an API key.")
    parser.add_argument("name", help="whose key it is, for logs and limits")
    parser.add_argument("--scope", action="append", choices=SCOPES, required=True, help="may be given several times")
    arguments = parser.parse_args()
    key = new_key()
    # Apart, so that `>> keys.toml` takes the lines and the key stays on the screen.
    print(f"The key, which is shown this once: {key}", file=sys.stderr)
    print(lines(arguments.name, key, arguments.scope))


if __name__ == "__main__":
    main()
