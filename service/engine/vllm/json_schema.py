"""Turns a client's JSON schema into one that xgrammar enforces, within bounds.

A keyword that can't be enforced is an annotation, as JSON Schema has it for unknown formats (Validation, section 7)
and as Ollama treats it; the log names it once.
"""

from __future__ import annotations

import json
from typing import Any

from .schema_bounds import MAX_BYTES, MAX_DEPTH, SchemaCounts
from .schema_intersection import fitting
from .schema_keywords import settle
from .schema_merging import ImpossibleError, Merging, Path
from .schema_references import References
from .schema_reports import fail, report

# Properties and values that merging repeats count too, but the rest of a schema does not.
MAX_MERGED_BYTES = 2 * MAX_BYTES

_DEFINITIONS = ("$defs", "definitions")
_MAPS = ("properties", "patternProperties", *_DEFINITIONS)
_LISTS = ("anyOf", "prefixItems")
_SINGLES = ("items", "additionalProperties", "unevaluatedProperties", "unevaluatedItems", "propertyNames")


def enforceable(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema as xgrammar takes it. Raises BadRequest, which names the keyword and its place."""
    try:
        size = len(json.dumps(schema))
        if size > MAX_BYTES:
            fail("#", f"has {size} bytes, and may have {MAX_BYTES}")
        converted = _Schema(schema).converted()
        size = len(json.dumps(converted))
    except RecursionError:
        fail("#", f"is nested more than {MAX_DEPTH} deep")
    if size > MAX_MERGED_BYTES:
        fail("#", f"has {size} bytes when its parts are merged, and may have {MAX_MERGED_BYTES}")
    return converted


class _Schema:
    """One schema, and what has been counted in it so far."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._references = References(root)
        self._merging = Merging(self._references)
        self._counts = SchemaCounts()

    def converted(self) -> dict[str, Any]:
        converted = self._convert(self._root, "#", 0, frozenset())
        if not isinstance(converted, dict):
            fail("#", "no value fits it")
        for name, place, schema in self._references.unread():
            definitions = converted.get("$defs")
            definition = self._convert(schema, place, 0, frozenset())
            converted["$defs"] = {**(definitions if isinstance(definitions, dict) else {}), name: definition}
        return converted

    def _convert(self, schema: Any, place: str, depth: int, path: Path) -> Any:
        """Return a schema in xgrammar's terms; False when no value fits it."""
        if not isinstance(schema, dict):
            return schema
        if depth > MAX_DEPTH:
            fail(place, f"is nested more than {MAX_DEPTH} deep")
        try:
            converted, path = self._merging.as_one(schema, place, path)
        except ImpossibleError:
            return False
        if "$ref" in converted:
            self._references.check(converted["$ref"], f"{place}/$ref")
            converted["$ref"] = self._references.plain(converted["$ref"], f"{place}/$ref")
        # Where no constant has the type, the constants decide: some clients write numbers in a list of texts.
        converted = fitting(converted) or converted
        if converted.get("anyOf") == []:
            fail(place, "anyOf and oneOf must hold a schema")
        settle(converted)
        converted = self._merging.spread(converted)
        self._counts.check(converted, place)
        self._convert_below(converted, place, depth + 1, path)
        return converted if _drop_impossible(converted, place) else False

    def _convert_below(self, schema: dict[str, Any], place: str, depth: int, path: Path) -> None:
        for key in _MAPS:
            if isinstance(schema.get(key), dict):
                below: Path = frozenset() if key in _DEFINITIONS else path
                schema[key] = {
                    name: self._convert(each, f"{place}/{key}/{name}", depth, below)
                    for name, each in schema[key].items()
                }
        for key in _LISTS:
            if isinstance(schema.get(key), list):
                schema[key] = [
                    self._convert(each, f"{place}/{key}/{number}", depth, path)
                    for number, each in enumerate(schema[key])
                ]
        for key in _SINGLES:
            if key in schema:
                schema[key] = self._convert(schema[key], f"{place}/{key}", depth, path)


def _drop_impossible(schema: dict[str, Any], place: str) -> bool:
    """Leave out what no value fits. Return whether a value fits the rest."""
    if isinstance(branches := schema.get("anyOf"), list) and False in branches:
        schema["anyOf"] = [branch for branch in branches if branch is not False]
        if not schema["anyOf"]:
            return False
    properties = schema.get("properties")
    if isinstance(properties, dict) and (impossible := [name for name, each in properties.items() if each is False]):
        if isinstance(required := schema.get("required"), list) and any(name in required for name in impossible):
            return False
        if schema.get("additionalProperties", False) is not False:
            report("a property that no value fits beside additionalProperties")
        schema["properties"] = {name: each for name, each in properties.items() if each is not False}
    return True
