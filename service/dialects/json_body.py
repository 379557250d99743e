"""Decode a request's JSON body as leniently as Go does.

Errors have the texts of Go's `encoding/json`, because Ollama's clients know those. As in Ollama (`server/routes.go`,
`ShouldBindJSON`), only the first JSON value is read, and the last of two equal keys wins. Bytes that are not UTF-8,
and lone surrogates, become U+FFFD.
"""

from __future__ import annotations

import json
import re
from itertools import takewhile
from typing import Any, NoReturn

from ..errors import BadRequest
from ..syntax.numbers import INT64
from .fields import KINDS

_SYNTAX = {
    "Expecting value": "looking for beginning of value",
    "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
    "Illegal trailing comma before end of object": "looking for beginning of object key string",
    "Illegal trailing comma before end of array": "looking for beginning of value",
    "Expecting ':' delimiter": "after object key",
    "Expecting ',' delimiter": "after object key:value pair",
    "Invalid control character at": "in string literal",
    "Invalid \\escape": "in string escape code",
    "Invalid \\uXXXX escape": "in \\u hexadecimal character escape",
}
# The escape of half a character outside of the basic plane. Many Korean syllables begin with the same two letters.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
# JSON's white space, which is less than Python's.
_SPACE = " \t\r\n"

# Each process that the value passes through walks it by recursion, so its depth is bounded.
MAX_DEPTH = 100
# Each is replaced by a call of Python's error handler, and a body has room for five million of them.
MAX_LONE_SURROGATES = 10_000
_TOO_DEEP = f"exceeded max depth {MAX_DEPTH}"


def _refuse_constant(name: str) -> NoReturn:
    raise BadRequest(f"invalid character '{name[0]}' looking for beginning of value")


def _integer(text: str) -> int | float:
    value = int(text) if len(text) <= len("-9223372036854775808") else None
    return value if value is not None and value in INT64 else float(text)


_decoder = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_integer)
# Several times as fast for lists of token ids, and right where every integer has 64 bits at most.
_quick_decoder = json.JSONDecoder(parse_constant=_refuse_constant)


def parse_json(
    data: bytes, struct: str, empty: str = "missing request body", long_numbers: bool = False
) -> dict[str, Any]:
    """Return the object in `data`. Raise BadRequest if there is none; its text is `empty` if the body is empty.

    `struct` is the name of Go's type for the request, with its package: "api.ChatRequest". With `long_numbers` the
    body may have integers of very many digits: the result is the same, and the time grows with them, not their square.
    """
    # Of bytes, thirty million spaces are stripped in half the time.
    text = data.lstrip(_SPACE.encode()).decode("utf-8", errors="replace")
    if not text:
        raise BadRequest(empty)
    try:
        value = _decode_exactly(text) if long_numbers else _decode(text)
    except json.JSONDecodeError as error:
        raise BadRequest(_explain(text, error)) from None
    except RecursionError:
        raise BadRequest(_TOO_DEEP) from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadRequest(f"json: cannot unmarshal {KINDS[type(value)]} into Go value of type {struct}")
    # Only an escape can be one, since bytes of a surrogate are not UTF-8.
    if not _SURROGATE.search(data) or not _count_lone_surrogates(value):
        return value
    fields: dict[str, Any] = _clean(value, MAX_DEPTH)
    return fields


def _decode(text: str) -> Any:
    """Return the first value. Raise JSONDecodeError, RecursionError, and BadRequest for a value that is too deep."""
    try:
        value, _ = _quick_decoder.raw_decode(text)
        if not _has_long_integer(value):
            return value
    except json.JSONDecodeError:
        raise
    except ValueError:
        # Python converts no more than 4,300 digits.
        pass
    return _decode_exactly(text)


def _decode_exactly(text: str) -> Any:
    value, _ = _decoder.raw_decode(text)
    _has_long_integer(value)
    return value


def _has_long_integer(value: Any) -> bool:
    """Return whether an integer of more than 64 bits is in a value. Raise BadRequest if it is nested too deeply."""
    level, found = [value], False
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for outer in level:
            kind = type(outer)
            if kind is dict:
                below += outer.values()
            elif kind is list:
                below += outer
            elif kind is int and outer not in INT64:
                found = True
        if not below:
            return found
        level = below
    raise BadRequest(_TOO_DEEP)


def _explain(text: str, error: json.JSONDecodeError) -> str:
    if error.msg == "Unterminated string starting at" or not text[error.pos :].strip(_SPACE):
        return "unexpected EOF"
    # From Python 3.13 on, the place of a trailing comma is the comma itself; Go names what follows it.
    place = error.pos + error.msg.startswith("Illegal trailing comma")
    rest = text[place:].lstrip(_SPACE)
    for word in ("true", "false", "null"):
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(word, rest)))
        if common == len(rest):
            return "unexpected EOF"
        if common:
            return f"invalid character {_character(rest[common])} in literal {word} (expecting '{word[common]}')"
    return f"invalid character {_character(rest[0])} {_SYNTAX.get(error.msg, 'in JSON')}"


def _character(character: str) -> str:
    if character == "'":
        return "'\\''"
    if character == "\ufeff":
        # Go reads bytes, and the first byte of this character is 0xEF.
        return "'ï'"
    return f"'{character}'" if character.isprintable() else f"'\\x{ord(character):02x}'"


def _count_lone_surrogates(value: dict[str, Any]) -> int:
    """Return how many a value has. Raise BadRequest for too many. It may not be nested too deeply."""
    level, found = [value], 0
    while level:
        below: list[Any] = []
        for each in level:
            if isinstance(each, str) and not _is_clean(each):
                # In UTF-8, a surrogate would have three bytes.
                found += (len(each.encode("utf-8", "surrogatepass")) - len(each.encode("utf-8", "ignore"))) // 3
                if found > MAX_LONE_SURROGATES:
                    raise BadRequest(f"the body has more than {MAX_LONE_SURROGATES} lone surrogates")
            elif isinstance(each, dict):
                below += each.keys()
                below += each.values()
            elif isinstance(each, list):
                below += each
        level = below
    return found


def _is_clean(text: str) -> bool:
    """Return whether a text has no lone surrogate. This is several times as quick as to replace what is not there."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _clean(value: Any, depth: int) -> Any:
    """Return the value without lone surrogates, which UTF-8 can't hold. Raise BadRequest if it is nested too deeply."""
    if isinstance(value, str):
        return value if _is_clean(value) else value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if not isinstance(value, (list, dict)):
        return value
    if depth == 0:
        raise BadRequest(_TOO_DEEP)
    if isinstance(value, list):
        return [_clean(item, depth - 1) for item in value]
    return {_clean(name, 0): _clean(item, depth - 1) for name, item in value.items()}
