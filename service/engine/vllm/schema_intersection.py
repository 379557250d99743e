"""Makes one JSON schema of two that must both hold, keyword by keyword.

Subschemas that meet become an `allOf` of their own, which is merged when it is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from .schema_reports import report

# Two `anyOf` make one with a branch for each pair.
MAX_BRANCHES = 64

_NUMBERS = {"minimum": max, "exclusiveMinimum": max, "maximum": min, "exclusiveMaximum": min, "minLength": max,
            "maxLength": min, "minItems": max, "maxItems": min, "minProperties": max, "maxProperties": min}  # fmt: skip
_SCHEMAS = ("items", "additionalProperties", "unevaluatedProperties", "unevaluatedItems", "propertyNames")
_KINDS: dict[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "integer": lambda value: (
        (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer())
    ),
}


def intersection(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any] | None:
    """Return the schema of values that fit both schemas, which have no `$ref` or `allOf`; None when none can."""
    merged = {**first, **second}
    for key in first.keys() & second.keys():
        merged[key] = _both(key, first[key], second[key])
    if isinstance(first.get("properties"), dict) or isinstance(second.get("properties"), dict):
        merged["properties"] = _properties(first, second, merged)
    return fitting(merged)


def both(first: Any, second: Any) -> Any:
    """Return a schema for what fits both of two schemas, which may be booleans."""
    if first is False or second is False:
        return False
    if second is True or first == second:
        return first
    if first is True or first == {}:
        return second
    if second == {}:
        return first
    return {"allOf": [*_branches(first), *_branches(second)]}


def pairs(first: list[Any], second: list[Any]) -> list[Any]:
    """Return the branches of an `anyOf` for what fits one branch of each of two lists."""
    if len(first) * len(second) > MAX_BRANCHES:
        report("two of anyOf and oneOf with many branches")
        return first
    return [both(one, other) for one in first for other in second]


def _branches(schema: Any) -> list[Any]:
    if isinstance(schema, dict) and schema.keys() == {"allOf"} and isinstance(schema["allOf"], list):
        return schema["allOf"]
    return [schema]


def _both(key: str, first: Any, second: Any) -> Any:
    if first == second:
        return first
    if key in _SCHEMAS:
        return both(first, second)
    if key in _NUMBERS and _KINDS["number"](first) and _KINDS["number"](second):
        return _NUMBERS[key](first, second)
    if isinstance(first, list) and isinstance(second, list):
        return _lists(key, first, second)
    if isinstance(first, dict) and isinstance(second, dict) and key in ("properties", "patternProperties"):
        return {name: both(first.get(name, True), second.get(name, True)) for name in {**first, **second}}
    if key == "type":
        return _types(first, second)
    if key == "const":
        return first if _key(first) == _key(second) else _Nothing
    report(f"allOf with two values of {key[:40]}")
    return first


def _lists(key: str, first: list[Any], second: list[Any]) -> Any:
    if key == "required":
        present = _texts(first)
        return [*first, *(name for name in second if isinstance(name, str) and name not in present)]
    if key == "anyOf":
        return pairs(first, second)
    if key == "enum":
        keys = {_key(value) for value in second}
        return [value for value in first if _key(value) in keys] or _Nothing
    if key == "type":
        return _types(first, second)
    if key == "prefixItems" and len(first) == len(second):
        return [both(*items) for items in zip(first, second, strict=True)]
    report(f"allOf with two values of {key}")
    return first


class _Nothing:
    """In place of a keyword's value: no value fits the schema."""


def _texts(values: list[Any]) -> set[str]:
    return {value for value in values if isinstance(value, str)}


def _types(first: Any, second: Any) -> Any:
    lists = [each if isinstance(each, list) else [each] for each in (first, second)]
    one, other = (["number" if each == "number" else each for each in types] for types in lists)
    kept = [each for each in one if each in other or (each == "integer" and "number" in other)]
    kept += [each for each in other if each == "integer" and "number" in one and each not in kept]
    return kept[0] if len(kept) == 1 else kept or _Nothing


def _properties(first: dict[str, Any], second: dict[str, Any], merged: dict[str, Any]) -> Any:
    """Return the properties of both, each with what the other schema says about further properties."""
    one, other = first.get("properties", {}), second.get("properties", {})
    if not isinstance(one, dict) or not isinstance(other, dict):
        return one
    required = _texts(merged["required"]) if isinstance(merged.get("required"), list) else set()
    together = {}
    for name in {**one, **other}:
        further = True
        if name not in one or name not in other:
            closed = first if name not in one else second
            further = closed.get("additionalProperties", True) if not closed.get("patternProperties") else True
        if further is False and name in required:
            # Strictly, no value fits. Such schemas mean the sum of their properties.
            report("additionalProperties beside the properties of another schema")
            further = True
        if (schema := both(one.get(name, True), both(other.get(name, True), further))) is not False:
            together[name] = schema
    return together


def fitting(merged: dict[str, Any]) -> dict[str, Any] | None:
    """Return the schema with those constants alone that fit the rest of it; None when there are none."""
    if any(value is _Nothing for value in merged.values()):
        return None
    values = [merged["const"]] if "const" in merged else merged.get("enum")
    if not isinstance(values, list) or not values:
        return merged
    if "const" in merged and isinstance(merged.get("enum"), list):
        values = values if _key(merged["const"]) in map(_key, merged.pop("enum")) else []
    kinds = merged.get("type")
    if kinds is not None:
        values = [value for value in values if _is_of(value, kinds if isinstance(kinds, list) else [kinds])]
    if values and "const" not in merged:
        merged["enum"] = values
    return merged if values else None


def _is_of(value: Any, kinds: list[Any]) -> bool:
    return any(not isinstance(kind, str) or kind not in _KINDS or _KINDS[kind](value) for kind in kinds)


def _key(value: Any) -> str:
    """Return a text that is the same for the same JSON, in which 1.0 is 1."""
    return json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value, sort_keys=True)
