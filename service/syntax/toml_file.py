"""A TOML file that the operator writes: named tables of one kind. Each mistake is reported with its line."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from ..errors import BadRequest, SettingsError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_POSITION = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)\Z")

# Longer files are refused before they are parsed, which takes about a second for each megabyte.
MAX_BYTES = 4 * 1024 * 1024
# The search for the line of a mistake parses parts of the file again, up to this many bytes in all.
SEARCH_BYTES = 2 * 1024 * 1024

# A message shows this many characters of a key or a value.
SHOWN = 200
# Keys of more parts, between dots, are refused.
MAX_PARTS = 100
_PART = r"""(?:[^\s."'\[\]{}=,#]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_DOTTED = re.compile(rf"(?<![^\s.\[\]{{}}=,#])(?:{_PART}[ \t]*\.[ \t]*){{{MAX_PARTS}}}")

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
        self._check_dots()
        try:
            document = tomllib.loads(self._text)
        except tomllib.TOMLDecodeError as error:
            raise self._syntax_error(str(error)) from None
        except (RecursionError, ValueError) as error:
            # tomllib has no bound of its own for depth, and Python's for digits is not a syntax error.
            raise SettingsError(f"{self._path}: can't be read: {error}") from None
        for key in document:
            if key != kind:
                self._fail((key,), f'is unknown; a {noun} stands in a table of its own, [{kind}."name"]')
        tables = document.get(kind, {})
        if not isinstance(tables, dict):
            self._fail((kind,), f'must hold tables, [{kind}."name"]')
        for name, table in tables.items():
            if not isinstance(table, dict):
                self._fail((kind, name), "must be a table")
        return tables

    def _check_dots(self) -> None:
        """Refuse a key of very many parts: the time that tomllib takes for one grows with their square."""
        for number, line in enumerate(self._text.split("\n"), 1):
            if line.count(".") > MAX_PARTS and _DOTTED.search(line):
                raise SettingsError(f"{self._path}, line {number}: a key has more than {MAX_PARTS} parts")

    def _check_kinds(self, place: tuple[str, ...], table: dict[str, Any], known: Mapping[str, Kinds]) -> None:
        for key, value in table.items():
            kinds = known.get(key)
            if kinds is None:
                self._fail((*place, key), f"is unknown; known are {', '.join(known)}")
            # For Python a bool is an int.
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                self._fail((*place, key), f"must be {_WORDS[kinds]}")
            # TOML and the queue have this bound; tomllib has none.
            if isinstance(value, int) and value.bit_length() > 63:
                self._fail((*place, key), "does not fit into 64 bits")

    def _checked(self, place: tuple[str, ...], parse: Any, value: Any) -> Any:
        try:
            return parse(value)
        except BadRequest as error:
            self._fail(place, error.message.removeprefix("keep_alive: "))

    def _fail(self, place: tuple[str, ...], complaint: str) -> NoReturn:
        head, *rest = place
        shown = ".".join([head, *(f'"{key}"' for key in rest[:1]), *rest[1:]])
        line = line_of(self._text, place)
        where = f"{self._path}, line {line}" if line else str(self._path)
        raise SettingsError(f"{where}: {_short(shown)}: {_short(complaint)}")

    def _syntax_error(self, message: str) -> SettingsError:
        found = _POSITION.search(message)
        line, column = found.groups() if found else (None, None)
        complaint = message[: found.start()] if found else message
        line = line or str(self._text.rstrip("\n").count("\n") + 1)
        return SettingsError(
            f"{self._path}, line {line}: {_short(complaint)}" + (f" (column {column})" if column else "")
        )


def read_text(path: Path, variable: str) -> str:
    """Return the text of the file that a setting names. Raises SettingsError, also for a file over MAX_BYTES."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise SettingsError(f"{variable}={path} can't be read: it is longer than {MAX_BYTES} bytes")
        return data.decode("utf-8").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{variable}={path} can't be read: {error}") from None


@contextmanager
def as_settings_error(path: Path) -> Iterator[None]:
    """Raise SettingsError for what Python can't hold or show, and what tomllib does not report as a mistake of syntax.

    Values that are nested too deeply are a RecursionError there, and numbers of thousands of digits a ValueError.
    """
    try:
        yield
    except RecursionError:
        raise SettingsError(f"{path} can't be read: its values are nested too deeply") from None
    except (ValueError, OverflowError) as error:
        raise SettingsError(f"{path} can't be read: {_short(str(error))}") from None


def _short(text: str) -> str:
    """Cut what comes from the file, so that a log's line stays one that can be read."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def line_of(text: str, place: tuple[str, ...]) -> int | None:
    """Return the line, counted from 1, where a place of a TOML document begins; None when the search takes too long.

    tomllib keeps no line numbers. But the first lines of a document are a document too, unless a value is open at their
    end. The place begins after the longest such document that lacks it, which is found by bisection.
    """
    lines = text.split("\n")
    lacks, has, left = 0, len(lines), SEARCH_BYTES
    while lacks + 1 < has:
        middle = (lacks + has) // 2
        for number in range(middle, has):
            start = "\n".join(lines[:number]) + "\n"
            left -= len(start)
            if left < 0:
                return None
            document = _document(start)
            if document is None:
                continue
            if _holds(document, place):
                has = number
            else:
                lacks = number
            break
        else:
            # A value is open at the end of each of these lines.
            has = middle
    return lacks + 1


def _document(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        return None


def _holds(document: Any, place: tuple[str, ...]) -> bool:
    for key in place:
        if not isinstance(document, dict) or key not in document:
            return False
        document = document[key]
    return True
