"""Lines of a keys.toml for tests: the text of a key is its name."""

from __future__ import annotations

from pathlib import Path

from service.access.new_key import lines
from service.access.scopes import SCOPE_NAMES


def table(name: str, *scopes: str, more: str = "") -> str:
    """Return the lines of one key; `more` is further lines of its table."""
    return f"{lines(name, name, scopes)}{more}\n"


def write_keys(directory: Path) -> Path:
    """Write a keys.toml with one key for each scope, which bears the scope's name."""
    path = directory / "keys.toml"
    path.write_text("\n".join(table(scope, scope) for scope in SCOPE_NAMES))
    return path
