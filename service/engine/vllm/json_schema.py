"""Turns a client's JSON schema into one that xgrammar enforces, within bounds.

A keyword that can't be enforced is an annotation, as JSON Schema has it for unknown formats (Validation, section 7)
and as Ollama treats it; the log names it once. A bound that is exceeded is the client's mistake: compiling takes time
that grows faster than the schema, and it can't be stopped.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from ...errors import BadRequest

logger = logging.getLogger("vllm_wsgi.worker")

# Measured on one core with a vocabulary of 1,280 tokens: a schema at one of these bounds compiles in 0.2 to 2 s.
MAX_BYTES = 65_536
MAX_DEPTH = 32
MAX_PROPERTIES = 1_000
MAX_OPTIONAL_PROPERTIES = 300
MAX_ENUM_VALUES = 1_000
# OpenAI's bound for an enum of more than 250 values.
MAX_ENUM_CHARACTERS = 15_000
MAX_PATTERN_CHARACTERS = 1_000
# xgrammar 0.2.8 fails to compile more repetitions than these. The second one is of nested ones, multiplied.
MAX_REPETITION = 128
MAX_REPETITIONS = 500
# JavaScript's largest integer: the other bound of a number that has one.
MAX_NUMBER = 9_007_199_254_740_991
# A longer text or list does not fit most contexts, so that a higher bound is not enforced.
MAX_LENGTH = 10_000

FORMATS = {
    "email", "date", "time", "date-time", "duration", "ipv4", "ipv6", "hostname", "uuid", "uri", "uri-reference",
    "uri-template", "json-pointer", "relative-json-pointer",
}  # fmt: skip
# RFC 3339, with at most nine digits behind the second: xgrammar lets them go on without end.
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
_DATE = r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_PATTERNS = {"time": f"^{_TIME}$", "date-time": f"^{_DATE}T{_TIME}$"}
_UNENFORCED = {
    "uniqueItems", "contains", "minContains", "maxContains", "multipleOf", "not", "if", "then", "else",
    "dependentRequired", "dependentSchemas", "dependencies",
}  # fmt: skip
_LENGTHS = ("minLength", "maxLength", "minItems", "maxItems")
_MAPS = ("properties", "patternProperties", "$defs", "definitions")
_LISTS = ("anyOf", "allOf", "prefixItems")
_SINGLES = ("items", "additionalProperties", "unevaluatedProperties", "unevaluatedItems", "propertyNames")
_REPETITION = re.compile(r"\{(\d+)(?:,(\d*))?\}")

# OpenAI's code.
INVALID_SCHEMA = "invalid_json_schema"

_reported: set[str] = set()


def enforceable(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema as xgrammar takes it. Raises BadRequest, which names the keyword and its place."""
    try:
        size = len(json.dumps(schema))
    except RecursionError:
        _fail("#", f"is nested more than {MAX_DEPTH} deep")
    if size > MAX_BYTES:
        _fail("#", f"has {size} bytes, and may have {MAX_BYTES}")
    return _Schema(schema).converted()


class _Schema:
    """One schema, and what has been counted in it so far."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._properties = 0
        self._enum_values = 0
        self._enum_characters = 0

    def converted(self) -> dict[str, Any]:
        converted: dict[str, Any] = self._convert(self._root, "#", 0)
        return converted

    def _convert(self, schema: Any, place: str, depth: int) -> Any:
        if not isinstance(schema, dict):
            return schema
        if depth > MAX_DEPTH:
            _fail(place, f"is nested more than {MAX_DEPTH} deep")
        schema = self._merged(_without_nulls(schema), place)
        _check_values(schema, place)
        self._check(schema, place)
        _modernize(schema)
        _close_range(schema)
        _drop_unenforced(schema)
        for key in _MAPS:
            if isinstance(schema.get(key), dict):
                schema[key] = {
                    name: self._convert(each, f"{place}/{key}/{name}", depth + 1) for name, each in schema[key].items()
                }
        for key in _LISTS:
            if isinstance(schema.get(key), list):
                schema[key] = [
                    self._convert(each, f"{place}/{key}/{number}", depth + 1) for number, each in enumerate(schema[key])
                ]
        for key in _SINGLES:
            if key in schema:
                schema[key] = self._convert(schema[key], f"{place}/{key}", depth + 1)
        return schema

    def _merged(self, schema: dict[str, Any], place: str) -> dict[str, Any]:
        """Merge the branches of an `allOf` into the schema: xgrammar takes one branch at the most."""
        branches = schema.get("allOf")
        if not isinstance(branches, list) or len(branches) < 2:
            return schema
        del schema["allOf"]
        for number, branch in enumerate(branches):
            resolved = self._resolved(branch, f"{place}/allOf/{number}")
            for key, value in resolved.items() if isinstance(resolved, dict) else ():
                _merge(schema, key, value)
        return schema

    def _check(self, schema: dict[str, Any], place: str) -> None:
        if "$ref" in schema:
            self._resolved(schema, place)
        properties = schema.get("properties")
        if isinstance(properties, dict):
            self._properties += len(properties)
            required = schema.get("required")
            optional = len(properties) - (len(required) if isinstance(required, list) else 0)
            if self._properties > MAX_PROPERTIES:
                _fail(f"{place}/properties", f"the schema has more than {MAX_PROPERTIES} properties")
            if optional > MAX_OPTIONAL_PROPERTIES:
                _fail(f"{place}/properties", f"has more than {MAX_OPTIONAL_PROPERTIES} optional properties")
        if isinstance(values := schema.get("enum"), list):
            self._enum_values += len(values)
            self._enum_characters += sum(len(value) for value in values if isinstance(value, str))
            if self._enum_values > MAX_ENUM_VALUES:
                _fail(f"{place}/enum", f"the schema has more than {MAX_ENUM_VALUES} enum values")
            if self._enum_characters > MAX_ENUM_CHARACTERS:
                _fail(f"{place}/enum", f"the schema's enum values have more than {MAX_ENUM_CHARACTERS} characters")
        if isinstance(pattern := schema.get("pattern"), str):
            check_pattern(pattern, f"{place}/pattern")

    def _resolved(self, schema: Any, place: str) -> Any:
        """Follow `$ref` to a schema that has no `$ref`. Raises BadRequest when there is no such schema."""
        seen: set[str] = set()
        while isinstance(schema, dict) and "$ref" in schema:
            reference = schema["$ref"]
            if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
                _fail(f"{place}/$ref", "only references inside the schema are supported: # and #/…")
            if reference in seen:
                _fail(f"{place}/$ref", f"{reference} refers to itself")
            seen.add(reference)
            schema = self._at(reference, f"{place}/$ref")
        return schema

    def _at(self, reference: str, place: str) -> Any:
        """Return what a JSON pointer (RFC 6901) points to."""
        found: Any = self._root
        for part in reference.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            # Python converts no number of thousands of digits.
            if isinstance(found, list) and key.isdecimal() and len(key) < 10 and int(key) < len(found):
                found = found[int(key)]
            elif isinstance(found, dict) and key in found:
                found = found[key]
            else:
                _fail(place, f"there is nothing at {reference}")
        return found


def _without_nulls(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a copy without keywords that are null, which some generators of schemas write for absent ones."""
    return {key: value for key, value in schema.items() if value is not None or key in ("const", "default")}


def _check_values(schema: dict[str, Any], place: str) -> None:
    """Raise BadRequest for a value that xgrammar would refuse without a word that its user knows."""
    for key in (*_LENGTHS, "minProperties", "maxProperties"):
        value = schema.get(key, 0)
        if isinstance(value, float) and value.is_integer():
            # JSON Schema has one kind of number, in which 2.0 is an integer.
            value = schema[key] = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            _fail(f"{place}/{key}", "must be a whole number, 0 or more")
    for key in ("pattern", "format"):
        if not isinstance(schema.get(key, ""), str):
            _fail(f"{place}/{key}", "must be a string")


def check_pattern(pattern: str, place: str) -> None:
    """Raise BadRequest for a pattern that is too long, or that repeats too much."""
    if len(pattern) > MAX_PATTERN_CHARACTERS:
        _fail(place, f"has {len(pattern)} characters, and may have {MAX_PATTERN_CHARACTERS}")
    repetitions = 1
    for least, most in _REPETITION.findall(pattern):
        times = max(1, int((most or least)[:9]))
        if times > MAX_REPETITION:
            _fail(place, f"repeats something {times} times, and may repeat it {MAX_REPETITION} times")
        repetitions *= times
    if repetitions > MAX_REPETITIONS:
        _fail(place, f"has repetitions of {repetitions} in all, and may have {MAX_REPETITIONS}")


def patterns(schema: Any, place: str = "#") -> Iterator[tuple[str, str]]:
    """Yield each pattern of a schema with its place."""
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key == "pattern" and isinstance(value, str):
                yield f"{place}/pattern", value
            elif key == "patternProperties" and isinstance(value, dict):
                yield from ((f"{place}/patternProperties", name) for name in value)
            if key not in ("enum", "const", "default", "examples"):
                yield from patterns(value, f"{place}/{key}")
    elif isinstance(schema, list):
        for number, value in enumerate(schema):
            yield from patterns(value, f"{place}/{number}")


def _merge(schema: dict[str, Any], key: str, value: Any) -> None:
    present = schema.get(key)
    if isinstance(present, dict) and isinstance(value, dict):
        schema[key] = {**value, **present}
    elif isinstance(present, list) and isinstance(value, list) and key == "required":
        schema[key] = [*present, *(name for name in value if name not in present)]
    elif key not in schema:
        schema[key] = value
    elif present != value:
        _report(f"allOf with two values of {key}")


def _modernize(schema: dict[str, Any]) -> None:
    """Write older keywords as draft 2020-12 has them. xgrammar has one meaning for `oneOf` and `anyOf`.

    In draft 4, and so in OpenAPI 3.0, an exclusive bound is a boolean beside the bound.
    """
    for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(schema.get(exclusive), bool) and schema.pop(exclusive) and bound in schema:
            schema[exclusive] = schema.pop(bound)
    if isinstance(schema.get("items"), list):
        schema["prefixItems"] = schema.pop("items")
        schema["items"] = schema.pop("additionalItems", True)
    if isinstance(schema.get("oneOf"), list):
        branches = schema.pop("oneOf")
        schema["anyOf"] = (
            [*schema.get("anyOf", []), *branches] if isinstance(schema.get("anyOf", []), list) else branches
        )


def _close_range(schema: dict[str, Any]) -> None:
    """Give a number with one bound the other one, since xgrammar lets its digits go on without end."""
    low, high = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")
    lows, highs = ([schema[key] for key in keys if _is_number(schema.get(key))] for keys in (low, high))
    if lows and not highs and max(lows) < MAX_NUMBER:
        schema["maximum"] = MAX_NUMBER
    if highs and not lows and min(highs) > -MAX_NUMBER:
        schema["minimum"] = -MAX_NUMBER


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _drop_unenforced(schema: dict[str, Any]) -> None:
    dropped = {key for key in _UNENFORCED if key in schema}
    named_format = schema.get("format")
    if isinstance(named_format, str) and named_format not in FORMATS:
        _report(f"format {named_format[:40]}")
        del schema["format"]
    elif named_format in _PATTERNS and "pattern" not in schema:
        schema["pattern"] = _PATTERNS[schema.pop("format")]
    if "pattern" in schema or "format" in schema:
        dropped |= {key for key in ("minLength", "maxLength") if key in schema}
    if "patternProperties" in schema and "properties" in schema:
        dropped.add("patternProperties")
    if "propertyNames" in schema and ("properties" in schema or "patternProperties" in schema):
        dropped.add("propertyNames")
    for key in _LENGTHS:
        if isinstance(schema.get(key), int) and schema[key] > MAX_LENGTH:
            dropped.add(key)
    for key in dropped:
        _report(key)
        del schema[key]


def _report(keyword: str) -> None:
    """Log a keyword that is not enforced, once in this process. Clients choose formats, so their number is bounded."""
    if keyword not in _reported and len(_reported) < 200:
        _reported.add(keyword)
        logger.warning("structured output: not enforced: %r", keyword)


def _fail(place: str, reason: str) -> NoReturn:
    raise invalid_schema(place, reason)


def invalid_schema(place: str, reason: str) -> BadRequest:
    """Return the refusal of a schema. The place is a JSON pointer into it, and the code is OpenAI's."""
    return BadRequest(f"invalid JSON schema: {place[:200]}: {reason}", code=INVALID_SCHEMA)
