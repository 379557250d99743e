"""Finds the place in a JSON schema of what xgrammar refuses: its own messages name none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

# Each try compiles a part of the schema. The search ends at the last place that it has found by then.
MOST_TRIES = 200
# Keywords whose values are schemas by name, lists of schemas, and schemas. Parts that others refer to come first.
_MAPS = ("$defs", "definitions", "properties", "patternProperties")
_LISTS = ("prefixItems", "items", "anyOf", "oneOf", "allOf")
_SINGLES = ("items", "additionalItems", "additionalProperties", "unevaluatedProperties", "propertyNames")


def place_of_fault(schema: Any, complaint: Callable[[Any], str | None]) -> str:
    """Return a JSON pointer to the smallest part of the schema with the same complaint as the whole.

    `complaint` returns why a schema is refused, None for one that is taken.
    """
    reason, shared = complaint(schema), _shared(schema)
    place, left = "#", MOST_TRIES
    part = schema
    while left > 0:
        for below, each in _parts(part):
            left -= 1
            # Only what the part refers to comes from outside of it.
            if complaint({**shared, **each} if isinstance(each, dict) else each) == reason:
                place, part = place + below, each
                break
            if left <= 0:
                break
        else:
            return place
    return place


def _shared(schema: Any) -> dict[str, Any]:
    return {key: schema[key] for key in ("$defs", "definitions") if isinstance(schema, dict) and key in schema}


def _parts(schema: Any) -> Iterator[tuple[str, Any]]:
    """Yield the schemas directly below a schema, each with the end of its place."""
    if not isinstance(schema, dict):
        return
    for key in _MAPS:
        if isinstance(schema.get(key), dict):
            yield from ((f"/{key}/{name}", each) for name, each in schema[key].items())
    for key in _LISTS:
        if isinstance(schema.get(key), list):
            yield from ((f"/{key}/{number}", each) for number, each in enumerate(schema[key]))
    for key in _SINGLES:
        if key in schema and not isinstance(schema[key], list):
            yield f"/{key}", schema[key]
