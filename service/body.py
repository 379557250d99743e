"""A request's JSON body, as lenient as Go's decoder is, and its fields by type.

What is wrong is said as Go's `encoding/json` says it, since that is what Ollama's clients know; every text names
the field. Leniency (reference: Ollama's `server/routes.go`, `ShouldBindJSON`): only the first JSON value is read, the
case of a key does not matter, null is the same as absent, the last of two equal keys wins, bytes that are not UTF-8 and
lone surrogates become U+FFFD.
"""

from __future__ import annotations

import json
import math
from itertools import takewhile
from typing import Any, NoReturn

from .errors import BadRequest

_SYNTAX = {
    "Expecting value": "looking for beginning of value",
    "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
    "Illegal trailing comma before end of object": "looking for beginning of object key string",
    "Expecting ':' delimiter": "after object key",
    "Expecting ',' delimiter": "after object key:value pair",
    "Invalid control character at": "in string literal",
    "Invalid \\escape": "in string escape code",
    "Invalid \\uXXXX escape": "in \\u hexadecimal character escape",
}
# JSON's, which are fewer than Python's.
_SPACE = " \t\r\n"
_KINDS = {str: "string", bool: "bool", int: "number", float: "number", list: "array", dict: "object"}
# Every process that the value goes through walks it by recursion.
MAX_DEPTH = 100
_TOO_DEEP = f"exceeded max depth {MAX_DEPTH}"
# Beyond these a number is no int64 and can't cross the queue.
_INT64 = range(-(2**63), 2**63)


def _refuse_constant(name: str) -> NoReturn:
    raise BadRequest(f"invalid character '{name[0]}' looking for beginning of value")


def _integer(text: str) -> int | float:
    value = int(text) if len(text) <= len("-9223372036854775808") else None
    return value if value is not None and value in _INT64 else float(text)


_decoder = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_integer)


def parse_json(data: bytes, struct: str, empty: str = "missing request body") -> dict[str, Any]:
    """The object in `data`; `struct` is what Go calls the request, with its package: "api.ChatRequest".

    Raises BadRequest; where nothing was sent its text is `empty`.
    """
    text = data.decode("utf-8", errors="replace").lstrip(_SPACE)
    if not text:
        raise BadRequest(empty)
    try:
        value, _ = _decoder.raw_decode(text)
    except json.JSONDecodeError as error:
        raise BadRequest(_explain(text, error)) from None
    except RecursionError:
        raise BadRequest(_TOO_DEEP) from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadRequest(f"json: cannot unmarshal {_KINDS[type(value)]} into Go value of type {struct}")
    fields: dict[str, Any] = _clean(value, MAX_DEPTH)
    return fields


def _explain(text: str, error: json.JSONDecodeError) -> str:
    if error.msg == "Unterminated string starting at" or not text[error.pos :].strip(_SPACE):
        return "unexpected EOF"
    rest = text[error.pos :].lstrip(_SPACE)
    for word in ("true", "false", "null"):
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(word, rest, strict=False)))
        if common == len(rest):
            return "unexpected EOF"
        if common:
            return f"invalid character {_character(rest[common])} in literal {word} (expecting '{word[common]}')"
    return f"invalid character {_character(rest[0])} {_SYNTAX.get(error.msg, 'in JSON')}"


def _character(character: str) -> str:
    if character == "'":
        return "'\\''"
    if character == "\ufeff":
        # Go reads bytes, and this one's first is 0xEF.
        return "'ï'"
    return f"'{character}'" if character.isprintable() else f"'\\x{ord(character):02x}'"


def _clean(value: Any, depth: int) -> Any:
    """The value without lone surrogates, which UTF-8 can't hold; raises BadRequest where it nests too deep."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if not isinstance(value, list | dict):
        return value
    if depth == 0:
        raise BadRequest(_TOO_DEEP)
    if isinstance(value, list):
        return [_clean(item, depth - 1) for item in value]
    return {_clean(name, 0): _clean(item, depth - 1) for name, item in value.items()}


class Fields:
    """The fields of an object, by type. Every reader raises BadRequest that names the field."""

    def __init__(self, values: dict[str, Any], struct: str, path: str = "") -> None:
        self._values = {name.lower(): value for name, value in values.items() if value is not None}
        self._struct = struct
        self._path = path

    def get(self, name: str) -> Any:
        """The value as it came; None where it is absent."""
        return self._values.get(name)

    def string(self, name: str, default: str = "") -> str:
        value = self._values.get(name, default)
        return value if isinstance(value, str) else self._refuse(name, value, "string")

    def boolean(self, name: str, default: bool) -> bool:
        value = self._values.get(name, default)
        return value if isinstance(value, bool) else self._refuse(name, value, "bool")

    def integer(self, name: str, default: int = 0) -> int:
        value = as_integer(self._values.get(name, default))
        return value if value is not None else self._refuse(name, self._values[name], "int")

    def number(self, name: str) -> float | None:
        """None where it is absent."""
        value = self._values.get(name)
        if value is None:
            return None
        number = as_number(value)
        return number if number is not None else self._refuse(name, value, "float64")

    def integers(self, name: str) -> list[int]:
        values = self.array(name, "[]int")
        integers = [as_integer(item) for item in values]
        for item, integer in zip(values, integers, strict=True):
            if integer is None:
                self._refuse(name, item, "int")
        return [integer for integer in integers if integer is not None]

    def array(self, name: str, go_type: str) -> list[Any]:
        value = self._values.get(name, [])
        return value if isinstance(value, list) else self._refuse(name, value, go_type)

    def strings(self, name: str, array_type: str, item_type: str) -> list[str]:
        """The strings of a list, without its nulls."""
        items = [item for item in self.array(name, array_type) if item is not None]
        for item in items:
            if not isinstance(item, str):
                self._refuse(name, item, item_type)
        return items

    def mapping(self, name: str, go_type: str = "map[string]interface {}") -> dict[str, Any]:
        value = self._values.get(name, {})
        return value if isinstance(value, dict) else self._refuse(name, value, go_type)

    def strings_by_name(self, name: str) -> dict[str, str]:
        values = self.mapping(name, "map[string]string")
        for value in values.values():
            if not isinstance(value, str):
                self._refuse(name, value, "string")
        return values

    def child(self, name: str, go_type: str) -> Fields:
        """An object; one without fields where it is absent."""
        return Fields(self.mapping(name, go_type), self._struct, f"{self._path}{name}.")

    def children(self, name: str, array_type: str, item_type: str) -> list[Fields]:
        """The objects of a list."""
        items = self.array(name, array_type)
        for item in items:
            if not isinstance(item, dict):
                self._refuse(name, item, item_type)
        return [Fields(item, self._struct, f"{self._path}{name}.") for item in items]

    def _refuse(self, name: str, value: Any, go_type: str) -> NoReturn:
        kind = _KINDS.get(type(value), "null")
        if kind == "number" and go_type.endswith("int"):
            kind = f"number {value}"
        field = f"{self._struct}.{self._path}{name}"
        raise BadRequest(f"json: cannot unmarshal {kind} into Go struct field {field} of type {go_type}")


def as_number(value: Any) -> int | float | None:
    """What JSON calls a number; None for anything else."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def as_integer(value: Any) -> int | None:
    """An int, or a float without a fraction, as Home Assistant sends for num_ctx; None for anything else."""
    if as_number(value) is None:
        return None
    if isinstance(value, float) and not (math.isfinite(value) and value.is_integer()):
        return None
    return int(value) if int(value) in _INT64 else None
