"""A TOML file that the operator writes: named tables of one kind. Each mistake is reported with its line."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from ..errors import BadRequest, SettingsError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_POSITION = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)\Z")

Kinds = tuple[type, ...]

_WORDS: dict[Kinds, str] = {
    (str,): "a string",
    (dict,): "a table",
    (list,): "a list",
    (bool,): "true or false",
    (int,): "a whole number",
    (int, float, str): 'seconds or a duration like "5m"',
}


class TomlFile:
    """One file. A place in it is a tuple of the keys that lead there: `("models", "demo", "options")`."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text

    def _tables(self, kind: str, noun: str) -> dict[str, Any]:
        """Return the tables below `kind`, which is the only key that the file may have. Raises SettingsError."""
        try:
            document = tomllib.loads(self._text)
        except tomllib.TOMLDecodeError as error:
            raise self._syntax_error(str(error)) from None
        for key in document:
            if key != kind:
                self._refuse((key,), f'is unknown; a {noun} stands in a table of its own, [{kind}."name"]')
        tables = document.get(kind, {})
        if not isinstance(tables, dict):
            self._refuse((kind,), f'must hold tables, [{kind}."name"]')
        for name, table in tables.items():
            if not isinstance(table, dict):
                self._refuse((kind, name), "must be a table")
        return tables

    def _check_kinds(self, place: tuple[str, ...], table: dict[str, Any], known: Mapping[str, Kinds]) -> None:
        for key, value in table.items():
            kinds = known.get(key)
            if kinds is None:
                self._refuse((*place, key), f"is unknown; known are {', '.join(known)}")
            # For Python a bool is an int.
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                self._refuse((*place, key), f"must be {_WORDS[kinds]}")
            # TOML and the queue have this bound; tomllib has none.
            if isinstance(value, int) and value.bit_length() > 63:
                self._refuse((*place, key), "does not fit into 64 bits")

    def _checked(self, place: tuple[str, ...], parse: Any, value: Any) -> Any:
        try:
            return parse(value)
        except BadRequest as error:
            self._refuse(place, error.message.removeprefix("keep_alive: "))

    def _refuse(self, place: tuple[str, ...], complaint: str) -> NoReturn:
        head, *rest = place
        shown = ".".join([head, *(f'"{key}"' for key in rest[:1]), *rest[1:]])
        raise SettingsError(f"{self._path}, line {line_of(self._text, place)}: {shown}: {complaint}")

    def _syntax_error(self, message: str) -> SettingsError:
        found = _POSITION.search(message)
        line, column = found.groups() if found else (None, None)
        complaint = message[: found.start()] if found else message
        line = line or str(self._text.rstrip("\n").count("\n") + 1)
        return SettingsError(f"{self._path}, line {line}: {complaint}" + (f" (column {column})" if column else ""))


def read_text(path: Path, variable: str) -> str:
    """Return the text of the file that a setting names. Raises SettingsError."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{variable}={path} can't be read: {error}") from None


def line_of(text: str, place: tuple[str, ...]) -> int:
    """Return the line, counted from 1, where a place of a TOML document begins.

    tomllib keeps no line numbers. But the first lines of a document are a document too, unless a value is open at their
    end. The shortest such document that has the place ends where the place ends.
    """
    lines = text.split("\n")
    whole = 0
    for number in range(1, len(lines) + 1):
        try:
            document = tomllib.loads("\n".join(lines[:number]) + "\n")
        except tomllib.TOMLDecodeError:
            continue
        if _holds(document, place):
            return whole + 1
        whole = number
    return 1


def _holds(document: Any, place: tuple[str, ...]) -> bool:
    for key in place:
        if not isinstance(document, dict) or key not in document:
            return False
        document = document[key]
    return True
