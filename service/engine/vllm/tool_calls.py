"""Puts the pieces of tool calls together, and decides which of the calls are whole."""

from __future__ import annotations

import json
import secrets
import string
from typing import Any, NamedTuple, NoReturn

_ID_ALPHABET = string.ascii_lowercase + string.digits


class ParsedCall(NamedTuple):
    """A call whose arguments are a JSON object."""

    name: str
    arguments: dict[str, Any]


class CallPieces:
    """The calls that a parser has begun to report. Names and arguments come in pieces, by the index of their call."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._arguments: dict[int, str] = {}
        self._taken = -1

    def __bool__(self) -> bool:
        return bool(self._names)

    @property
    def newest(self) -> int:
        """The index of the newest call; -1 when there is none."""
        return max(self._names, default=-1)

    def add(self, index: int, name: str, arguments: str) -> None:
        """Add a piece. A piece of a call that was taken already is dropped: some parsers lag behind the text."""
        if index > self._taken:
            self._names[index] = self._names.get(index) or name
            self._arguments[index] = self._arguments.get(index, "") + arguments

    def take(self) -> list[ParsedCall | None]:
        """Take all calls; None in place of a call that is not whole."""
        self._taken = max(self._taken, self.newest)
        calls = [parsed_call(self._names[index], self._arguments[index]) for index in sorted(self._names)]
        self._names, self._arguments = {}, {}
        return calls

    def skip(self, calls: int) -> None:
        """Drop the pieces of the next calls, which were read from the text before the parser reported them."""
        self._taken += calls


def parsed_call(name: str, arguments: str) -> ParsedCall | None:
    """Return a call that has ended; None when it has no name, or its arguments are not a JSON object.

    A call without parameters may have no arguments at all.
    """
    try:
        values = json.loads(arguments or "{}", parse_constant=_refuse)
        if isinstance(values, str):
            # Some models write their arguments as a JSON text in JSON.
            values = json.loads(values, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return ParsedCall(name, values) if name and isinstance(values, dict) else None


def call_record(index: int, call: ParsedCall) -> dict[str, Any]:
    """Return a call as Ollama's clients get it (`api/types.go`, ToolCall). `index` counts the answer's calls from 0."""
    identity = "call_" + "".join(secrets.choice(_ID_ALPHABET) for _ in range(8))
    return {"id": identity, "function": {"index": index, "name": call.name, "arguments": call.arguments}}


def is_json(text: str) -> bool:
    """Return whether the text is one JSON value."""
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON value")
