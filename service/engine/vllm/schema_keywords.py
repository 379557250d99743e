"""Writes the keywords of one JSON schema as xgrammar enforces them, and leaves out those that it can't."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, NamedTuple

from .schema_intersection import pairs
from .schema_reports import fail, report
from .schema_texts import FORMATS, IN_ASCII, MAX_LENGTH, settle_text

# JavaScript's largest integer: the other bound of a number that has one.
MAX_NUMBER = 9_007_199_254_740_991
# xgrammar's largest integer.
_MAX_INTEGER = 2**63 - 1

UNENFORCED = {
    "uniqueItems", "contains", "minContains", "maxContains", "multipleOf", "not", "if", "then", "else",
    "dependentRequired", "dependentSchemas", "dependencies",
}  # fmt: skip
_LENGTHS = ("minLength", "maxLength", "minItems", "maxItems")
_LOW, _HIGH = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")
_KINDS = {
    "string": ("minLength", "maxLength", "pattern"), "number": (*_LOW, *_HIGH, "multipleOf"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "object": ("properties", "patternProperties", "additionalProperties", "propertyNames", "required"),
}  # fmt: skip


class _Size(NamedTuple):
    """The keywords for the size of a list or an object, for its known parts, and for further ones."""

    kind: str
    least: str
    most: str
    named: str
    further: tuple[str, ...]


_SIZES = (
    _Size("array", "minItems", "maxItems", "prefixItems", ("items", "unevaluatedItems")),
    _Size(
        "object",
        "minProperties",
        "maxProperties",
        "properties",
        ("additionalProperties", "patternProperties", "propertyNames", "unevaluatedProperties"),
    ),
)
# xgrammar cuts a bound behind these.
_STEP = Decimal("0.000001")


def normalized(schema: dict[str, Any], place: str) -> dict[str, Any]:
    """Return a copy in the terms of draft 2020-12, without keywords that are null. Some generators write those.

    Raises BadRequest for a value that xgrammar would refuse without a word that its user knows.
    """
    schema = {key: value for key, value in schema.items() if value is not None or key in ("const", "default")}
    for key in (*_LENGTHS, "minProperties", "maxProperties"):
        value = schema.get(key, 0)
        if isinstance(value, float) and value.is_integer():
            # JSON Schema has one kind of number, in which 2.0 is an integer.
            value = schema[key] = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            fail(f"{place}/{key}", "must be a whole number, 0 or more")
    for key in ("pattern", "format"):
        if not isinstance(schema.get(key, ""), str):
            fail(f"{place}/{key}", "must be a string")
    _modernize(schema)
    return schema


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
        branches, others = schema.pop("oneOf"), schema.get("anyOf")
        schema["anyOf"] = pairs(others, branches) if isinstance(others, list) else branches


def settle(schema: dict[str, Any]) -> None:
    """Change a merged schema to what xgrammar enforces, and report what it does not."""
    _infer_type(schema)
    _settle_range(schema)
    _close_range(schema)
    _name_properties(schema)
    _require(schema)
    for sizes in _SIZES:
        _open(schema, sizes)
    _drop_unenforced(schema)


def _infer_type(schema: dict[str, Any]) -> None:
    """Give a schema without a type that of its keywords, as Ollama does: xgrammar would take any value."""
    if any(key in schema for key in ("type", "enum", "const", "anyOf", "$ref")):
        return
    kinds = [kind for kind, keys in _KINDS.items() if any(key in schema for key in keys)]
    if schema.get("format") in FORMATS | IN_ASCII.keys() and "string" not in kinds:
        kinds.append("string")
    if "string" in kinds or "number" in kinds:
        schema["type"] = kinds if len(kinds) > 1 else kinds[0]


def _settle_range(schema: dict[str, Any]) -> None:
    """Write the bounds of a number with as many digits as xgrammar reads."""
    keys = [key for key in (*_LOW, *_HIGH) if _is_number(schema.get(key))]
    for key in keys:
        if not math.isfinite(schema[key]):
            report(key)
            del schema[key]
        elif _is_integer(schema) and abs(schema[key]) > _MAX_INTEGER and (schema[key] > 0) is (key in _HIGH):
            # Shorter numbers do; another bound takes its place.
            del schema[key]
            _tighten(schema, "maximum" if key in _HIGH else "minimum", MAX_NUMBER if key in _HIGH else -MAX_NUMBER)
        elif _is_integer(schema) and schema[key] != math.floor(schema[key]):
            bound = schema.pop(key)
            if key in _LOW:
                _tighten(schema, "minimum", math.ceil(bound))
            else:
                _tighten(schema, "maximum", math.floor(bound))
    if _is_narrow(schema):
        for key in keys:
            report(f"{key} with more than six decimals")
            schema.pop(key, None)
    for key in keys:
        bound = schema.get(key)
        if isinstance(bound, float) and round(bound, 6) != bound:
            outer = Decimal(repr(schema.pop(key))).quantize(_STEP, ROUND_FLOOR if key in _LOW else ROUND_CEILING)
            # Of numbers with six decimals, those above the cut bound are above the bound.
            _tighten(schema, "exclusiveMinimum" if key in _LOW else "exclusiveMaximum", float(outer))


def _tighten(schema: dict[str, Any], key: str, bound: float) -> None:
    """Set a bound, unless the schema has a tighter one."""
    present = schema.get(key, bound)
    schema[key] = (max if key in _LOW else min)(bound, present) if _is_number(present) else bound


def _is_narrow(schema: dict[str, Any]) -> bool:
    """Return whether no number with six decimals is in a range that has others."""
    lows, highs = ([(schema[key], key) for key in keys if _is_number(schema.get(key))] for keys in (_LOW, _HIGH))
    if _is_integer(schema) or not lows or not highs:
        return False
    (low, least), (high, most) = max(lows), min(highs)
    if low > high or (low == high and (least, most) != ("minimum", "maximum")) or abs(low) > 1 or abs(high) > 1:
        return False
    first = Decimal(repr(low)).quantize(_STEP, ROUND_CEILING)
    last = Decimal(repr(high)).quantize(_STEP, ROUND_FLOOR)
    first += _STEP if least == "exclusiveMinimum" and first == Decimal(repr(low)) else 0
    last -= _STEP if most == "exclusiveMaximum" and last == Decimal(repr(high)) else 0
    return first > last


def _close_range(schema: dict[str, Any]) -> None:
    """Give a number with one bound the other one, since xgrammar lets its digits go on without end."""
    lows, highs = ([schema[key] for key in keys if _is_number(schema.get(key))] for keys in (_LOW, _HIGH))
    if lows and not highs and max(lows) < MAX_NUMBER:
        schema["maximum"] = MAX_NUMBER
    if highs and not lows and min(highs) > -MAX_NUMBER:
        schema["minimum"] = -MAX_NUMBER


def _is_integer(schema: dict[str, Any]) -> bool:
    kinds = schema.get("type")
    return "integer" in kinds and "number" not in kinds if isinstance(kinds, list) else kinds == "integer"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _name_properties(schema: dict[str, Any]) -> None:
    """Write an object whose names are listed as one with these properties. xgrammar would require none of them."""
    names, properties = schema.get("propertyNames"), schema.get("properties", {})
    listed = names.get("enum") if isinstance(names, dict) else None
    if not isinstance(listed, list) or not isinstance(properties, dict) or "patternProperties" in schema:
        return
    further = schema.get("additionalProperties", True)
    listed = [name for name in listed if isinstance(name, str)]
    schema["properties"] = {
        **dict.fromkeys(properties, False),
        **{each: properties.get(each, further) for each in listed},
    }
    schema["additionalProperties"] = False
    del schema["propertyNames"]


def _require(schema: dict[str, Any]) -> None:
    """Give each required name of an object a property, without which xgrammar does not enforce it."""
    properties, kinds = schema.get("properties", {}), schema.get("type")
    is_object = kinds == "object" or (isinstance(kinds, list) and "object" in kinds) or "properties" in schema
    if not is_object or not isinstance(properties, dict) or not isinstance(schema.get("required"), list):
        return
    names = [name for name in schema["required"] if isinstance(name, str) and name not in properties]
    further = schema.get("additionalProperties", True)
    if names and (further is False or "patternProperties" in schema or "propertyNames" in schema):
        report("required without a property")
    elif names:
        if "properties" not in schema:
            # An object without properties takes any, and goes on to do so.
            schema["additionalProperties"] = further
        schema["properties"] = {**properties, **dict.fromkeys(names, further)}


def _open(schema: dict[str, Any], size: _Size) -> None:
    """Let a list or an object of a bounded size have parts of which the schema says nothing.

    xgrammar takes such a schema as closed: it makes every list of up to three values empty, and refuses one of three.
    """
    kinds, named = schema.get("type"), schema.get(size.named)
    least, most = schema.get(size.least), schema.get(size.most)
    if size.kind not in (kinds if isinstance(kinds, list) else [kinds]) or (least is None and most is None):
        return
    count = len(named) if isinstance(named, (list, dict)) else 0
    if not any(key in schema for key in size.further) and (not count or count < (least or 0)):
        schema[size.further[0]] = True
    if isinstance(named, list) and most is not None:
        schema[size.named] = named[:most]


def _drop_unenforced(schema: dict[str, Any]) -> None:
    dropped = {key for key in UNENFORCED if key in schema}
    settle_text(schema)
    if "patternProperties" in schema and "properties" in schema:
        dropped.add("patternProperties")
    if "propertyNames" in schema and ("properties" in schema or "patternProperties" in schema):
        dropped.add("propertyNames")
    for key in _LENGTHS:
        if isinstance(schema.get(key), int) and schema[key] > MAX_LENGTH:
            dropped.add(key)
    for key in dropped:
        report(key)
        del schema[key]
